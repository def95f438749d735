package agent

import (
	"context"
	"errors"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// handOver ends writing at this side (I-11); with it.calls held. Each step may be
// repeated: the first that is durable decides, the rest follows from the record,
// also after a restart.
func (it *item) handOver(ctx context.Context, g homeward.Generation) (homeward.Changes, error) {
	r := it.snapshot()
	if !r.live() {
		return homeward.Changes{}, errUnknown("hand over", it.id)
	}
	if r.InForce.Fences(g) {
		return homeward.Changes{}, fencedBy(it.id, r.InForce)
	}
	if r.State != homeward.CaptureHandedOff && g == r.Request.Generation {
		return homeward.Changes{}, homeward.Errorf("hand over", homeward.Conflict, string(it.id),
			"hand over under the next generation", "this side captures under generation %d itself", g.Number)
	}
	if r.State != homeward.CaptureHandedOff || r.InForce != g {
		err := it.amend(func(r *record) { r.InForce, r.State = g, homeward.CaptureHandedOff })
		if err != nil {
			return homeward.Changes{}, err
		}
	}
	it.host.cfg.Fault("handover recorded")
	bound, cancel := bounded(ctx)
	defer cancel()
	err := it.withdraw(bound)
	it.halt()
	it.endProof()
	if err != nil {
		return homeward.Changes{}, homeward.Wrap(err, "hand over", string(it.id))
	}
	it.host.cfg.Fault("handover withdrawn")
	if err = it.reopen(ctx, it.snapshot()); err == nil {
		err = it.machine.Handover(ctx)
	}
	if err != nil {
		return homeward.Changes{}, homeward.Wrap(err, "hand over", string(it.id))
	}
	it.alarms.clear(alarmFenced, alarmUnknown, alarmAway, alarmFault, alarmDisks, alarmRPO, alarmDemotions, alarmFreeze)
	it.host.cfg.Fault("handover final")
	return it.changes()
}

// release forgets an item that was handed over, but for the generation that
// fences calls from before; with it.calls held.
func (it *item) release(ctx context.Context, g homeward.Generation) error {
	r := it.snapshot()
	if r.InForce.Fences(g) {
		return fencedBy(it.id, r.InForce)
	}
	if !r.live() {
		return nil
	}
	if r.State != homeward.CaptureHandedOff {
		return homeward.Errorf("release", homeward.Conflict, string(it.id), "hand it over first", "it captures")
	}
	if err := it.amend(func(r *record) { *r = record{InForce: g} }); err != nil {
		return err
	}
	it.halt()
	it.endProof()
	err := it.shut(ctx)
	it.alarms.reset()
	return homeward.Wrap(errors.Join(err, it.sweep()), "release", string(it.id))
}

// sweep removes what is left of legs that are over.
func (it *item) sweep() error {
	r, fsys := it.snapshot(), it.host.cfg.FS
	return errors.Join(sweep(fsys, r, it.dir()), sweep(fsys, r, it.spillDir()), sweep(durable.OS(), r, it.liveDir()))
}

func errUnknown(op string, id homeward.ItemID) error {
	return homeward.Errorf(op, homeward.NotFound, string(id), "prepare it first", "no such item at this agent")
}
