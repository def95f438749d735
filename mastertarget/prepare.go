package mastertarget

import (
	"context"
	"errors"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/mastertarget/history"
)

// preparer begins and ends legs of an item.
type preparer struct{ *item }

// prepare begins a leg. The chain of earlier legs goes on: what the disks hold now
// becomes a boundary named Base, joined to the last one by a segment that holds
// what was overwritten in between (nothing, or what a promoted machine wrote over).
// So older points stay servable until retention drops them. Other disks than
// before hold nothing that the chain knows of: then it begins anew.
func (it preparer) prepare(ctx context.Context, req homeward.ReplicaRequest) error {
	const op = "prepare replica"
	if err := it.take(ctx, op); err != nil {
		return err
	}
	defer it.give()
	st := it.state()
	if err := it.fence.check(op, req.Generation); err != nil {
		return err
	}
	if st.State != "" && st.Leg.Generation == req.Generation {
		return it.prepareAgain(ctx, req, st)
	}
	if err := it.mayBegin(op, req, st); err != nil {
		return err
	}
	if st.fault != nil && slices.Equal(st.Leg.Disks, req.Disks) { // half a delta may be in the disks
		if err := it.reopen(ctx); err != nil {
			return err
		}
		st = it.state()
	}
	if err := it.openFor(ctx, req, st); err != nil {
		return err
	}
	if err := it.fence.raise(op, req.Generation); err != nil {
		return err
	}
	if err := it.beginLeg(op, req); err != nil {
		return err
	}
	if it.state().replica == nil { // the disks were only looked at
		return it.reopen(ctx)
	}
	return it.finishPrepare(ctx)
}

// prepareAgain answers the same request once more; a faulted replica is reopened.
func (it preparer) prepareAgain(ctx context.Context, req homeward.ReplicaRequest, st state) error {
	if st.Leg.Base != req.Base || !slices.Equal(st.Leg.Disks, req.Disks) {
		return homeward.Errorf("prepare replica", homeward.Conflict, it.subject(), "raise the generation to begin another leg",
			"generation %d was prepared with another base or other disks: %w", req.Generation.Number, &homeward.PositionError{True: st.tip.Position})
	}
	if st.fault != nil || st.replica == nil {
		if err := it.reopen(ctx); err != nil {
			return err
		}
	}
	return it.update("prepare replica", func(r *record) {
		r.Leg.Policy, r.Leg.Reserve, r.Leg.From = req.Policy, req.SpaceReserve, req.From
	})
}

// mayBegin refuses a leg that would overwrite what somebody still needs.
func (it preparer) mayBegin(op string, req homeward.ReplicaRequest, st state) error {
	conflict := func(fix, format string, args ...any) error {
		return homeward.Errorf(op, homeward.Conflict, it.subject(), fix, format, args...)
	}
	switch st.State {
	case "":
		return nil
	case homeward.ReplicaFailedOver, homeward.ReplicaPromoting:
		return conflict("promote it to the end, or cancel the failover", "a machine runs on a view of the replica (%s)", st.State)
	}
	if req.Generation.Number <= st.Leg.Generation.Number {
		return conflict("raise the generation", "generation %d began a leg already", st.Leg.Generation.Number)
	}
	was := st.Leg.Machine.Disks
	same := len(was) == len(req.Machine.Disks)
	for i := 0; same && i < len(was); i++ {
		same = was[i].ID == req.Machine.Disks[i].ID && was[i].Size <= req.Machine.Disks[i].Size
	}
	if !slices.Equal(st.Leg.Disks, req.Disks) && it.pins.held(st.tip.Boundary) {
		return conflict("unpin its points, or prepare it with the same disks", "points that are held rest on the disks of the leg before")
	}
	if !same {
		return conflict("forget the item first: its points are of other disks", "the machine's disks are not those of the leg before, or one has shrunk")
	}
	return nil
}

// openFor makes sure that the disks are there and as they should be, before
// anything is recorded. A replica that stays as it is stays open; what else ran
// here is cut off once the new disks are known to be good.
func (it preparer) openFor(ctx context.Context, req homeward.ReplicaRequest, st state) error {
	unchanged := st.replica != nil && st.fault == nil && st.State == homeward.ReplicaReplicating &&
		slices.Equal(st.Leg.Disks, req.Disks) && slices.Equal(diskInfos(st.Leg.Machine), diskInfos(req.Machine))
	if unchanged {
		return nil
	}
	fresh := req.Machine
	fresh.Disks = nil
	var refs []string
	for i, ref := range req.Disks {
		if st.replica == nil || !slices.Contains(st.Leg.Disks, ref) { // others are open here, and locked
			fresh.Disks, refs = append(fresh.Disks, req.Machine.Disks[i]), append(refs, ref)
		}
	}
	disks, err := openDisks(ctx, it.Openers, fresh, refs, req.Create)
	if err != nil {
		return err
	}
	if err := closeDisks(disks); err != nil {
		return err
	}
	return it.shut(ctx)
}

