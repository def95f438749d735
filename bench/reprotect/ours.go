package reprotect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/stage"
)

// The ways in which Homeward does it.
const (
	byMap    = "Homeward, by map"
	byDigest = "Homeward, by digest"
	inFull   = "Homeward, full copy"
)

// ours is a machine protected by Homeward, whose disks are the change's. It runs at
// home and replicates to away whenever no attempt is going on.
type ours struct {
	r    *rig
	st   *stage.Stage
	size int64 // of the disk
}

// protect makes it. Its disks are filled behind the back of both sites, which hold
// the same afterwards: what counts here is what is written later.
func (r *rig) protect(ctx context.Context, size int64) (_ *ours, err error) {
	o := &ours{r: r, size: size}
	o.st, err = stage.Build(ctx, stage.Options{Executable: r.b.Binary, Dir: filepath.Join(r.dir, "h"), Guest: "builtin", DiskSize: size,
		Network: r, Workload: []string{"/bin/sh", "-c", "exec sleep infinity"}}) // a machine that is on and does nothing
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, o.st.Logs())
			err = errors.Join(err, o.close())
		}
	}()
	if err := o.st.Install(ctx); err != nil {
		return nil, err
	}
	policy := homeward.Policy{MinInterval: 200 * time.Millisecond, Retention: []homeward.Tier{{For: time.Minute}}}
	o.st.Item = recovery.New(o.st.Machine(), policy, o.st.Home.Side, o.st.Away.Side, slog.New(slog.DiscardHandler))
	if err := o.st.Item.Protect(ctx); err != nil {
		return nil, err
	}
	return o, fill(ctx, r.b.Seed, size, o.disk(o.st.Home), o.disk(o.st.Away))
}

func (o *ours) close() error {
	o.st.Close()
	return os.RemoveAll(filepath.Join(o.r.dir, "h"))
}

// disk is where a site keeps the machine's disk.
func (o *ours) disk(p *stage.Place) string { return strings.TrimPrefix(p.Side.Disks[0], "file:") }

func pidsOf(p *stage.Place) (pids []int) {
	for _, prog := range p.Programs() {
		pids = append(pids, prog.PID())
	}
	return pids
}

// reprotect is one attempt: home is lost, the machine runs at away, and changes its
// disk there; home comes back and is to follow. With forgotten, home's agent knows
// nothing of the machine any more, so that nothing is known of what home wrote last.
func (o *ours) reprotect(ctx context.Context, c change, forgotten bool) (measure.Values, error) {
	v, err := o.attempt(ctx, c, forgotten)
	if err == nil {
		err = o.back(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, o.st.Logs())
	}
	return v, nil
}

func (o *ours) attempt(ctx context.Context, c change, forgotten bool) (measure.Values, error) {
	st := o.st
	if err := st.Lose(ctx, st.Home); err != nil {
		return nil, err
	}
	if err := st.Item.FailOver(ctx, homeward.Position{}); err != nil {
		return nil, err
	}
	// Before the commit: then a write is one write, and not the keeping of older points
	// too, which for so many at once would take longer than all the rest.
	if err := o.write(ctx, st.Away, c); err != nil {
		return nil, err
	}
	if err := st.Item.Commit(ctx); err != nil {
		return nil, err
	}
	if forgotten {
		if err := os.RemoveAll(filepath.Join(st.Home.Agent.Dir(), "items")); err != nil {
			return nil, err
		}
	}
	if err := st.Restore(ctx, st.Home); err != nil {
		return nil, err
	}
	var took recovery.Reversal
	v, err := o.r.take(ctx, pids{source: pidsOf(st.Away), target: pidsOf(st.Home)}, away, home, nil, func(*attempt) (err error) {
		took, err = st.Item.Reprotect(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := same(ctx, o.disk(st.Away), o.disk(st.Home)); err != nil {
		return nil, err
	}
	c.tell(v)
	v["search_bytes"] = float64(max(0, took.FullReads-o.sampled()))
	return v, nil
}

// sampled is what is read of all disks, on both sides, to check the maps: a constant.
func (o *ours) sampled() int64 {
	const blocks, sides = 64, 2
	return blocks * sides * homeward.BlockSize * int64(len(o.st.Machine().Disks))
}

// write changes the machine's disk at a place, as the machine would: over NBD.
func (o *ours) write(ctx context.Context, p *stage.Place, c change) error {
	rep, err := p.Side.Agent.Report(ctx, homeward.ItemRequest{Item: o.st.Item.ID()})
	if err != nil {
		return err
	}
	return writeNBD(ctx, rep.Disks[0].URI, c)
}

func writeNBD(ctx context.Context, uri string, c change) (err error) {
	disk, err := nbd.Dial(ctx, nbd.ClientOptions{URI: uri})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	if err := c.apply(ctx, disk); err != nil {
		return err
	}
	return disk.Flush()
}

// back brings the machine home again, protected towards away.
func (o *ours) back(ctx context.Context) error {
	if err := o.st.Item.FailOverPlanned(ctx, homeward.Position{}); err != nil {
		return err
	}
	if err := o.st.Item.Commit(ctx); err != nil {
		return err
	}
	_, err := o.st.Item.Reprotect(ctx)
	return err
}

// copy is an attempt without a copy at the target: protection begins anew, towards
// new disks. It goes from home to away.
func (o *ours) copy(ctx context.Context) (measure.Values, error) {
	v, err := o.anew(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, o.st.Logs())
	}
	return v, nil
}

func (o *ours) anew(ctx context.Context) (measure.Values, error) {
	st := o.st
	// Off first: a machine that runs would keep its disks behind the agent.
	if err := o.off(ctx, st.Home); err != nil {
		return nil, err
	}
	if _, err := st.Item.Disable(ctx, false); err != nil {
		return nil, err
	}
	for _, ref := range st.Away.Side.Disks {
		if err := os.Remove(strings.TrimPrefix(ref, "file:")); err != nil {
			return nil, err
		}
	}
	v, err := o.r.take(ctx, pids{source: pidsOf(st.Home), target: pidsOf(st.Away)}, home, away, nil, func(*attempt) error {
		return st.Item.Protect(ctx)
	})
	if err == nil {
		err = same(ctx, o.disk(st.Home), o.disk(st.Away))
	}
	if err != nil {
		return nil, err
	}
	changed(v, min(o.size, filled))
	return v, nil
}

// off powers the machine off at a place.
func (o *ours) off(ctx context.Context, p *stage.Place) error {
	op, err := p.Site.PowerOff(ctx, fmt.Sprintf("bench-off-%d", o.st.Item.Generation.Number), o.st.Item.Refs[p.Name], homeward.Stop{})
	tick := time.NewTicker(5 * time.Millisecond) // a local site has nothing to wait on but its answer
	defer tick.Stop()
	for err == nil && op.State == homeward.OperationRunning {
		select {
		case <-tick.C:
			op, err = p.Site.Operation(ctx, op.ID)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err == nil && op.State == homeward.OperationFailed {
		err = fmt.Errorf("power off: %s", op.Error)
	}
	return err
}
