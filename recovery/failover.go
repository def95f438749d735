package recovery

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
)

// The lists that a later call may find unfinished, as Unfinished.Op names them;
// protect, reprotect and relocate also between their halves.
const (
	opProtect     = "protect"
	opReprotect   = "reprotect"
	opRelocate    = "relocate"
	opDisable     = "disable"
	opFailOver    = "fail over"
	opFailBack    = "fail back"
	opChangePoint = "change point"
	opCommit      = "commit"
	opCancel      = "cancel failover"
)

// FailOver boots the standby side at a point (zero: the newest). The running
// side is taken to be lost: it is not asked for anything. What it wrote after the
// point stays in maps, for the way back. While the item synchronizes after a reprotect
// the point is one that was there before, such as the branch: no newer one could boot.
func (it *Item) FailOver(ctx context.Context, point homeward.Position) error {
	return it.failOver(ctx, point, nil)
}

func (it *Item) failOver(ctx context.Context, point homeward.Position, part func() error) error {
	const op = opFailOver
	if err := it.mayFailOver(ctx, point); err != nil {
		return err
	}
	it.Planned = false
	if !it.resumes(op, point) {
		it.Parting = Parting{}
		it.interrupt()
	}
	if it.Leaving != nil { // what stands is at the master target that was to be left
		it.giveUpLeaving()
		it.Strayed = true
	}
	next, err := it.begin(op, point)
	if err == nil && part != nil && !it.List.Done[partStep] {
		err = part()
	}
	if err != nil {
		return err
	}
	return it.raiseStandby(ctx, next, point)
}

// mayRaise allows an operation on a protected item, and again while it is
// unfinished.
func (it *Item) mayRaise(op string, point homeward.Position) error {
	if it.resumes(op, point) {
		return it.require(op, Protected, FailedOver)
	}
	return it.require(op, Protected)
}

// FailOverPlanned shuts the running side down first, ships its last writes and
// boots the standby side at exactly that state: nothing is lost. It is what the
// seeds call failback when the standby side is the original one. With a point
// given, that older state is booted instead; the newer one is still there.
func (it *Item) FailOverPlanned(ctx context.Context, point homeward.Position) error {
	const op = opFailBack
	if err := it.mayRaise(op, point); err != nil {
		return err
	}
	if err := it.mayPart(op); err != nil {
		return err
	}
	it.Parting = Parting{}
	next, err := it.begin(op, point)
	if err != nil {
		return err
	}
	if _, err = it.lookAtStandby(ctx); err != nil {
		return err
	}
	err = it.once(ctx, shutDownStep, func(func(homeward.Progress)) error { return it.shutdown(ctx, it.Running) })
	if err == nil {
		err = it.once(ctx, shipLastStep, func(tell func(homeward.Progress)) error {
			last, err := it.drain(ctx, tell)
			it.List.Drained = last.Position
			return err
		})
	}
	if err == nil {
		err = it.once(ctx, handOverStep, func(func(homeward.Progress)) error {
			_, err := it.Running.Agent.Handover(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: next})
			return err
		})
	}
	if err != nil {
		return err
	}
	if point.IsZero() {
		point = it.List.Drained
	}
	it.Planned = true
	return it.raiseStandby(ctx, next, point)
}

// The steps of a planned move before its point is served.
const (
	shutDownStep = "shut down running side"
	shipLastStep = "ship last writes"
	handOverStep = "hand over"
)

// hangUp is how long a machine that is off may still look connected to its disks.
const hangUp = 5 * time.Second

// drain ships the last writes of a machine that is off.
func (it *Item) drain(ctx context.Context, tell func(homeward.Progress)) (last homeward.CutReport, err error) {
	deadline := time.Now().Add(hangUp)
	err = it.shipping(ctx, tell, func(ctx context.Context) error {
		return poll(ctx, func() (bool, error) {
			last, err = it.Running.Agent.Drain(ctx, homeward.DrainRequest{Item: it.ID(), Stopped: true})
			if homeward.KindOf(err) == homeward.InUse && time.Now().Before(deadline) {
				return false, nil
			}
			return err == nil, err
		})
	})
	return last, err
}

// ChangePoint runs the failed-over machine from another point instead. What it
// wrote so far is dropped with its overlay.
func (it *Item) ChangePoint(ctx context.Context, point homeward.Position) error {
	const op = opChangePoint
	if err := it.require(op, FailedOver); err != nil {
		return err
	}
	if err := it.notCommitting(ctx, op); err != nil {
		return err
	}
	next, err := it.begin(op, point)
	if err != nil {
		return err
	}
	if err := it.retireStandby(ctx, next); err != nil {
		return err
	}
	return it.raiseStandby(ctx, next, point)
}

