package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// ReassociateRequest is for Reassociate.
type ReassociateRequest struct {
	// SameDisks: the other master target opens the disks that the replica is on. The
	// points go, and what is not known to be the same is compared. Else its side's site
	// makes new disks, everything travels, and the old replica is there to fail over to
	// until the first point of the new one stands.
	SameDisks bool `json:"same_disks,omitempty"`
	// Gone says that somebody has seen that the old master target is off: with SameDisks
	// one that does not answer may write to them. Unknown is never absent.
	Gone bool `json:"gone,omitempty"`
	// Datastore is where new disks are made; empty: the site's default.
	Datastore string `json:"datastore,omitempty"`
}

// Leaving is a replica on its way to another master target of the standby side.
type Leaving struct {
	To         string              `json:"to"` // Side.TargetName
	Retention  string              `json:"retention,omitempty"`
	SameDisks  bool                `json:"same_disks,omitempty"`
	Generation homeward.Generation `json:"generation"`      // that began it
	Disks      []string            `json:"disks,omitempty"` // that were made for it
}

// Serving is the master target that a side's replica was last led to.
type Serving struct {
	Target     string              `json:"target"`
	Retention  string              `json:"retention,omitempty"`
	Generation homeward.Generation `json:"generation"` // that began it: the same one may be left and come back
}

const opReassociate = "reassociate"

// The steps that are asked for elsewhere.
const (
	leaveStep = "leave master target"
	ledStep   = "lead replication there"
)

// Reassociate leads the replica of an item to another master target of its standby
// side, which need not have lost the one before; to is that side with the other
// one. The machine runs on and keeps its disks. It returns when the other one takes
// what is written, and AwaitReassociated goes on. Called again with the same request it
// goes on where it was cut short; with another one it gives the first up.
//
// Until the first point of a replica on new disks stands, the item is Protected by the
// old one, and can be failed over to it: then the move is given up, and the next
// reprotect compares everything. With SameDisks it is Synchronizing until then.
func (it *Item) Reassociate(ctx context.Context, to *Side, req ReassociateRequest) (homeward.Estimate, error) {
	if l := it.Leaving; l != nil && l.To == to.TargetName && l.SameDisks == req.SameDisks && it.List.Done[ledStep] {
		it.To = to
		return it.List.Predicted, nil
	}
	if err := it.MayReassociate(ctx, to, req); err != nil {
		return homeward.Estimate{}, err
	}
	if err := it.beginLeaving(to, req); err != nil {
		return homeward.Estimate{}, err
	}
	err := it.once(ctx, "claim item at "+to.TargetName, func(func(homeward.Progress)) error { return it.claimAt(ctx, to) })
	if err == nil && req.SameDisks {
		err = it.takeOver(ctx, to, req)
	} else if err == nil {
		err = it.settleAt(ctx, to, req)
	}
	if err == nil {
		err = it.step(ctx, "route", func(func(homeward.Progress)) error { return it.route(ctx, it.Running, it.taker()) })
	}
	if err == nil && !req.SameDisks {
		err = it.retire(ctx, it.Standby.Target)
	}
	if err == nil {
		err = it.once(ctx, ledStep, func(func(homeward.Progress)) error { return nil })
	}
	return it.List.Predicted, err
}

// taker is the standby side with the master target that takes what is written now.
func (it *Item) taker() *Side {
	if it.Leaving != nil && it.To != nil && it.Generation == it.Leaving.Generation {
		return it.To
	}
	return it.Standby
}

