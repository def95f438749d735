// Package sites is two sites on this machine with a protected machine, as figures of
// the way there and back need them: every role a process, the machine the built-in
// guest, driven without a vault.
package sites

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/stage"
)

// Pair is a protected machine at two sites, all roles being processes.
type Pair struct{ *stage.Stage }

// Raise builds both sites and protects the machine, after prepare (nil: nothing) has
// had the file of its first disk.
func Raise(ctx context.Context, b *measure.Bench, o stage.Options, p homeward.Policy, prepare func(disk string) error) (*Pair, error) {
	var err error
	if o.Dir, err = os.MkdirTemp(b.Dir, "s-"); err != nil {
		return nil, err
	}
	o.Executable, o.Guest = b.Binary, "builtin"
	st, err := stage.Build(ctx, o)
	if err != nil {
		return nil, err
	}
	t := &Pair{Stage: st}
	if err = st.Install(ctx); err == nil && prepare != nil {
		err = prepare(strings.TrimPrefix(st.Home.Side.Disks[0], "file:"))
	}
	if err == nil {
		st.Item = recovery.New(st.Machine(), p, st.Home.Side, st.Away.Side, slog.New(slog.DiscardHandler))
		err = st.Item.Protect(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, st.Logs())
		return nil, errors.Join(err, t.Strike())
	}
	return t, nil
}

// Strike ends everything and removes what was made.
func (t *Pair) Strike() error {
	t.Close()
	return os.RemoveAll(t.Dir)
}

// Request asks for the item.
func (t *Pair) Request() homeward.ItemRequest { return homeward.ItemRequest{Item: t.Item.ID()} }

// Vacate powers the machine off, so that a measuring client may have its disk.
func (t *Pair) Vacate(ctx context.Context, p *stage.Place) error {
	key := fmt.Sprintf("bench-%s-%d", p.Name, t.Item.Generation.Number)
	if _, err := p.Site.PowerOff(ctx, key, t.Item.Refs[p.Name], homeward.Stop{Graceful: true, Timeout: 10 * time.Second}); err != nil {
		return err
	}
	for {
		rep, err := p.Side.Agent.Report(ctx, t.Request())
		if err != nil || rep.Clients == 0 {
			return err
		}
		if err := Pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// Pause is the pace of asking.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Running waits until the machine at a place has checked its disks and written a
// record, and tells the newest one that it found. Its console is read from an
// offset on.
func (t *Pair) Running(ctx context.Context, p *stage.Place, from int64) (last uint64, err error) {
	c, err := t.Hear(ctx, p, from)
	if err != nil {
		return 0, err
	}
	defer c.Stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, err := c.Running(ctx)
	if err == nil && found.Bad > 0 {
		err = fmt.Errorf("the guest found its disks damaged: %d bad records below record %d", found.Bad, found.Last)
	}
	return found.Last, err
}

// Proved compares both sites' disks.
func (t *Pair) Proved(ctx context.Context) error {
	proof, err := t.Item.Prove(ctx)
	if err == nil && !proof.Equal {
		err = fmt.Errorf("the disks of the two sites differ")
	}
	return err
}

// URI is where the machine's first disk is exported at a place.
func (t *Pair) URI(ctx context.Context, p *stage.Place) (string, error) {
	rep, err := p.Side.Agent.Report(ctx, t.Request())
	if err != nil {
		return "", err
	}
	return rep.Disks[0].URI, nil
}
