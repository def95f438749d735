package recovery

import (
	"context"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// Reversal is what a reprotect predicted and what it then took.
type Reversal struct {
	Estimate  homeward.Estimate `json:"estimate"`
	Sent      homeward.Traffic  `json:"sent"`       // by the agent, from the start of the reverse leg to its first point
	Changed   int64             `json:"changed"`    // bytes of blocks that travelled and are applied, those the machine wrote meanwhile included
	WireBytes int64             `json:"wire_bytes"` // by the process server, compressed
	FullReads int64             `json:"full_reads"` // bytes of disk read only to find differences
	Seconds   float64           `json:"seconds"`    // from the reverse's begin to its first point
	Branch    homeward.Point    `json:"branch"`     // the standby side's own last state, kept and servable
}

// BranchName is the name under which a standby side's own last state is kept.
const BranchName = "lost-writes"

// branchPin is the pin that the master target makes of it.
const branchPin = "branch:" + BranchName

// Reprotect makes the standby side, where the machine used to run, follow the
// running side, and returns when its first point stands: Reverse, then AwaitReverse.
func (it *Item) Reprotect(ctx context.Context) (Reversal, error) {
	if _, err := it.Reverse(ctx); err != nil {
		return Reversal{}, err
	}
	return it.AwaitReverse(ctx)
}

// Reverse makes the standby side, where the machine used to run, a replica of the
// running side. What travels is, per disk, the union of
//
//	what the standby side wrote after the point (its own map, and the undo set
//	that the running side's master target kept when it failed over), and
//	what the running side wrote since (its map).
//
// No disk is read whole while maps are trusted; suspect ranges are compared by
// digest first. Until the first point of the reverse leg stands, the standby side
// can be rolled back to its own last state, which stays as the branch.
//
// The old machine is powered off before its disks are taken, and guarded against
// being powered on. Reverse returns when replication is enabled; the item is then
// Synchronizing, and AwaitReverse goes on. It answers what will travel, by maps that
// are final.
func (it *Item) Reverse(ctx context.Context) (homeward.Estimate, error) {
	if it.State == Synchronizing && it.List.Op == opReprotect {
		return it.List.Predicted, nil
	}
	if it.moved() {
		return homeward.Estimate{}, homeward.Errorf(opReprotect, homeward.Conflict, "item "+string(it.ID()), "relocate it to the end", "it is moving to new disks")
	}
	if err := it.beginReversal(opReprotect); err != nil {
		return homeward.Estimate{}, err
	}
	err := it.powerOffOld(ctx)
	if err == nil {
		err = it.once(ctx, "hand over old side", func(func(homeward.Progress)) (err error) {
			if it.List.Before, err = it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()}); err != nil {
				return err
			}
			it.List.Differ, err = it.differences(ctx)
			if err == nil {
				it.List.Predicted = it.List.Differ.estimate(it)
			}
			return err
		})
	}
	if err == nil {
		// The running side's agent holds the union durably before the old side may
		// forget its part of it (I-0).
		err = it.once(ctx, joinStep, func(func(homeward.Progress)) error {
			return it.mark(ctx, homeward.MarkRequest{Disks: it.List.Differ.known()})
		})
	}
	if err == nil {
		err = it.step(ctx, "turn old side into replica", func(func(homeward.Progress)) error { return it.becomeReplica(ctx) })
	}
	if err == nil {
		err = it.step(ctx, "start reverse replication", func(func(homeward.Progress)) error { return it.startReverse(ctx) })
	}
	if err == nil {
		err = it.half()
	}
	return it.List.Predicted, err
}

const joinStep = "join maps"

// beginReversal begins a list that ends with the standby side following.
func (it *Item) beginReversal(op string) error {
	if err := it.require(op, Committed); err != nil {
		return err
	}
	it.Took, it.Paused = nil, false
	_, err := it.begin(op, homeward.Position{})
	return err
}

// powerOffOld sees to it that the machine at the standby side is off, and stays so
// (R45, R46, R148).
func (it *Item) powerOffOld(ctx context.Context) error {
	return it.once(ctx, "power off old machine", func(func(homeward.Progress)) error { return it.keepOff(ctx, it.Standby) })
}

