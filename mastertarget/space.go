package mastertarget

import (
	"context"
	"slices"
	"syscall"

	"github.com/homeward-dr/homeward"
)

// Space rules, when the retention volume runs out:
//
//  1. unpinned points go, the oldest first, down to the newest: those before the
//     first pinned one at once, those behind it as far as there is room to merge;
//  2. scratch views go, with what was written to them;
//  3. deltas are refused until there is room: the guest at the other side is not
//     touched, its RPO grows.
//
// The volume-low alarm comes first, at twice the reserve. What people hold never
// breaks. SpaceReserve stays free for one undo and one merge.

const defaultReserve = 64 << 20

// slack is what a segment takes besides the bytes it holds: header, heads, index.
const slack = 1 << 20

func freeBytes(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, homeward.Errorf("measure free space", homeward.IO, dir, "check that the retention volume is mounted", "%w", err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

func (st state) reserve() int64 {
	if st.Leg.Reserve == 0 {
		return defaultReserve
	}
	return st.Leg.Reserve
}

// room makes room for an item on the retention volume.
type room struct{ *item }

// makeRoom sees to it that an undo of some bytes fits beside the reserve.
func (it room) makeRoom(ctx context.Context, bytes int64) error {
	free, err := it.free()
	if err != nil {
		return err
	}
	missing := bytes + slack + it.state().reserve() - free
	if missing <= 0 || it.prune(ctx, missing) >= missing {
		return nil
	}
	if free, err = it.free(); err != nil || free >= bytes+slack+it.state().reserve() {
		return err
	}
	return it.noRoom(homeward.Errorf("keep undo", homeward.NoSpace, it.on, "",
		"%d bytes are free, %d are needed and %d are the reserve", free, bytes+slack, it.state().reserve()))
}

// noRoom says what to do about a full volume.
func (it room) noRoom(err error) error {
	return homeward.Errorf("apply delta", homeward.NoSpace, it.subject(),
		"enlarge the retention volume, unpin points, or shorten retention; replication goes on by itself then",
		"no room to keep what the delta overwrites: %w", err)
}

// prune frees room by rules 1 and 2 and tells how much, at least what it wants if
// it can. The caller holds the turn.
func (it room) prune(ctx context.Context, want int64) (freed int64) {
	st := it.state()
	list := it.points()
	merged, pinned := 0, false
	before := st.replica.chain.Bytes()
	gone := map[uint64]bool{}
	for i, p := range list {
		if freed >= want || i == len(list)-1 || merged == mergesPerRound { // the delta comes again
			break
		}
		if len(p.Pins) > 0 || st.keeps(p.boundary) {
			pinned = true
			continue
		}
		gone[p.boundary] = true
		var err error
		if pinned {
			merged++
			err = it.mergeAway(ctx, st, gone)
		} else {
			err = st.replica.chain.DropOlder(list[i+1].boundary)
		}
		if err != nil {
			it.Log.Error("pruning stopped", "item", it.id, "err", err)
			break
		}
		freed = before - st.replica.chain.Bytes()
	}
	if dropped := len(list) - len(it.points()); dropped > 0 {
		it.Log.Warn("points dropped: the retention volume is full", "item", it.id, "points", dropped, "bytes", freed)
	}
	if freed >= want {
		return freed
	}
	return freed + it.dropScratch(ctx)
}

// mergeAway drops points behind a pinned one.
func (it room) mergeAway(ctx context.Context, st state, gone map[uint64]bool) error {
	it.quiet()
	defer it.thinning.Unlock()
	return thinner{it.item}.thinTo(ctx, st, gone)
}

// dropScratch closes the scratch views.
func (it room) dropScratch(ctx context.Context) (freed int64) {
	it.mu.Lock()
	var names []string
	for name, v := range it.views {
		if v.Kind == homeward.ViewScratch {
			names = append(names, name)
			freed += v.overlayBytes()
		}
	}
	it.mu.Unlock()
	if len(names) == 0 {
		return 0
	}
	it.Log.Warn("scratch views dropped: the retention volume is full", "item", it.id, "views", names)
	if err := it.closeViews(ctx, func(v *view) bool { return slices.Contains(names, v.Name) }); err != nil {
		it.Log.Error("closing scratch views", "item", it.id, "err", err)
		return 0
	}
	return freed
}
