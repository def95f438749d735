package capture

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// The budget is used up while the spill hangs: the guest goes on, the cut does not (I-3).
func TestHangingSpill(t *testing.T) {
	r := newRig(t, 1<<20)
	r.kill()
	r.cfg.CacheBytes = 8 * block.Size
	r.open()
	until := make(chan struct{})
	r.fs.Hang(powerloss.OpWrite, "spill", 0, until)
	r.fill(0, 0, 64, 'a')
	c := r.cut(CutOptions{})
	for at := range int64(64) {
		r.fill(0, at, 1, 'b') // hangs the test if it waits for the spill
	}
	<-c.Done()
	if err := c.ReadBlocks(0, 0, 1, make([]byte, block.Size)); !errors.Is(err, ErrDemoted) {
		t.Errorf("reading a demoted cut: %v", err)
	}
	if err := c.Spooled(); !errors.Is(err, ErrDemoted) {
		t.Errorf("releasing a demoted cut: %v", err)
	}
	if s := r.Stats(); s.Demotions != 1 || s.CacheBytes != 0 {
		t.Errorf("after the demotion: %+v", s)
	}
	next := r.cut(CutOptions{})
	wantRuns(t, "the next cut has all of the demoted one", next.Map(0), block.Run{Start: 0, Count: 64})
	close(until)
}

// A spill that fails or is full leaves the memory, and then the cut goes.
func TestFailingSpill(t *testing.T) {
	for name, prepare := range map[string]func(r *rig){
		"error": func(r *rig) { r.fs.Fail(powerloss.OpWrite, "spill", 0, syscall.EIO) },
		"full":  func(r *rig) { r.cfg.SpillBytes = 4 * block.Size },
		"none":  func(r *rig) { r.cfg.SpillBytes = -1 },
		"open":  func(r *rig) { r.fs.Fail(powerloss.OpOpen, "spill", 0, syscall.EACCES) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1<<20)
			r.kill()
			r.cfg.CacheBytes = 8 * block.Size
			prepare(r)
			r.open()
			r.fill(0, 0, 64, 'a')
			c := r.cut(CutOptions{})
			r.fill(0, 0, 64, 'b')
			<-c.Done()
			wantRuns(t, "dirty", r.Dirty(0), block.Run{Start: 0, Count: 64})
		})
	}
}

// Copies move to the spill file and are read from there, by parts as they ship.
func TestSpill(t *testing.T) {
	synctest.Test(t, spillAndRead)
}

func spillAndRead(t *testing.T) {
	r := newRig(t, 4<<20)
	r.kill()
	r.cfg.CacheBytes = 64 * block.Size
	r.open()
	const n = 512
	for at := range int64(n) {
		r.fill(0, at, 1, byte(at)) // every 256th is zeroes
	}
	c := r.cut(CutOptions{})
	for at := range int64(n) {
		r.fill(0, at, 1, 'x')
		synctest.Wait() // for the spill
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	if r.Stats().SpillBytes == 0 {
		t.Error("nothing was spilled")
	}
	for at := range int64(n) {
		if got := r.frozen(c, 0, at); !bytes.Equal(got, pattern(1, byte(at))) {
			t.Fatalf("block %d is %d", at, got[0])
		}
	}
	c.Shipped(0, 0, n-1)
	if s := r.Stats(); s.SpillBytes+s.CacheBytes > block.Size {
		t.Errorf("shipped copies are kept: %+v", s)
	}
	r.must(c.Spooled())
	if s := r.Stats(); s.SpillBytes+s.CacheBytes > 0 {
		t.Errorf("copies outlive the cut: %+v", s)
	}
	r.must(r.Close(context.Background()))
}

// Frozen content is read while it is overwritten, again and again, by many.
func TestReadingAgainstOverwriting(t *testing.T) {
	r := newRig(t, 8<<20)
	const blocks = 600
	for round := range 8 {
		r.fill(0, 0, blocks, byte(round))
		c := r.cut(CutOptions{Whole: round%2 == 0})
		var guests sync.WaitGroup
		for g := range int64(4) {
			guests.Go(func() {
				p := pattern(3, 'x')
				for at := g; at < blocks; at += 4 {
					if _, err := r.Disk(0).WriteAt(p, at*block.Size+512); err != nil {
						t.Error(err)
					}
				}
			})
		}
		want := pattern(1, byte(round))
		for at := blocks - 1; at >= 0; at-- {
			if got := r.frozen(c, 0, int64(at)); !bytes.Equal(got, want) {
				t.Errorf("round %d: block %d has content of after the cut", round, at)
				break
			}
			c.Shipped(0, int64(at), 1)
		}
		guests.Wait()
		r.must(c.Demote())
	}
}
