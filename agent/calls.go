package agent

import (
	"context"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// Prepare begins a leg. Called again for the same generation it finds the leg, and
// takes over another sink, policy or manifest. For a side that was handed over it
// begins a new leg with the map it has.
func (a *Agent) Prepare(ctx context.Context, req homeward.CaptureRequest) (homeward.CaptureReport, error) {
	req, initial, err := checkCapture(req)
	if err != nil {
		return homeward.CaptureReport{}, err
	}
	it, err := a.admit(req.Machine.Item)
	if err != nil {
		return homeward.CaptureReport{}, err
	}
	it.calls.Lock()
	defer it.calls.Unlock()
	if err := a.host.ctx.Err(); err != nil {
		return homeward.CaptureReport{}, homeward.Errorf("prepare capture", homeward.Unavailable, string(it.id), "", "the agent ends")
	}
	if err := it.prepare(ctx, req, initial); err != nil {
		return homeward.CaptureReport{}, err
	}
	return it.report(), nil
}

// Report is homeward.MobilityAgent's.
func (a *Agent) Report(_ context.Context, req homeward.ItemRequest) (homeward.CaptureReport, error) {
	it, err := a.find("report", req.Item)
	if err != nil {
		return homeward.CaptureReport{}, err
	}
	return it.report(), nil
}

// Cut makes a marked point. When the guest cannot be frozen, a point asked for as
// application-consistent is crash-consistent, as the answer's mark says.
func (a *Agent) Cut(ctx context.Context, req homeward.CutRequest) (homeward.CutReport, error) {
	switch {
	case req.Kind != homeward.MarkCrash && req.Kind != homeward.MarkApp:
		return homeward.CutReport{}, homeward.Errorf("cut", homeward.Invalid, "kind", "give crash-consistent or app-consistent", "%q", req.Kind)
	case len(req.Label) > 200:
		return homeward.CutReport{}, homeward.Errorf("cut", homeward.Invalid, "label", "give at most 200 bytes", "%d bytes", len(req.Label))
	case !slices.Contains([]string{"", homeward.WaitCut, homeward.WaitSpooled, homeward.WaitApplied}, req.Wait):
		return homeward.CutReport{}, homeward.Errorf("cut", homeward.Invalid, "wait", `give "cut", "spooled" or "applied"`, "%q", req.Wait)
	}
	_, l, err := a.findLeg("cut", req.Item)
	if err != nil {
		return homeward.CutReport{}, err
	}
	return l.cut(ctx, wish{kind: req.Kind, label: req.Label}, req.Wait)
}

func (l *leg) cut(ctx context.Context, w wish, stage string) (homeward.CutReport, error) {
	c, err := l.wishFor(ctx, w, stage)
	if err != nil {
		return homeward.CutReport{}, err
	}
	return c.report(), nil
}

// drainCuts is how many cuts a drain of a stopped machine makes until no block is
// left. One is enough unless somebody else marks blocks meanwhile.
const drainCuts = 10

// Drain makes a last cut and waits until it is applied; for a stopped machine, until
// no changed block is left. InUse: a guest is connected, or was.
func (a *Agent) Drain(ctx context.Context, req homeward.DrainRequest) (rep homeward.CutReport, err error) {
	it, l, err := a.findLeg("drain", req.Item)
	if err != nil {
		return homeward.CutReport{}, err
	}
	inUse := func() error {
		if n := it.clients(); req.Stopped && n > 0 {
			return homeward.Errorf("drain", homeward.InUse, string(it.id), "shut the machine down first", "a guest is connected to %d of its disks", n)
		}
		return nil
	}
	if err := inUse(); err != nil {
		return homeward.CutReport{}, err
	}
	left := int64(0)
	for range drainCuts {
		rep, err = l.cut(ctx, wish{kind: homeward.MarkCrash}, homeward.WaitApplied)
		if err == nil && req.Stopped {
			left, err = a.changedBytes("drain", req.Item)
		}
		if err == nil {
			err = inUse()
		}
		if err != nil || left == 0 {
			return rep, err
		}
	}
	return rep, homeward.Errorf("drain", homeward.InUse, string(it.id),
		"see that the guest stays shut down and the item has no alarm of its disks, and drain again",
		"%d bytes are changed after %d cuts: a guest wrote, or a disk failed to flush", left, drainCuts)
}

// changedBytes is how much of an item the replica is not known to have.
func (a *Agent) changedBytes(op string, id homeward.ItemID) (n int64, err error) {
	err = a.useOpen(op, id, func(it *item) error {
		for i := range it.disks {
			n += it.changedBytes(i)
		}
		return nil
	})
	return n, err
}

// Handover is homeward.MobilityAgent's.
func (a *Agent) Handover(ctx context.Context, req homeward.GenerationRequest) (homeward.Changes, error) {
	it, err := a.find("hand over", req.Item)
	if err != nil {
		return homeward.Changes{}, err
	}
	it.calls.Lock()
	defer it.calls.Unlock()
	return it.handOver(ctx, req.Generation)
}

// Release is homeward.ChangeKeeper's. An item that is not known, or not any more,
// is no error.
func (a *Agent) Release(ctx context.Context, req homeward.GenerationRequest) (homeward.Done, error) {
	a.mu.Lock()
	it := a.items[req.Item]
	a.mu.Unlock()
	if it == nil {
		return homeward.Done{}, nil
	}
	if it.broken != nil {
		return homeward.Done{}, it.broken
	}
	it.calls.Lock()
	defer it.calls.Unlock()
	return homeward.Done{}, it.release(ctx, req.Generation)
}

// Changes is homeward.ChangeKeeper's.
func (a *Agent) Changes(_ context.Context, req homeward.ItemRequest) (c homeward.Changes, err error) {
	err = a.useOpen("changes", req.Item, func(it *item) (err error) {
		c, err = it.changes()
		return err
	})
	return c, err
}

// MarkChanged is homeward.ChangeKeeper's.
func (a *Agent) MarkChanged(_ context.Context, req homeward.MarkRequest) (homeward.Done, error) {
	it, err := a.find("mark changed", req.Item)
	if err != nil {
		return homeward.Done{}, err
	}
	it.calls.Lock()
	defer it.calls.Unlock()
	return homeward.Done{}, a.useOpen("mark changed", req.Item, func(it *item) error { return it.markChanged(req) })
}

// SetGeneration raises the generation in force at this side. A leg of an older
// one is fenced: its exports are withdrawn and it ships nothing more.
func (a *Agent) SetGeneration(ctx context.Context, req homeward.GenerationRequest) (homeward.Done, error) {
	if err := req.Item.Validate(); err != nil {
		return homeward.Done{}, err
	}
	it, err := a.admit(req.Item)
	if err != nil {
		return homeward.Done{}, err
	}
	it.calls.Lock()
	defer it.calls.Unlock()
	return homeward.Done{}, it.setGeneration(ctx, req.Generation)
}

// Hold is homeward.GroupMember's.
func (a *Agent) Hold(ctx context.Context, req homeward.HoldRequest) (homeward.Done, error) {
	return homeward.Done{}, a.useLeg("hold", req.Item, func(l *leg) error { return l.hold(ctx, req) })
}

// CutHeld is homeward.GroupMember's. The guest writes again when it returns; the
// report's position is complete when the cut is spooled.
func (a *Agent) CutHeld(ctx context.Context, req homeward.HoldRequest) (rep homeward.CutReport, err error) {
	err = a.useLeg("cut held", req.Item, func(l *leg) error {
		c, err := l.cutHeld(ctx, req.Token)
		if err == nil {
			rep = c.report()
		}
		return err
	})
	return rep, err
}

// ReleaseHold is homeward.GroupMember's.
func (a *Agent) ReleaseHold(_ context.Context, req homeward.HoldRequest) (homeward.Done, error) {
	return homeward.Done{}, a.useLeg("release hold", req.Item, func(l *leg) error {
		l.releaseHold(req.Token)
		return nil
	})
}

// Freeze is homeward.Prover's. While it lasts no other cut is made.
func (a *Agent) Freeze(ctx context.Context, req homeward.ItemRequest) (homeward.CutReport, error) {
	it, l, err := a.findLeg("freeze", req.Item)
	if err != nil {
		return homeward.CutReport{}, err
	}
	return it.proof.freeze(ctx, l)
}

// Unfreeze is homeward.Prover's; without a freeze it is no error.
func (a *Agent) Unfreeze(_ context.Context, req homeward.ItemRequest) (homeward.Done, error) {
	it, err := a.find("unfreeze", req.Item)
	if err != nil {
		return homeward.Done{}, err
	}
	return homeward.Done{}, it.proof.end()
}

// Digest is homeward.Prover's.
func (a *Agent) Digest(ctx context.Context, req homeward.DigestRequest) (rep homeward.DigestReport, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.host.ctx, cancel)() // Close does not wait for a whole disk to be read
	err = a.useOpen("digest", req.Item, func(it *item) (err error) {
		disk := slices.IndexFunc(it.snapshot().Request.Machine.Disks, func(d homeward.Disk) bool { return d.ID == req.Disk })
		if disk < 0 {
			return homeward.Errorf("digest", homeward.Invalid, "disk", "name a disk of the machine", "no disk %q", req.Disk)
		}
		rep, err = it.proof.digest(ctx, req, disk, it.disks[disk])
		return err
	})
	return rep, err
}

// watchRPO keeps the alarm about the age of the newest applied point.
func (it *item) watchRPO(rep homeward.CaptureReport, limit time.Duration) {
	age := it.host.cfg.Now().Sub(rep.AppliedAt)
	if !rep.AppliedAt.IsZero() && age <= limit {
		it.alarms.clear(alarmRPO)
		return
	}
	text := "no point is applied yet"
	if !rep.AppliedAt.IsZero() {
		text = "the newest applied point is " + age.Round(time.Second).String() + " old"
	}
	it.alarms.raise(alarmRPO, text, "see phase and alarms for what holds it up; the policy allows "+limit.String())
}
