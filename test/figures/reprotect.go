package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/stage"
)

// reprotect measures the way back after 1 % of a 2 GiB disk was overwritten at
// random, and after the same bytes of a disk four times as large.
func reprotect(ctx context.Context, l *bench) error {
	for _, size := range []int64{2 << 30, 8 << 30} {
		if err := reprotectOf(ctx, l, size); err != nil {
			return err
		}
	}
	return nil
}

func reprotectOf(ctx context.Context, l *bench, size int64) error {
	st, err := l.build(ctx, stage.Options{DiskSize: size, Churn: -1, Gap: time.Second}, homeward.Policy{MinInterval: 200 * time.Millisecond}, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.Lose(ctx, st.Home); err != nil {
		return err
	}
	if err := st.Item.FailOver(ctx, homeward.Position{}); err != nil {
		return err
	}
	if err := off(ctx, st, st.Away); err != nil {
		return err
	}
	const blocks = (2 << 30) / 100 / homeward.BlockSize
	if err := scatter(ctx, st, size, blocks); err != nil {
		return err
	}
	began := time.Now()
	if err := st.Item.Commit(ctx); err != nil {
		return err
	}
	commit := time.Since(began)
	if err := st.Restore(ctx, st.Home); err != nil {
		return err
	}
	took, err := st.Item.Reprotect(ctx)
	if err != nil {
		return err
	}
	proof, err := st.Item.Prove(ctx)
	if err != nil {
		return err
	}
	l.say("  %d GiB: predicted %d, dirty %d, wire %d bytes: %.3f of dirty; full reads %d; commit %v, reprotect %.2f s; equal %t\n", size>>30,
		took.Estimate.Bytes, took.Sent.DirtyBytes, took.WireBytes, float64(took.WireBytes)/float64(took.Sent.DirtyBytes), took.FullReads,
		commit.Round(time.Millisecond), took.Seconds, proof.Equal)
	return nil
}

// scatter writes blocks that do not compress at random places of the first disk.
func scatter(ctx context.Context, st *stage.Stage, size, blocks int64) error {
	c, _, err := export(ctx, st, st.Away)
	if err != nil {
		return err
	}
	buf, content := make([]byte, homeward.BlockSize), rand.NewChaCha8([32]byte{2})
	for range blocks {
		_, _ = content.Read(buf) // never fails
		if _, err := c.WriteAt(buf, rand.Int64N(size/homeward.BlockSize)*homeward.BlockSize); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return err
	}
	return c.Close()
}
