package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Resync makes a protected item's map whole again after the running side could not
// tell exactly what was written (a power loss, a damaged map): blocks that are
// suspect are compared by digest and those that differ travel. Until then no point
// is made. It returns when one is. FullReads are the bytes read on both sides; an
// item whose map is whole is left alone.
func (it *Item) Resync(ctx context.Context) (fullReads int64, err error) {
	if err := it.require("resync", Protected); err != nil {
		return 0, err
	}
	id := homeward.ItemRequest{Item: it.ID()}
	report, err := it.Running.Agent.Report(ctx, id)
	if err != nil || report.Complete {
		return 0, err
	}
	err = it.step(ctx, "compare suspect ranges", func(tell func(homeward.Progress)) error {
		set := it.noDifferences()
		changes, err := it.Running.Agent.Changes(ctx, id)
		if err == nil {
			err = set.add(changes, func(d *diskDifferences) *block.Map { return d.since })
		}
		if err != nil {
			return err
		}
		found, read, err := it.compareSuspects(ctx, set, tell)
		fullReads = read
		if err != nil {
			return err
		}
		return it.mark(ctx, found, true, read)
	})
	if err != nil {
		return fullReads, err
	}
	return fullReads, it.step(ctx, "make a point", func(func(homeward.Progress)) error {
		_, err := it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash})
		return err
	})
}
