package mastertarget

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// reverser takes the replica itself back.
type reverser struct{ *item }

// rollBack takes the replica itself back to a point. The record of it comes
// after the maps of what is given up (I-0) and before the first write; whatever
// crash comes then, opening goes on from the start.
func (it reverser) rollBack(ctx context.Context, req homeward.FailOverRequest) error {
	const op = "roll back"
	if err := it.take(ctx, op); err != nil {
		return err
	}
	defer it.give()
	it.mend(ctx)
	st, err := it.open(op)
	if err != nil {
		return err
	}
	if err := it.fence.check(op, req.Generation); err != nil {
		return err
	}
	if st.RolledBack != nil && st.Diverged != nil && st.RolledBack.Dir == divergedDir(req.Generation) {
		if !req.Point.IsZero() && req.Point != st.RolledBack.Since {
			return homeward.Errorf(op, homeward.Conflict, it.subject(), "raise the generation to roll back further", "generation %d rolled back to another point", req.Generation.Number)
		}
		if st.RollBack == nil {
			return nil
		}
		return it.finishRollBack(ctx)
	}
	p, held, err := it.mayRollBack(op, req, st)
	if err != nil {
		return err
	}
	defer it.pins.release(held)
	if err := it.fence.raise(op, req.Generation); err != nil {
		return err
	}
	t, err := it.tipAt(st, p.boundary)
	if err != nil {
		return err
	}
	d, err := divergences{it.item}.keep(ctx, st, req.Generation, t)
	if err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	err = it.update(op, func(r *record) {
		r.RollBack = &rollBack{Generation: req.Generation, Tip: t}
		r.endLegAt(t.Boundary)
		r.Diverged, r.RolledBack = d, d
	})
	if err != nil {
		return err
	}
	return it.finishRollBack(ctx)
}

// mayRollBack finds the point, and refuses when something rests on newer ones.
func (it reverser) mayRollBack(op string, req homeward.FailOverRequest, st state) (point, pin, error) {
	if st.State != homeward.ReplicaReplicating {
		return point{}, pin{}, homeward.Errorf(op, homeward.Conflict, it.subject(), "cancel the failover, or change its point", "a view of it runs (%s)", st.State)
	}
	if req.Generation.Number <= st.Leg.Generation.Number {
		return point{}, pin{}, homeward.Errorf(op, homeward.Conflict, it.subject(), "raise the generation", "generation %d is in use here", st.Leg.Generation.Number)
	}
	p, held, err := it.hold(op, req.Point, "roll-back")
	if err != nil {
		return p, held, err
	}
	if names := it.pins.after(p.boundary); len(names) > 0 {
		it.pins.release(held)
		return p, held, homeward.Errorf(op, homeward.InUse, it.subject(), "unpin these, and close their views: rolling back ends every point after",
			"newer points are held by %q", names)
	}
	return p, held, nil
}

// finishRollBack carries out the recorded roll-back; done twice it is the same.
func (it reverser) finishRollBack(ctx context.Context) error {
	const op = "roll back"
	st := it.state()
	it.quiet()
	defer it.thinning.Unlock()
	it.trees.drop(it.item)
	t := st.RollBack.Tip
	total := int64(0)
	for _, s := range st.replica.chain.Segments() {
		if s.Older >= t.Boundary {
			total += s.Bytes
		}
	}
	it.moved.begin(total, it.now())
	if err := st.replica.takeBack(ctx, t.Boundary, it.moved.add); err != nil {
		return it.fail(op, err)
	}
	if err := st.replica.cell.store(t); err != nil {
		return it.fail(op, err)
	}
	it.change(func() { it.tip = t })
	if err := st.replica.chain.DropNewer(t.Boundary); err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	if err := it.update(op, func(r *record) { r.RollBack = nil }); err != nil {
		return err
	}
	return it.sweep()
}