// beginLeg records the leg; finishPrepare carries it out, also after a crash.
func (it preparer) beginLeg(op string, req homeward.ReplicaRequest) error {
	st := it.state()
	if st.State == "" { // a Forget may have been cut off
		if err := it.wipe(); err != nil {
			return homeward.Wrap(err, op, it.subject())
		}
	}
	mark := homeward.Mark{Kind: homeward.MarkNone, At: it.now(), Label: "base"}
	if req.Bootable {
		mark.Kind = homeward.MarkCrash
	}
	return it.update(op, func(r *record) {
		promoted := r.State == homeward.ReplicaPromoted
		fresh := r.PastLost != "" || r.State != "" && !slices.Equal(r.Leg.Disks, req.Disks)
		*r = record{
			State: homeward.ReplicaReplicating,
			Leg: leg{
				Generation: req.Generation, Base: req.Base, Boundary: st.tip.Boundary + 1, Mark: mark,
				Machine: req.Machine, Disks: req.Disks, Branch: req.Branch, From: req.From,
				Policy: req.Policy, Reserve: req.SpaceReserve,
				Seal: promoted && !fresh, Fresh: fresh,
			},
			Diverged: r.Diverged, RolledBack: r.RolledBack,
		}
	})
}

// finishPrepare joins the base of the leg to the chain, pins it if it is a
// branch, and stores the position, which makes it so.
func (it preparer) finishPrepare(ctx context.Context) error {
	const op = "prepare replica"
	st := it.state()
	it.quiet()
	defer it.thinning.Unlock()
	err := st.replica.chain.DropNewer(st.tip.Boundary)
	if err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	next := st.tip.next(st.replica.chain.Next(), st.Leg.Base, st.Leg.Mark, st.Leg.Machine)
	next.AppliedBytes = 0
	if st.tip.Boundary > 0 && !st.Leg.Fresh {
		err = st.replica.join(ctx, st, next)
	} else {
		err = st.replica.chain.Restart(next.Boundary)
	}
	if err == nil { // pins of points that are gone, or of an attempt that was cut off
		err = it.pins.remove(func(n pin) bool {
			return n.Boundary != next.Boundary && (st.Leg.Fresh || n.Position == next.Position)
		})
	}
	if err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	if st.Leg.Branch != "" {
		if err := it.pins.add(pin{Boundary: next.Boundary, Position: next.Position, Name: branchPin + st.Leg.Branch}); err != nil {
			return homeward.Wrap(err, op, it.subject())
		}
	}
	if err := st.replica.cell.store(next); err != nil {
		return it.fail(op, err)
	}
	st.replica.chain.SetLast(nil)
	err = st.replica.past.close()
	st.replica.past = nil
	it.change(func() { it.tip = next })
	if err == nil {
		err = it.update(op, func(r *record) { r.Diverged, r.RolledBack = nil, nil })
	}
	if err == nil {
		err = it.sweep()
	}
	return err
}

// join writes the segment from the base of a new leg back to the tip before it.
func (r *replica) join(ctx context.Context, st state, next tip) error {
	w, err := r.chain.Create(history.Span{Newer: next.Boundary, Older: st.tip.Boundary, At: st.tip.At}, delta.Header{
		Item: st.Leg.Machine.Item, Disks: diskInfos(st.Leg.Machine),
		Follows: next.Position, To: st.tip.Position, Machine: &st.tip.Machine,
	})
	if err != nil {
		return err
	}
	for i, s := range r.past {
		err := s.ReadBlocks(0, s.Held().Blocks(), func(start int64, data []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return w.Add(i, start, padBlock(data, start, st.Leg.Machine.Disks[i].Size))
		})
		if err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	seg, err := w.Commit(st.tip.Mark)
	if err == nil {
		r.chain.Publish(seg)
	}
	return err
}

// padBlock makes the short last block of a disk as long as the disk, which has
// grown, has bytes for it: they were zero.
func padBlock(data []byte, start, size int64) []byte {
	whole := min(roundUp(int64(len(data))), size-start*block.Size)
	if whole == int64(len(data)) {
		return data
	}
	return append(append(make([]byte, 0, whole), data...), make([]byte, whole-int64(len(data)))...)
}
