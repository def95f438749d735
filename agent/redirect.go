package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// redirect begins a leg to another replica under a newer generation, while the machine
// runs on; with it.calls held. Capture and exports stay. First all that the other
// replica may lack is in the map, then the record names the leg: a crash between leaves
// the leg before, which ships too much.
func (it *item) redirect(ctx context.Context, r record, req homeward.CaptureRequest, initial map[int]*block.Map) error {
	if err := it.mayRedirect(r, req); err != nil {
		return err
	}
	it.halt()
	it.endProof()
	err := it.reopen(ctx, r)
	if err == nil {
		err = it.lead(ctx, r, req, initial)
	}
	if err != nil {
		it.start()
		return err
	}
	it.resume(ctx)
	it.start()
	return nil
}

func (it *item) mayRedirect(r record, req homeward.CaptureRequest) error {
	sameDisk := func(a, b homeward.Disk) bool { return a.ID == b.ID && a.Size == b.Size }
	switch {
	case r.fenced():
		return homeward.Errorf("prepare capture", homeward.Conflict, string(it.id), "hand it over under the next generation", "generation %d is in force, the machine does not run here", r.InForce.Number)
	case !slices.EqualFunc(r.Request.Machine.Disks, req.Machine.Disks, sameDisk) || !slices.Equal(r.Request.Disks, req.Disks):
		return homeward.Errorf("prepare capture", homeward.Exists, string(it.id)+" disks", "hand it over and prepare it under a new generation", "it is captured with other disks")
	}
	return nil
}

// lead makes the map right for the other replica, and then the leg to it the one in force.
func (it *item) lead(ctx context.Context, r record, req homeward.CaptureRequest, initial map[int]*block.Map) error {
	next := r
	next.InForce, next.Began, next.Request = req.Generation, r.capture(), req
	next.Request.Live = false
	path := filepath.Join(it.legDir(next.capture()), next.positions())
	if err := durable.Remove(it.host.cfg.FS, path); err != nil && homeward.KindOf(err) != homeward.NotFound {
		return err // of an attempt that was cut off
	}
	whole, err := it.widen(r, req, initial)
	if err != nil {
		return homeward.Wrap(err, "mark what another replica lacks", string(it.id))
	}
	chain, err := openChain(it.host.cfg.FS, path, req.Base)
	if err != nil {
		return err
	}
	it.host.cfg.Fault("redirecting")
	next.Complete = whole && !req.Incomplete
	if err := it.amend(func(r *record) { *r = next }); err != nil {
		return errors.Join(err, chain.close())
	}
	was := it.chain.replace(chain)
	it.meter.restart()
	it.alarms.clear(alarmAway, alarmFault, alarmUnknown, alarmElsewhere, alarmRPO)
	if whole {
		it.alarms.clear(alarmSuspect)
	}
	it.mu.Lock()
	it.confirmed = true // by whoever prepares it
	it.mu.Unlock()
	if err := durable.Remove(it.host.cfg.FS, was); err != nil && homeward.KindOf(err) != homeward.NotFound && ctx.Err() == nil {
		it.host.cfg.Log.Warn("leftovers not removed", "item", it.id, "error", err) // they go with the capture
	}
	return nil
}

// widen adds to the map what it does not say of another replica, and reports whether
// nothing is suspect then.
func (it *item) widen(r record, req homeward.CaptureRequest, initial map[int]*block.Map) (whole bool, err error) {
	if err := it.inherit(req, heritage{changed: initial}); err != nil {
		return false, err
	}
	whole = true
	trusted := r.Complete && it.leadsTo(req.Base, req.Generation)
	it.judging.Lock()
	defer it.judging.Unlock()
	it.suspects = homeward.NewID()
	for i, d := range it.disks {
		changed := it.changed(i)
		suspect := it.machine.Suspect(i)
		if !trusted {
			suspect = fullMap(d.Size())
		}
		suspect.AndNot(changed)
		if suspect.Count() > 0 {
			err = it.machine.AddSuspect(i, suspect, "the replica's position is not one this side knows")
			whole = false
		} else {
			err = it.machine.ClearSuspect(i, it.machine.Suspect(i)) // all that is suspect travels
		}
		if err != nil {
			return false, err
		}
	}
	return whole, nil
}
