package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
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
		fullReads, err = it.makeWhole(ctx, it.noDifferences(), 0, tell)
		return err
	})
	if err != nil {
		return fullReads, err
	}
	return fullReads, it.step(ctx, "make a point", func(func(homeward.Progress)) error {
		_, err := it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash})
		return err
	})
}

// comparisons is how often suspect blocks are compared before the operation is
// given up, because more became suspect each time.
const comparisons = 5

// makeWhole compares what is suspect, in the set and at the running side, marks
// what differs, and says that the map is whole. What becomes suspect meanwhile, by
// a power loss amid it, is compared as well. It returns the bytes read, those
// that were read before included.
func (it *Item) makeWhole(ctx context.Context, set *differences, before int64, tell func(homeward.Progress)) (fullReads int64, err error) {
	fullReads = before
	told := int64(0)
	for range comparisons {
		now, err := it.Running.Agent.Changes(ctx, homeward.ItemRequest{Item: it.ID()})
		if err == nil {
			err = set.refresh(now)
		}
		if err == nil {
			err = it.settle(ctx, set)
		}
		if err != nil {
			return fullReads, err
		}
		found, read, err := it.compareSuspects(ctx, set, tell)
		fullReads += read
		if err == nil {
			err = it.mark(ctx, homeward.MarkRequest{Disks: found, Complete: true, Suspects: now.Suspects, FullReads: fullReads - told})
		}
		if homeward.KindOf(err) != homeward.Conflict {
			return fullReads, err
		}
		told = fullReads
	}
	return fullReads, homeward.Errorf("compare suspect ranges", homeward.Conflict, "item "+string(it.ID()),
		"see why the running side loses its map, then run it again", "blocks became suspect each of %d times they were compared", comparisons)
}

// settle waits until the replica has applied what was on its way to it. A delta
// from before a power loss may still bring a suspect block's lost content: found
// equal before that, the block would differ after it and be in no map.
func (it *Item) settle(ctx context.Context, set *differences) error {
	if !set.suspects() {
		return nil
	}
	id := homeward.ItemRequest{Item: it.ID()}
	route, err := it.Running.Process.Report(ctx, id)
	if err != nil {
		return err
	}
	spooled := route.Standing.Spooled
	if spooled.Generation != it.Generation {
		return nil // nothing of this leg
	}
	return poll(ctx, func() (bool, error) {
		replica, err := it.taker().Target.Report(ctx, id)
		return replica.Applied.Generation == it.Generation && replica.Applied.Sequence >= spooled.Sequence, err
	})
}

func (s *differences) suspects() bool {
	for i := range s.disks {
		if s.disks[i].suspect.Count() > 0 {
			return true
		}
	}
	return false
}