// Commit ends the choice of points: the view becomes the replica behind the
// running machine, and the sides swap. Refused while another list is unfinished:
// the machine may not run on the view yet.
func (it *Item) Commit(ctx context.Context) error {
	const op = opCommit
	if err := it.require(op, FailedOver); err != nil {
		return err
	}
	if it.List.Op != "" && it.List.Op != op {
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()),
			"call it again until it succeeds, or cancel the failover", "%s is unfinished", it.List.Op)
	}
	if _, err := it.begin(op, homeward.Position{}); err != nil {
		return err
	}
	err := it.once(ctx, "see that all writes were seen", func(func(homeward.Progress)) error { return it.noteGrown(ctx) })
	if err != nil {
		return err
	}
	err = it.step(ctx, "promote overlay", func(tell func(homeward.Progress)) error {
		return poll(ctx, func() (bool, error) {
			r, err := it.Standby.Target.Promote(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
			if err == nil {
				tell(r.Progress)
			}
			return r.State == homeward.ReplicaPromoted, err
		})
	})
	if err != nil {
		return err
	}
	it.Running, it.Standby = it.Standby, it.Running
	it.RunsOn = viewRefs(it.View)
	return it.end(Committed)
}

// raiseStandby serves the point at the standby side under a new generation,
// captures from the first write, and boots the machine there. The running side
// is fenced by the generation from the first call on.
func (it *Item) raiseStandby(ctx context.Context, next homeward.Generation, point homeward.Position) error {
	err := it.step(ctx, "serve point", func(func(homeward.Progress)) (err error) {
		it.View, err = it.Standby.Target.FailOver(ctx, homeward.FailOverRequest{Item: it.ID(), Generation: next, Point: point})
		return err
	})
	if err != nil {
		return err
	}
	it.Generation, it.Point, it.State = next, it.View.Point, FailedOver
	it.Base = it.Point.Position.Base(next)
	it.Paused = false
	if err := it.save(); err != nil {
		return err
	}
	var report homeward.CaptureReport
	err = it.step(ctx, "start capture", func(func(homeward.Progress)) (err error) {
		if err := it.noteUnseen(ctx, next); err != nil {
			return err
		}
		// No sink yet: what is written goes into the map until Reprotect gives it one.
		report, err = it.Standby.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: it.Machine, Disks: viewRefs(it.View),
			Generation: next, Base: it.Base, Incomplete: true, Policy: it.Policy})
		return err
	})
	if err != nil {
		return err
	}
	err = it.step(ctx, "boot machine", func(func(homeward.Progress)) error { return it.boot(ctx, it.Standby, report) })
	if err != nil {
		return err
	}
	return it.end(FailedOver)
}

// noteUnseen writes down that the view was written to before any agent captured: by a
// machine that somebody ran on it by hand.
func (it *Item) noteUnseen(ctx context.Context, g homeward.Generation) error {
	unseen := it.View.OverlayBytes > 0
	if unseen {
		report, err := it.Standby.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			return err
		}
		unseen = it.Unseen || err != nil || report.Base.Generation != g
	}
	if unseen == it.Unseen {
		return nil
	}
	it.Unseen = unseen
	return it.save()
}

// noteGrown writes down that the view holds more than the agent saw: somebody ran it by hand
// under the generation in force, while the agent was away. The view is asked first: what
// is written meanwhile is in the agent's map before it is there. The target remembers that
// it gave the view out by hand; one of an older version does not, and then the size is a
// bound: blocks of zeroes, which a view does not count, and suspect ones may hide others.
func (it *Item) noteGrown(ctx context.Context) error {
	replica, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return err
	}
	report, err := it.Standby.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		return err
	}
	var grown int64
	byHand := false
	for _, v := range replica.Views {
		if v.Kind == homeward.ViewDurable {
			grown += v.OverlayBytes
			byHand = byHand || v.ByHand
		}
	}
	for _, d := range report.Disks {
		grown -= d.DirtyBytes + d.SuspectBytes
	}
	it.Unseen = it.Unseen || byHand || grown > 0 // the caller saves it with the step
	return nil
}

// viewRefs are references to the disks of a view.
func viewRefs(v homeward.View) []string {
	refs := make([]string, len(v.Disks))
	for i, d := range v.Disks {
		refs[i] = d.URI
	}
	return refs
}