// MayReassociate refuses what Reassociate would refuse before it changes anything.
func (it *Item) MayReassociate(ctx context.Context, to *Side, req ReassociateRequest) error {
	conflict := func(remedy, format string, args ...any) error {
		return homeward.Errorf(opReassociate, homeward.Conflict, "item "+string(it.ID()), remedy, format, args...)
	}
	switch {
	case it.State == FailedOver || it.State == Committed:
		return conflict("commit and reprotect it, or cancel the failover, first", "its machine runs on what the master target serves")
	case it.State == Protected && it.List.Op != "" && it.List.Op != opReassociate, it.List.Op == opFailOver, it.List.Op == opCancel:
		return conflict("finish that first", "%s is unfinished", it.List.Op)
	case it.Paused:
		return conflict("resume its replication first", "it is paused")
	}
	if err := it.require(opReassociate, Protected, Synchronizing); err != nil {
		return err
	}
	if to.Name != it.Standby.Name || to.TargetName == "" {
		return homeward.Errorf(opReassociate, homeward.Invalid, "to", "name a master target of "+it.Standby.Name, "%q of %s is none", to.TargetName, to.Name)
	}
	if it.List.Done[leaveStep] {
		return nil // the one before is left already
	}
	if to.TargetName == it.Standby.TargetName && (it.Leaving == nil || !req.SameDisks) {
		return homeward.Errorf(opReassociate, homeward.Invalid, "to", "name another one", "%s has the replica", to.TargetName)
	}
	if req.SameDisks && !req.Gone && to.TargetName != it.Standby.TargetName && it.older() {
		return conflict("wait until it is protected; or have new disks made: leave out '--same-disks'",
			"its disks at %s are partly overwritten, and boot only with the points, such as %s, that would go", it.Standby.Name, BranchName)
	}
	if err := it.vacant(ctx, to); err != nil {
		return err
	}
	_, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	switch {
	case err == nil && it.Test != nil:
		return conflict("clean up the test failover first", "a test machine runs on a point of %s", it.Standby.TargetName)
	case homeward.Retryable(err) && req.SameDisks && !req.Gone:
		return homeward.Errorf(opReassociate, homeward.Unavailable, "master target "+it.Standby.TargetName,
			"see that it is off and stays off, then say so ('--old-is-off'); or leave its disks alone: without '--same-disks' new ones are made",
			"it cannot be asked, and may still write to the disks: %w", err)
	}
	return nil
}

// older reports whether the standby side, amid a synchronization, can boot by nothing but
// what it held before.
func (it *Item) older() bool {
	led := it.List.Op == opReassociate && it.Leaving != nil && !it.Leaving.SameDisks
	return it.State == Synchronizing && (it.List.Op == opReprotect || led)
}

// vacant sees that the other master target answers, and has nothing of the item but what
// an earlier time has left there.
func (it *Item) vacant(ctx context.Context, to *Side) error {
	known := it.Leaving != nil && it.Leaving.To == to.TargetName || to.TargetName == it.Standby.TargetName ||
		slices.ContainsFunc(it.Left, func(l Left) bool { return l.Target == to.TargetName })
	_, err := to.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	switch {
	case homeward.KindOf(err) == homeward.NotFound || err == nil && known:
		return nil
	case err == nil:
		return homeward.Errorf(opReassociate, homeward.Exists, "item "+string(it.ID()), "choose another one, or have the item forgotten there first", "master target %s has an item of this id", to.TargetName)
	}
	return err
}

// beginLeaving writes down where the replica goes, before anybody hears of it.
func (it *Item) beginLeaving(to *Side, req ReassociateRequest) error {
	l := it.Leaving
	if l != nil && (l.To != to.TargetName || l.SameDisks != req.SameDisks) {
		it.giveUpLeaving()
		it.List.Op = ""
	}
	if it.List.Op == opReassociate {
		it.To = to
		return it.save()
	}
	if it.Leaving == nil {
		it.Leaving = &Leaving{To: to.TargetName, Retention: to.Retention, SameDisks: req.SameDisks}
	}
	it.To, it.Took = to, nil
	_, err := it.begin(opReassociate, homeward.Position{})
	return err
}

// giveUpLeaving notes what an attempt may have left at the other master target. Its
// roles may replicate under its generation: what comes next needs another one.
func (it *Item) giveUpLeaving() {
	l := it.Leaving
	if l == nil {
		return
	}
	if l.To != it.Standby.TargetName {
		disks := l.Disks
		if len(disks) == 0 && it.List.Op == opReassociate {
			disks = it.List.Disks
		}
		it.leave(Left{Side: it.Standby.Name, Target: l.To, Disks: slices.Clone(disks)})
	}
	it.Leaving, it.To, it.Next = nil, nil, it.newest().Next()
}

// claimAt begins above what the other master target remembers. What it has of an earlier
// time, when it was left, goes now.
func (it *Item) claimAt(ctx context.Context, to *Side) error {
	for _, l := range it.Left {
		if l.Target == to.TargetName && to.TargetName != it.Standby.TargetName {
			if err := it.removeLeft(ctx, l, to.Target); err != nil {
				return err
			}
		}
	}
	err := it.rise(ctx, to.Target)
	it.Leaving.Generation = it.List.Next
	return err
}