// AwaitReverse returns when the first point of the reverse leg stands: the item is
// Protected then. What is suspect is compared first. Called again after it ended it
// answers the same.
func (it *Item) AwaitReverse(ctx context.Context) (Reversal, error) {
	if it.State == Protected && it.List.Op == "" && it.Took != nil {
		return *it.Took, nil
	}
	if err := it.mayAwait("await reverse", opReprotect, opRelocate); err != nil {
		return Reversal{}, err
	}
	rev := Reversal{Estimate: it.List.Predicted}
	err := it.once(ctx, compareStep, func(tell func(homeward.Progress)) error { return it.completeMaps(ctx, it.List.Differ, tell) })
	if err == nil {
		err = it.awaitFirstPoint(ctx, "resync")
	}
	if err == nil {
		err = it.step(ctx, "let older branches go", func(func(homeward.Progress)) error { return it.unpinOlderBranches(ctx) })
	}
	if err != nil {
		return rev, err
	}
	rev.FullReads = it.List.FullReads
	rev.Seconds = time.Since(it.List.Began).Seconds()
	if err := it.account(ctx, it.List.Before, &rev); err != nil {
		return rev, err
	}
	it.Took = &rev
	return rev, it.end(Protected)
}

const compareStep = "check maps, compare suspect ranges"

// completeMaps adds to the capture's map what the suspect ranges differ in, and
// lets it close its cuts with bootable marks again.
func (it *Item) completeMaps(ctx context.Context, set *differences, tell func(homeward.Progress)) error {
	now, err := it.Running.Agent.Changes(ctx, homeward.ItemRequest{Item: it.ID()})
	if err == nil { // what a power loss since made suspect is compared, not sampled
		err = set.refresh(now)
	}
	if err != nil {
		return err
	}
	sampled, err := it.sample(ctx, set)
	if err != nil {
		return err
	}
	it.List.FullReads, err = it.makeWhole(ctx, set, sampled, tell)
	return err
}

// mark ORs blocks into the map of the running side's capture.
func (it *Item) mark(ctx context.Context, req homeward.MarkRequest) error {
	req.Item, req.Generation = it.ID(), it.Generation
	_, err := it.Running.Agent.MarkChanged(ctx, req)
	return err
}

// becomeReplica takes the standby side's disks from its agent and gives them to
// its master target, which keeps their content as the branch.
func (it *Item) becomeReplica(ctx context.Context) error {
	_, err := it.Standby.Agent.Release(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		return err
	}
	_, err = it.Standby.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Copies(it.Standby),
		Generation: it.Generation, Base: it.Base, Branch: BranchName, Bootable: true, From: it.Running.ProcessName, Retention: it.Standby.Retention, Policy: it.Policy})
	return err
}

// unpinOlderBranches lets go what the standby side kept of the times it ran
// before: the branch of this leg, the newest, stands.
func (it *Item) unpinOlderBranches(ctx context.Context) error {
	list, err := it.Standby.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return err
	}
	var branches []homeward.Position // oldest first
	for _, p := range list.Points {
		if slices.Contains(p.Pins, branchPin) {
			branches = append(branches, p.Position)
		}
	}
	for _, p := range branches[:max(0, len(branches)-1)] {
		if _, err := it.Standby.Target.Unpin(ctx, homeward.PinRequest{Item: it.ID(), Point: p, Name: branchPin}); err != nil {
			return err
		}
	}
	return nil
}

func (it *Item) startReverse(ctx context.Context) error {
	if err := it.route(ctx, it.Running, it.Standby); err != nil {
		return err
	}
	_, err := it.Running.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn,
		Generation: it.Generation, Base: it.Base, Incomplete: true, Sink: it.Running.SinkURL, Policy: it.Policy})
	return err
}

func (it *Item) account(ctx context.Context, before homeward.CaptureReport, rev *Reversal) error {
	after, err := it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return err
	}
	rev.Sent = homeward.Traffic{
		DirtyBytes: after.Sent.DirtyBytes - before.Sent.DirtyBytes,
		PlainBytes: after.Sent.PlainBytes - before.Sent.PlainBytes,
		WireBytes:  after.Sent.WireBytes - before.Sent.WireBytes,
		FullReads:  after.Sent.FullReads - before.Sent.FullReads,
	}
	route, err := it.Running.Process.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return err
	}
	rev.WireBytes = route.WireBytes
	replica, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return err
	}
	rev.Changed = replica.AppliedBytes
	points, err := it.Standby.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return err
	}
	for _, p := range points.Points {
		for _, pin := range p.Pins {
			if pin == branchPin {
				rev.Branch = p
			}
		}
	}
	return nil
}
