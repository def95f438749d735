package agent

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/capture"
)

// askAgain is the pause between questions for the generation in force.
const askAgain = 50 * time.Millisecond

// confirm finds out whether the generation this item captures under is still in
// force, before it exports for writing (I-6, 4.5). Where nobody can tell, the
// policy decides. False: do not export; either it is fenced, or it is held.
func (it *item) confirm(ctx context.Context) bool {
	r := it.snapshot()
	if r.fenced() {
		it.raiseFenced(r.InForce)
		return false
	}
	it.mu.Lock()
	confirmed := it.confirmed
	it.mu.Unlock()
	// Without a sink there is nobody to ask: what the machine runs on is then a view
	// of the master target beside it, which withdraws it itself.
	if confirmed || r.Request.Sink == "" {
		return true
	}
	inForce, err := it.ask(ctx, r)
	switch {
	case err == nil && inForce.Fences(r.Request.Generation):
		it.fence(ctx, inForce)
		return false
	case err == nil:
		it.alarms.clear(alarmUnknown)
	case ctx.Err() != nil:
		return false
	case r.Request.Policy.Orphan == homeward.OrphanHold:
		it.alarms.raise(alarmUnknown, "held, because nobody can tell the generation in force: "+err.Error(),
			"restore the connection to the process server; or hand the item over if another side runs it")
		return false
	default:
		it.alarms.raise(alarmUnknown, "started, though nobody could tell the generation in force: "+err.Error(),
			"make sure that no other side runs this machine; what it writes joins the lost writes if one does")
	}
	it.mu.Lock()
	it.confirmed = true
	it.mu.Unlock()
	return true
}

// ask tries until a deadline: short after a mere restart of the agent, when a
// guest waits for its disks, longer after a reboot.
func (it *item) ask(ctx context.Context, r record) (homeward.Generation, error) {
	wait := it.host.cfg.Tuning.RebootWait
	if it.machine.Started().Kind == capture.StartSurvived {
		wait = it.host.cfg.Tuning.RestartWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	sink := it.host.cfg.Dial(r.Request.Sink)
	for {
		st, err := sink.Standing(ctx, homeward.StandingRequest{Item: it.id})
		if err == nil && st.Generation.IsZero() {
			err = homeward.Errorf("ask for generation", homeward.Unavailable, string(it.id), "", "the next hop knows none")
		}
		if err == nil || !pause(ctx, askAgain) {
			return st.Generation, err
		}
	}
}

// fence stops everything that writes, because g is in force.
func (it *item) fence(ctx context.Context, g homeward.Generation) {
	err := it.amend(func(r *record) {
		if r.InForce.Fences(g) {
			return
		}
		r.InForce = g
	})
	ctx, cancel := bounded(context.WithoutCancel(ctx))
	defer cancel()
	if e := it.withdraw(ctx); err == nil {
		err = e
	}
	if err != nil {
		it.host.cfg.Log.Error("fencing", "item", it.id, "error", err)
	}
	it.raiseFenced(g)
}

func (it *item) raiseFenced(g homeward.Generation) {
	it.alarms.raise(alarmFenced, (&homeward.FencedError{InForce: g}).Error()+"; this side does not write",
		"hand the item over, so that its map can be used for the way back")
}

// distrust makes every block suspect: the replica is not in a state that the map
// was kept against.
func (it *item) distrust(cause error) {
	if err := it.suspectAll(cause.Error()); err != nil {
		it.host.cfg.Log.Error("map cannot be made suspect", "item", it.id, "error", err)
	}
	it.alarms.raiseError(alarmElsewhere, cause)
}

func (it *item) suspectAll(why string) error {
	it.judging.Lock()
	defer it.judging.Unlock()
	it.suspects = homeward.NewID()
	err := it.amend(func(r *record) { r.Complete = false })
	for i, d := range it.disks {
		if e := it.machine.AddSuspect(i, fullMap(d.Size()), why); err == nil {
			err = e
		}
	}
	return err
}

// setGeneration raises the generation in force; with it.calls held.
func (it *item) setGeneration(ctx context.Context, g homeward.Generation) error {
	r := it.snapshot()
	if r.InForce.Fences(g) {
		return fencedBy(it.id, r.InForce)
	}
	if r.InForce == g {
		return nil
	}
	if !r.live() || r.State == homeward.CaptureHandedOff {
		return it.amend(func(r *record) { r.InForce = g })
	}
	it.fence(ctx, g)
	it.halt()
	if it.snapshot().InForce != g {
		return homeward.Errorf("set generation", homeward.IO, string(it.id), "see the agent's log", "it could not be recorded")
	}
	return nil
}

// mapOf reads the persisted map of a disk.
func mapOf(field string, data []byte, d homeward.Disk) (*block.Map, error) {
	m, err := block.UnmarshalMap(data, d.Blocks())
	if err != nil {
		return nil, homeward.Wrap(err, "read map", field)
	}
	if m.Blocks() != d.Blocks() {
		return nil, homeward.Errorf("read map", homeward.Invalid, field, "give a map of this disk's size",
			"%d blocks, the disk has %d", m.Blocks(), d.Blocks())
	}
	return m, nil
}