// settleAt leads the writes to new disks at the other master target. All blocks are in
// the running side's map before that one takes the first (I-0).
func (it *Item) settleAt(ctx context.Context, to *Side, req ReassociateRequest) error {
	next := it.List.Next
	err := it.makeDisks(ctx, req.Datastore)
	if err == nil {
		err = it.once(ctx, "note new disks", func(func(homeward.Progress)) error {
			it.Leaving.Disks = slices.Clone(it.List.Disks)
			it.List.Predicted = it.wholeCopy().estimate(it)
			return nil
		})
	}
	base := homeward.Position{}.Base(next)
	if err == nil {
		err = it.step(ctx, "prepare new replica", func(func(homeward.Progress)) error {
			_, err := to.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Leaving.Disks,
				Generation: next, Base: base, From: it.Running.ProcessName, Retention: to.Retention, Policy: it.Policy})
			return err
		})
	}
	if err == nil {
		err = it.turnTo(ctx, base, it.everything())
	}
	return err
}

// takeOver has the old master target let its disks go, and the other one take them.
func (it *Item) takeOver(ctx context.Context, to *Side, req ReassociateRequest) error {
	var err error
	if !req.Gone && !it.List.Done[leaveStep] {
		err = it.once(ctx, "bring the old replica to rest", func(func(homeward.Progress)) error { return it.quiesce(ctx) })
	}
	if err == nil {
		err = it.once(ctx, leaveStep, func(func(homeward.Progress)) error { return it.leaveDisks(ctx, to, req.Gone) })
	}
	next := it.List.Next
	base := it.List.Drained.Base(next) // of nothing, where the old one could not be asked: then all is compared
	if err == nil {
		err = it.step(ctx, "take the disks", func(func(homeward.Progress)) error {
			_, err := to.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Copies(it.Standby), Bootable: it.List.Bootable,
				Generation: next, Base: base, From: it.Running.ProcessName, Retention: to.Retention, Policy: it.Policy})
			return err
		})
	}
	if err == nil {
		err = it.turnTo(ctx, base, nil)
	}
	return err
}

// leaveDisks has the old master target forget the item, and with it its points, unless
// it is the one that the replica stays with after all.
func (it *Item) leaveDisks(ctx context.Context, to *Side, gone bool) error {
	old := it.Standby
	if old.TargetName != to.TargetName {
		it.State = Synchronizing
		if gone {
			it.leave(Left{Side: old.Name, Target: old.TargetName})
		}
		if err := it.save(); err != nil || gone {
			if err == nil {
				it.serve(to)
			}
			return err
		}
		if _, err := old.Target.Forget(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.List.Next}); err != nil {
			return err
		}
	}
	it.serve(to)
	return nil
}

// quiesce has nothing more written to the old replica, and notes where it stands. The
// agent stops shipping first: told by the master target that another generation is in
// force it would take the machine's disks away.
func (it *Item) quiesce(ctx context.Context) error {
	last := it.optional(ctx, "make a last point", func(func(homeward.Progress)) error {
		bound, cancel := context.WithTimeout(ctx, lastPoint)
		defer cancel()
		_, err := it.Running.Agent.Cut(bound, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash})
		return err
	})
	if last != nil && ctx.Err() != nil {
		return last
	}
	err := it.ship(ctx, "")
	var fenced *homeward.FencedError
	if errors.As(err, &fenced) && !fenced.InForce.Fences(it.newest()) {
		err = nil // by an attempt before, whose answer was lost: it ships to the other one
	}
	if err != nil {
		return err
	}
	if _, err := it.Standby.Target.SetGeneration(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.List.Next}); err != nil {
		return err
	}
	r, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	it.List.Drained, it.List.Bootable = r.Applied, r.NewestPoint.Latest
	return err
}

// lastPoint is how long a replica that is about to be left is waited for.
const lastPoint = 30 * time.Second

// turnTo has the running side's agent ship to another replica, under the machine.
func (it *Item) turnTo(ctx context.Context, base homeward.Position, initial []homeward.DiskChanges) error {
	return it.step(ctx, "turn capture", func(func(homeward.Progress)) error {
		_, err := it.Running.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn, Live: true,
			Generation: it.List.Next, Base: base, Initial: initial, Sink: it.Running.SinkURL, Policy: it.Policy})
		if err != nil {
			return err
		}
		it.Generation, it.Base = it.List.Next, base
		return it.save()
	})
}

