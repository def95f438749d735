package mastertarget

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

func divergedDir(g homeward.Generation) string { return fmt.Sprintf("diverged-%016x", g.Number) }

// divergences keeps what an item gave up.
type divergences struct{ *item }

// keep persists the blocks of everything after a point, before the replica stops
// being able to tell them (I-0): before a roll-back, and before a promotion.
// While a point is only failed over to, the chain tells them.
func (it divergences) keep(ctx context.Context, st state, g homeward.Generation, to tip) (*divergence, error) {
	d := &divergence{Dir: divergedDir(g), Since: to.Position, Newest: st.tip.Position}
	if st.RolledBack != nil {
		d.Newest = st.RolledBack.Newest
	}
	if err := it.FS.MkdirAll(it.path(d.Dir), 0o700); err != nil {
		return nil, err
	}
	for i := range st.Leg.Machine.Disks {
		m, err := it.collect(ctx, st, i, to.Boundary)
		if err != nil {
			return nil, err
		}
		data, err := m.MarshalBinary()
		if err != nil {
			return nil, err
		}
		if err := durable.WriteFile(it.FS, it.mapPath(d, i), data, 0o600); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// collect is the blocks of a disk after a boundary, and those that an earlier
// roll-back gave up. Steps without a mark and unfinished ones are in it: their
// undo is in the chain.
func (it divergences) collect(ctx context.Context, st state, disk int, boundary uint64) (*block.Map, error) {
	m := block.NewMap(st.Leg.Machine.Disks[disk].Blocks())
	if err := st.replica.chain.Since(ctx, disk, boundary, m); err != nil {
		return nil, err
	}
	if st.RolledBack != nil {
		earlier, err := it.readMap(st.RolledBack, disk, m.Blocks())
		if err != nil {
			return nil, err
		}
		m.Or(earlier)
	}
	return m, nil
}

func (it divergences) mapPath(d *divergence, disk int) string {
	return fmt.Sprintf("%s/%d", it.path(d.Dir), disk)
}

func (it divergences) readMap(d *divergence, disk int, blocks int64) (*block.Map, error) {
	data, err := durable.ReadFile(it.FS, it.mapPath(d, disk))
	if err != nil {
		return nil, err
	}
	m, err := block.UnmarshalMap(data, blocks)
	if err != nil {
		return nil, homeward.Wrap(err, "read diverged map", it.mapPath(d, disk))
	}
	if m.Blocks() == blocks {
		return m, nil
	}
	grown := block.NewMap(blocks)
	for run := range m.Runs(0) {
		grown.Set(run.Start, run.Count)
	}
	return grown, nil
}

// diverged answers with the maps. A map that cannot be had makes its whole disk
// suspect, with the reason: unknown is never absent.
func (it divergences) diverged(ctx context.Context) (homeward.Changes, error) {
	st, err := it.open("read diverged blocks")
	if err != nil {
		return homeward.Changes{}, err
	}
	c := homeward.Changes{Item: it.id, Generation: it.fence.generation(), Since: st.tip.Position}
	switch {
	case st.State == homeward.ReplicaFailedOver:
		c.Since, c.Pending = st.FailOver.Tip.Position, []homeward.Position{st.tip.Position}
	case st.Diverged != nil:
		c.Since, c.Pending = st.Diverged.Since, []homeward.Position{st.Diverged.Newest}
	}
	for i, disk := range st.Leg.Machine.Disks {
		d, err := changes(disk, func() (*block.Map, error) { return it.divergedMap(ctx, st, i) })
		if err != nil {
			return c, err
		}
		c.Disks = append(c.Disks, d)
	}
	return c, nil
}

func (it divergences) divergedMap(ctx context.Context, st state, disk int) (*block.Map, error) {
	blocks := st.Leg.Machine.Disks[disk].Blocks()
	switch {
	case st.State == homeward.ReplicaFailedOver:
		return it.collect(ctx, st, disk, st.FailOver.Tip.Boundary)
	case st.Diverged != nil:
		return it.readMap(st.Diverged, disk, blocks)
	}
	return block.NewMap(blocks), nil
}

// changes is the answer for one disk.
func changes(disk homeward.Disk, read func() (*block.Map, error)) (homeward.DiskChanges, error) {
	d := homeward.DiskChanges{Disk: disk.ID}
	m, err := read()
	if err != nil && homeward.KindOf(err) != homeward.Canceled && homeward.KindOf(err) != homeward.Timeout {
		d.Reasons = []string{"the map of diverged blocks cannot be read: " + err.Error()}
		m = block.NewMap(disk.Blocks())
		m.Set(0, m.Blocks())
		d.SuspectBytes = disk.Size
		d.Suspect, err = m.MarshalBinary()
		return d, err
	}
	if err == nil {
		d.ChangedBytes = min(m.Count()*block.Size, disk.Size)
		d.Changed, err = m.MarshalBinary()
	}
	return d, err
}
