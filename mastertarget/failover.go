package mastertarget

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward"
)

func overlayDir(g homeward.Generation) string { return fmt.Sprintf("overlay-%016x", g.Number) }

// takeover runs the copy.
type takeover struct{ *item }

// failOver serves a point with a durable overlay, by hand or as the vault asks. Its time depends on the number
// of segments, not on how much was written since the point.
//
// The order is what makes it safe: fence, so that no delta is applied any more;
// an empty overlay; the record, which makes it so; and only then the exports. What
// is given up stays in the chain until a promotion writes its maps (I-0).
func (it takeover) failOver(ctx context.Context, req homeward.FailOverRequest, byHand bool) (homeward.View, error) {
	const op = "fail over"
	if err := it.take(ctx, op); err != nil {
		return homeward.View{}, err
	}
	defer it.give()
	it.mend(ctx)
	st, err := it.open(op)
	if err != nil {
		return homeward.View{}, err
	}
	if err := it.fence.check(op, req.Generation); err != nil {
		return homeward.View{}, err
	}
	if st.FailOver != nil && st.FailOver.Generation == req.Generation {
		return it.failedOverAlready(ctx, op, req, st)
	}
	if err := it.mayFailOver(op, req.Generation, st); err != nil {
		return homeward.View{}, err
	}
	p, held, err := it.hold(op, req.Point, failOverPin)
	if err != nil {
		return homeward.View{}, err
	}
	defer it.pins.release(held)
	if !p.Mark.Kind.Bootable() {
		return homeward.View{}, homeward.Errorf(op, homeward.Invalid, p.Position.String(), "choose a bootable point", "no machine could boot from it: its mark is %s", p.Mark.Kind)
	}
	if err := it.fence.raise(op, req.Generation); err != nil {
		return homeward.View{}, err
	}
	if err := it.recordFailOver(ctx, op, failOver{Generation: req.Generation, ByHand: byHand}, p.boundary, st); err != nil {
		return homeward.View{}, err
	}
	if st.fault != nil { // of the point before perhaps, which is not the one that runs any more
		if err := it.reopen(ctx); err != nil {
			return homeward.View{}, homeward.Wrap(err, op, it.subject())
		}
	}
	return it.servedFailOver(ctx, op)
}

func (it takeover) mayFailOver(op string, g homeward.Generation, st state) error {
	was := st.Leg.Generation.Number
	switch st.State {
	case homeward.ReplicaPromoting, homeward.ReplicaPromoted:
		return homeward.Errorf(op, homeward.Conflict, it.subject(), "begin a new leg to move again", "the view is the replica, or becomes it (%s)", st.State)
	case homeward.ReplicaFailedOver:
		was = st.FailOver.Generation.Number
	}
	if st.RollBack != nil {
		return homeward.Errorf(op, homeward.Conflict, it.subject(), "finish the roll-back first", "it is being rolled back")
	}
	if g.Number <= was {
		return homeward.Errorf(op, homeward.Conflict, it.subject(), "raise the generation", "generation %d is in use here", was)
	}
	return nil
}

// failedOverAlready answers the same request once more.
func (it takeover) failedOverAlready(ctx context.Context, op string, req homeward.FailOverRequest, st state) (homeward.View, error) {
	if !req.Point.IsZero() && req.Point != st.FailOver.Tip.Position {
		return homeward.View{}, homeward.Errorf(op, homeward.Conflict, it.subject(), "raise the generation to change the point",
			"generation %d serves another point", req.Generation.Number)
	}
	return it.servedFailOver(ctx, op)
}

// recordFailOver makes a boundary the one that runs.
func (it takeover) recordFailOver(ctx context.Context, op string, f failOver, boundary uint64, st state) error {
	t, err := it.tipAt(st, boundary)
	if err != nil {
		return err
	}
	f.Tip = t
	if err := createStores(it.FS, it.path(overlayDir(f.Generation)), st.replica.pointDisks(t.Machine, boundary)); err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	// Change point: who runs on the old overlay is cut off before it is let go.
	if err := it.closeViews(ctx, func(v *view) bool { return v.Kind == homeward.ViewDurable }); err != nil {
		return err
	}
	err = it.update(op, func(r *record) {
		r.State = homeward.ReplicaFailedOver
		r.FailOver = &f
	})
	if err == nil {
		err = it.sweep()
	}
	return err
}

// servedFailOver is the view that runs; it is exported if it is not yet.
func (it takeover) servedFailOver(ctx context.Context, op string) (homeward.View, error) {
	if err := it.serveFailOver(ctx); err != nil {
		return homeward.View{}, homeward.Wrap(err, op, it.subject())
	}
	return it.reportView(it.view(failOverView)), nil
}

// serveFailOver exports what runs, as the record says. That it is served already
// is no error.
func (it takeover) serveFailOver(ctx context.Context) error {
	st := it.state()
	if it.view(failOverView) != nil {
		return nil
	}
	f := st.FailOver
	v := &view{boundary: f.Tip.Boundary, View: homeward.View{
		Item: it.id, Name: failOverView, Kind: homeward.ViewDurable, Generation: f.Generation,
		Point: homeward.Point{Position: f.Tip.Position, Mark: f.Tip.Mark, At: f.Tip.At},
	}}
	v.pin = pin{Boundary: f.Tip.Boundary, Position: f.Tip.Position, Name: failOverPin}
	it.pins.hold(v.pin)
	if st.State == homeward.ReplicaPromoted {
		return promoter{it.item}.servePromoted(ctx, v, st)
	}
	stores, err := openStores(it.FS, it.path(overlayDir(f.Generation)), it.Boot, len(f.Tip.Machine.Disks))
	if err != nil {
		it.pins.release(v.pin)
		return err
	}
	return stage{it.item}.serve(ctx, v, st, stores)
}

// cancelFailOver drops the view; the replica takes deltas again where it stood.
func (it takeover) cancelFailOver(ctx context.Context, g homeward.Generation) error {
	const op = "cancel failover"
	if err := it.take(ctx, op); err != nil {
		return err
	}
	defer it.give()
	st, err := it.open(op)
	if err != nil {
		return err
	}
	if err := it.fence.check(op, g); err != nil {
		return err
	}
	switch {
	case st.State == homeward.ReplicaReplicating:
		return it.fence.raise(op, g)
	case st.State != homeward.ReplicaFailedOver:
		return homeward.Errorf(op, homeward.Conflict, it.subject(), "fail back instead", "the promotion of the view has begun")
	case g.Number <= st.FailOver.Generation.Number:
		return homeward.Errorf(op, homeward.Conflict, it.subject(), "raise the generation", "generation %d runs here", st.FailOver.Generation.Number)
	}
	if err := it.fence.raise(op, g); err != nil {
		return err
	}
	if err := it.closeViews(ctx, func(v *view) bool { return v.Kind == homeward.ViewDurable }); err != nil {
		return err
	}
	err = it.update(op, func(r *record) {
		r.State, r.FailOver = homeward.ReplicaReplicating, nil
	})
	if err == nil {
		it.mend(ctx) // a view that could not be served is no fault any more
		err = it.sweep()
	}
	return err
}
