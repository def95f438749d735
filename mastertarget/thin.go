package mastertarget

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/mastertarget/history"
)

// maxPoints bounds the points of an item, pinned ones aside.
const maxPoints = 1024

// mergesPerRound bounds the work of one thinning, so that one item's backlog does
// not keep the others waiting.
const mergesPerRound = 32

// keepThinning enforces retention on all items of a target until it closes.
func keepThinning(ctx context.Context, t *Target) {
	tick := time.NewTicker(t.env.ThinEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, it := range t.list() {
			if err := (thinner{it}).thin(ctx); err != nil && ctx.Err() == nil {
				t.env.Log.Error("thinning stopped", "item", it.id, "err", err)
			}
		}
	}
}

// thinner enforces retention on an item.
type thinner struct{ *item }

// thin drops the points that retention no longer keeps: what is before the oldest
// point goes, what is between two points is merged.
func (it thinner) thin(ctx context.Context) error {
	it.thinning.Lock()
	defer it.thinning.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	it.change(func() { it.hasten = cancel })
	st, err := it.open("thin")
	if err != nil || st.fault != nil || st.State == homeward.ReplicaPromoting || st.RollBack != nil {
		return nil // nothing to thin now
	}
	err = it.thinTo(ctx, st, it.expired(st))
	if ctx.Err() != nil {
		return nil // hastened: somebody needs the chain; the next round goes on
	}
	return homeward.Wrap(err, "thin", it.subject())
}

// expired are the boundaries of the points that retention drops.
func (it thinner) expired(st state) map[uint64]bool {
	var list []history.Candidate
	for _, p := range it.points() {
		list = append(list, history.Candidate{Boundary: p.boundary, At: p.At, Kind: p.Mark.Kind, Pinned: len(p.Pins) > 0 || st.keeps(p.boundary)})
	}
	return history.Expire(list, st.Leg.Policy.WithDefaults().Retention, it.now(), maxPoints)
}

// keeps reports whether the record itself rests on a boundary.
func (st state) keeps(boundary uint64) bool {
	return st.FailOver != nil && st.FailOver.Tip.Boundary == boundary || boundary == st.tip.Boundary
}

// thinTo brings the chain to hold all points but the dropped ones. The caller
// holds thinning.
func (it thinner) thinTo(ctx context.Context, st state, drop map[uint64]bool) error {
	chain := st.replica.chain
	kept := map[uint64]bool{}
	oldest := st.tip.Boundary
	for _, p := range it.points() {
		if !drop[p.boundary] {
			kept[p.boundary] = true
			oldest = min(oldest, p.boundary)
		}
	}
	if st.FailOver != nil {
		kept[st.FailOver.Tip.Boundary] = true
		oldest = min(oldest, st.FailOver.Tip.Boundary)
	}
	if err := chain.DropOlder(oldest); err != nil {
		return err
	}
	for range mergesPerRound {
		did, err := it.mergeNext(ctx, st, kept)
		if err != nil || !did {
			return err
		}
	}
	return nil
}

// mergeNext does the merge that is due next; false: none is, or there is no room.
func (it thinner) mergeNext(ctx context.Context, st state, kept map[uint64]bool) (bool, error) {
	segments := st.replica.chain.Segments()
	for n := len(segments); n > 0 && segments[n-1].Newer > st.tip.Boundary; n = len(segments) {
		segments = segments[:n-1] // of a step under way
	}
	var pieces []history.Piece
	for _, s := range segments {
		pieces = append(pieces, history.Piece{Bytes: s.Bytes, Keep: kept[s.Older] || it.holds(s.Older)})
	}
	plan := history.Plan(pieces, kept[st.tip.Boundary])
	if len(plan) == 0 {
		return false, nil
	}
	inputs := segments[plan[0].First : plan[0].Last+1]
	if !it.roomToMerge(inputs, st) {
		return false, nil
	}
	return true, st.replica.chain.Merge(ctx, inputs)
}

// roomToMerge: a merge needs room for its result before its inputs go.
func (it thinner) roomToMerge(inputs []*history.Segment, st state) bool {
	var need int64
	for _, s := range inputs {
		need += s.Bytes
	}
	free, err := it.free()
	return err == nil && free-need >= st.reserve()/2
}