// retire has the old master target accept nothing more (I-6). One that is away is told
// when it is back, and nobody routes anything to it.
func (it *Item) retire(ctx context.Context, old homeward.MasterTarget) error {
	err := it.optional(ctx, "fence old master target", func(func(homeward.Progress)) error {
		_, err := old.SetGeneration(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
		return err
	})
	if err == nil || homeward.Retryable(err) && ctx.Err() == nil {
		return nil
	}
	return err
}

// serve notes that another master target has the replica of the standby side.
func (it *Item) serve(to *Side) {
	if it.Serves == nil {
		it.Serves = map[string]Serving{}
	}
	it.Serves[to.Name] = Serving{Target: to.TargetName, Retention: to.Retention, Generation: it.List.Next}
	it.Standby = to
}

// AwaitReassociated returns when the first point stands at the other master target: the
// item is Protected by that one then, and what the old one has is Left. Blocks that are
// not known to be the same are compared first.
func (it *Item) AwaitReassociated(ctx context.Context) error {
	if it.State == Protected && it.Leaving == nil && it.List.Op == "" {
		return nil
	}
	if it.Leaving == nil || !it.List.Done[ledStep] {
		return homeward.Errorf("await reassociation", homeward.Conflict, "item "+string(it.ID()), "reassociate it first", "no replica is on its way to another master target")
	}
	if it.taker().TargetName != it.Leaving.To {
		return homeward.Errorf("await reassociation", homeward.Internal, "item "+string(it.ID()), "", "the side with %s is not given", it.Leaving.To)
	}
	if err := it.awaitFirstPoint(ctx, "synchronize with "+it.Leaving.To); err != nil {
		return err
	}
	if l := it.Leaving; !l.SameDisks {
		_, moved := it.Moved[it.Standby.Name]
		it.leave(Left{Side: it.Standby.Name, Target: it.Standby.TargetName, Disks: it.OwnCopies(), First: !moved})
		it.serve(it.To)
		it.Moved[it.Standby.Name] = slices.Clone(l.Disks)
	}
	it.Leaving, it.To = nil, nil
	return it.end(Protected)
}

// OwnCopies are the disks of the standby side's replica that were made for it. Those
// that the machine was protected with are its own, and stay.
func (it *Item) OwnCopies() []string {
	if _, moved := it.Moved[it.Standby.Name]; it.Standby.Name == it.Origin && !moved {
		return nil
	}
	return slices.Clone(it.Copies(it.Standby))
}

// EstimateReassociation tells what Reassociate would send, and what goes with it,
// without changing anything.
func (it *Item) EstimateReassociation(ctx context.Context, req ReassociateRequest) (homeward.Estimate, error) {
	if err := it.require("estimate reassociation", Protected, Synchronizing); err != nil {
		return homeward.Estimate{}, err
	}
	id := homeward.ItemRequest{Item: it.ID()}
	replica, away := it.Standby.Target.Report(ctx, id)
	points := fmt.Sprintf("the %d recovery points at %s", replica.Points, it.Standby.TargetName)
	if away != nil {
		points = "all recovery points at " + it.Standby.TargetName
	}
	if !req.SameDisks {
		e := it.wholeCopy().estimate(it)
		e.Losses = []string{points + " go when the first one stands at the other master target; until then they can be failed over to, if it answers"}
		if disks := it.OwnCopies(); len(disks) > 0 {
			e.Losses = append(e.Losses, fmt.Sprintf("the old replica's disks are removed after that: %v", disks))
		}
		return e, nil
	}
	set := it.noDifferences()
	now, err := it.Running.Agent.Changes(ctx, id)
	if err == nil {
		err = set.add(now, func(d *diskDifferences) *block.Map { return d.since })
	}
	if err != nil {
		return homeward.Estimate{}, err
	}
	if away != nil {
		set.distrust("the old master target", away)
	}
	e := set.estimate(it)
	e.Losses = []string{points + " go at once; the first new one stands when what differs has travelled"}
	if it.older() {
		e.Losses = append(e.Losses, "the point "+BranchName+" is among them: until the first new one stands nothing at "+it.Standby.Name+" could boot")
	}
	if req.Gone {
		e.Losses = append(e.Losses, "if "+it.Standby.TargetName+" is started again while nobody has the disks open, what it puts back to them spoils the replica: keep it off until the vault has told it")
	}
	return e, nil
}

var errStrayed = errors.New("it shipped to a master target that was given up")
