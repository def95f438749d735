package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// check holds the world against the invariants, with the guest paused.
func (k *walker) check() {
	k.t.Helper()
	ctx, cancel := k.context()
	defer cancel()
	// A role may die amid a check too, by a fuse of an earlier step.
	for {
		before := k.deaths()
		err := k.settle(ctx)
		if err == nil {
			err = k.checkAll(ctx)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil || !homeward.Retryable(err) && before == k.deaths() {
			k.fatal("after %q: %v", k.steps[len(k.steps)-1], err)
		}
	}
	if err := k.w.Err(); err != nil {
		k.fatal("after %q: %v", k.steps[len(k.steps)-1], err)
	}
}

func (k *walker) checkAll(ctx context.Context) error {
	g := k.guest()
	if g == nil { // a site lost power just now
		return homeward.Errorf("check", homeward.Unavailable, string(k.it.ID()), "", "its machine does not run")
	}
	if err := g.Pause(ctx); err != nil {
		return errors.Join(err, g.Err())
	}
	err := k.checkLaw(ctx, g)
	if err == nil {
		err = k.checkPoints(ctx)
	}
	if err == nil {
		err = k.checkStale(ctx)
	}
	g.Write()
	if err != nil && g.Ended() && g.Err() == nil { // its host lost power amid the check
		return homeward.Errorf("check", homeward.Unavailable, string(k.it.ID()), "", "its machine ended: %v", err)
	}
	return err
}

// maps are the blocks of a machine's disks that some roles say may differ.
type maps []*block.Map

func newMaps(m homeward.Machine) (list maps) {
	for _, d := range m.Disks {
		list = append(list, block.NewMap(d.Blocks()))
	}
	return list
}

func (m maps) add(c homeward.Changes) error {
	for i, d := range c.Disks {
		for _, data := range [][]byte{d.Changed, d.Suspect} {
			if len(data) == 0 {
				continue
			}
			more, err := block.UnmarshalMap(data, m[i].Blocks())
			if err != nil {
				return err
			}
			m[i].Or(more)
		}
	}
	return nil
}

// all makes every block one that may differ: nobody can tell.
func (m maps) all() {
	for _, d := range m {
		d.Set(0, d.Blocks())
	}
}

func (m maps) bytes() (n int64) {
	for _, d := range m {
		n += d.Count() * block.Size
	}
	return n
}

// cover tells which block differs though no map has it.
func (m maps) cover(a, b [][]byte) error {
	for d := range m {
		for n := range m[d].Blocks() {
			from, to := n*block.Size, min((n+1)*block.Size, int64(len(a[d])))
			if !m[d].Has(n) && !bytes.Equal(a[d][from:to], b[d][from:to]) {
				return fmt.Errorf("disk %d block %d differs and is in no map: %s, %s", d, n, describe(a[d][from:to]), describe(b[d][from:to]))
			}
		}
	}
	return nil
}

func describe(p []byte) string {
	s := ""
	for i := 0; i < len(p); i += world.SectorSize {
		s += fmt.Sprintf(" %d", world.WriteOf(p[i:]))
	}
	return "writes" + s
}

// changesOf are an agent's maps; known is false when it knows nothing of the item.
func (k *walker) changesOf(ctx context.Context, side *recovery.Side, into maps) (known bool, err error) {
	c, err := side.Agent.Changes(ctx, k.id())
	if homeward.KindOf(err) == homeward.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, into.add(c)
}

// uncompared is what the item's record alone says may differ.
func (k *walker) uncompared(into maps) error {
	for _, list := range []*recovery.Unfinished{&k.it.List, k.it.Interrupted} {
		if err := into.add(homeward.Changes{Disks: list.Uncompared()}); err != nil {
			return err
		}
	}
	return nil
}

// replicating reports whether deltas bring the standby side towards the running one.
func (k *walker) replicating() bool {
	return k.it.State == recovery.Protected || k.it.State == recovery.Synchronizing
}

// difference is the union of maps that the next reprotect, or the replication that
// runs, will use.
func (k *walker) difference(ctx context.Context) (maps, error) {
	set := newMaps(k.it.Machine)
	if err := k.uncompared(set); err != nil {
		return set, err
	}
	if k.replicating() {
		known, err := k.changesOf(ctx, k.it.Running, set)
		if err == nil && !known {
			err = fmt.Errorf("the running side's agent does not know the item")
		}
		return set, err
	}
	newSide, oldSide := k.it.Running, k.it.Standby
	if k.it.State == recovery.FailedOver {
		newSide, oldSide = oldSide, newSide
	}
	diverged, err := newSide.Target.Diverged(ctx, k.id())
	if err != nil {
		return set, err
	}
	if err := set.add(diverged); err != nil {
		return set, err
	}
	if _, err := k.changesOf(ctx, newSide, set); err != nil {
		return set, err
	}
	known, err := k.changesOf(ctx, oldSide, set)
	if !known {
		set.all()
	}
	return set, err
}

// checkLaw is I-0: what really differs is in the maps.
func (k *walker) checkLaw(ctx context.Context, g *world.Guest) error {
	other := k.standby()
	if k.it.State == recovery.FailedOver {
		other = k.running()
	}
	// While deltas are applied the two sides converge, so the maps are read first.
	// Before, an old side may still be written, but nothing converges: maps grow.
	var media [][]byte
	if !k.replicating() {
		media = k.w.Media(other, k.it.Machine)
	}
	set, err := k.difference(ctx)
	if err != nil {
		return fmt.Errorf("read maps: %w", err)
	}
	if media == nil {
		media = k.w.Media(other, k.it.Machine)
	}
	now, err := g.Read(ctx)
	if err != nil {
		return err
	}
	if err := world.Between(k.w.Clock.Tick(), k.w.Clock.Tick(), g.Timeline.Observe(now)); err != nil {
		return fmt.Errorf("the guest reads what it did not write: %w", err)
	}
	if err := set.cover(now, media); err != nil {
		return fmt.Errorf("I-0 is broken between the running copy and the disks at %s: %w", other.Name, err)
	}
	if k.it.State != recovery.FailedOver {
		return nil
	}
	// The failover may be cancelled: then the old side goes on with its own map.
	old := newMaps(k.it.Machine)
	known, err := k.changesOf(ctx, k.it.Running, old)
	if err != nil || !known {
		return fmt.Errorf("the old side's map is gone: %w", err)
	}
	// The old side's disks may be written by a guest there; its map only grows, so it
	// is read last.
	media = k.w.Media(k.running(), k.it.Machine)
	if _, err := k.changesOf(ctx, k.it.Running, old); err != nil {
		return err
	}
	if err := k.uncompared(old); err != nil {
		return err
	}
	if err := old.cover(media, k.w.Media(k.standby(), k.it.Machine)); err != nil {
		return fmt.Errorf("I-0 is broken between old side and replica: %w", err)
	}
	return nil
}

// checkPoints holds new points, and one that is known, against the lives they are of.
func (k *walker) checkPoints(ctx context.Context) error {
	side := k.it.Standby
	if k.it.State == recovery.Committed {
		side = k.it.Running // its target keeps the points up to the one it runs from
	}
	list, err := side.Target.Points(ctx, k.id())
	if err != nil {
		return err
	}
	if len(list.Points) == 0 {
		return errors.New("there is no bootable point")
	}
	looks := k.pointsAtOnce()
	for _, i := range k.rng.Perm(len(list.Points)) {
		p := list.Points[i]
		if i > 0 && p.At.Before(list.Points[i-1].At) {
			return fmt.Errorf("point %v is older than the one before it", p.Position)
		}
		if looks--; looks < 0 {
			continue
		}
		if _, err := k.w.CheckPoint(ctx, side, k.it.ID(), p); err != nil {
			if homeward.KindOf(err) == homeward.NotFound {
				continue // thinned just now
			}
			return err
		}
	}
	if k.it.State != recovery.Protected {
		return nil
	}
	newest := list.Points[len(list.Points)-1]
	seen, err := k.w.CheckPoint(ctx, side, k.it.ID(), newest)
	if err != nil {
		return err
	}
	if newest.Position.Sequence == 0 {
		return nil
	}
	if newest.Position.Generation != k.it.Generation {
		return nil
	}
	if err := world.Between(k.since, k.w.Clock.Tick(), seen); err != nil {
		return fmt.Errorf("the newest point is older than one that was acknowledged: %w", err)
	}
	return nil
}

// pointsAtOnce is how many points are looked at after a step: some 16 MiB of them.
func (k *walker) pointsAtOnce() int {
	size := int64(1)
	for _, d := range k.it.Machine.Disks {
		size += d.Size
	}
	return int(min(6, 1+16<<20/size))
}

// checkStale resumes guests of older generations for a moment.
func (k *walker) checkStale(ctx context.Context) error {
	for _, s := range k.stale {
		if !s.fenced {
			continue
		}
		before := s.guest.Done()
		s.guest.Write()
		if err := s.guest.Pause(ctx); err != nil {
			return err
		}
		if after := s.guest.Done(); after != before {
			return fmt.Errorf("a guest of an older generation at %s wrote: %d writes were answered", s.side, after-before)
		}
	}
	return nil
}
