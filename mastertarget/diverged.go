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

// keepDiverged persists the blocks of everything after a boundary, and of what an
// earlier roll-back gave up, before anybody acts on giving them up (I-0). Steps
// without a mark and unfinished ones are in it: their undo is in the chain.
func (it divergences) keepDiverged(ctx context.Context, st state, g homeward.Generation, to tip) (*divergence, error) {
	d := &divergence{Dir: divergedDir(g), Since: to.Position, Newest: st.tip.Position}
	if st.RolledBack != nil {
		d.Newest = st.RolledBack.Newest
	}
	if err := it.FS.MkdirAll(it.path(d.Dir), 0o700); err != nil {
		return nil, err
	}
	for i, disk := range st.Leg.Machine.Disks {
		m := block.NewMap(disk.Blocks())
		if err := st.replica.chain.Since(ctx, i, to.Boundary, m); err != nil {
			return nil, err
		}
		if st.RolledBack != nil {
			earlier, err := it.readMap(st.RolledBack, i, m.Blocks())
			if err != nil {
				return nil, err
			}
			m.Or(earlier)
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

// diverged answers with the persisted maps. Those of a map that cannot be read
// are suspect as a whole, with the reason: unknown is never absent.
func (it divergences) diverged() (homeward.Changes, error) {
	st := it.state()
	if st.State == "" {
		return homeward.Changes{}, it.unknown("read diverged blocks")
	}
	c := homeward.Changes{Item: it.id, Generation: it.fence.generation(), Since: st.tip.Position}
	if st.Diverged != nil {
		c.Since, c.Pending = st.Diverged.Since, []homeward.Position{st.Diverged.Newest}
	}
	for i, disk := range st.Leg.Machine.Disks {
		d := homeward.DiskChanges{Disk: disk.ID}
		m := block.NewMap(disk.Blocks())
		var err error
		if st.Diverged != nil {
			m, err = it.readMap(st.Diverged, i, disk.Blocks())
		}
		if err != nil {
			all := block.NewMap(disk.Blocks())
			all.Set(0, all.Blocks())
			d.Reasons = []string{"the map of diverged blocks cannot be read: " + err.Error()}
			d.SuspectBytes = disk.Size
			d.Suspect, err = all.MarshalBinary()
		} else {
			d.ChangedBytes = min(m.Count()*block.Size, disk.Size)
			d.Changed, err = m.MarshalBinary()
		}
		if err != nil {
			return c, err
		}
		c.Disks = append(c.Disks, d)
	}
	return c, nil
}
