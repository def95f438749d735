package recovery

import (
	"context"
	"fmt"
	"slices"

	"github.com/homeward-dr/homeward"
)

// RelocateRequest is for Relocate.
type RelocateRequest struct {
	// Datastore is where the standby side's site makes the new disks; empty: its default.
	Datastore string `json:"datastore,omitempty"`
}

// Doomed is what a relocation left behind at a side: the old machine and its disks.
// They hold writes that nobody else has, so they stay until the machine has run at
// that side again and the other one follows it (R169).
type Doomed struct {
	Side       string              `json:"side"`
	Machine    homeward.Ref        `json:"machine,omitzero"` // zero: the site knew none
	Disks      []string            `json:"disks"`
	Generation homeward.Generation `json:"generation"` // that relocated it
}

// Relocate is Reverse to an alternate location: the standby side's site makes new
// disks, and all there is at the running side travels (R36). The failback then creates
// a new machine there. The old machine is powered off and guarded, where it still is;
// it and its disks are Doomed. The points that rest on its disks go; one that a
// person holds stops it (Conflict). AwaitReverse goes on from here.
func (it *Item) Relocate(ctx context.Context, req RelocateRequest) (homeward.Estimate, error) {
	if it.State == Synchronizing && it.List.Op == opRelocate {
		return it.List.Predicted, nil
	}
	if err := it.mayRelocate(ctx); err != nil {
		return homeward.Estimate{}, err
	}
	if err := it.beginReversal(opRelocate); err != nil {
		return homeward.Estimate{}, err
	}
	err := it.powerOffOld(ctx)
	if err == nil {
		err = it.once(ctx, "give up old disks", func(func(homeward.Progress)) error { return it.giveUpOld(ctx) })
	}
	if err == nil {
		err = it.makeDisks(ctx, req.Datastore)
	}
	if err == nil {
		err = it.once(ctx, "mark everything", func(func(homeward.Progress)) (err error) {
			if it.List.Before, err = it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()}); err != nil {
				return err
			}
			it.List.Differ = it.wholeCopy()
			it.List.Predicted = it.List.Differ.estimate(it)
			return it.mark(ctx, homeward.MarkRequest{Disks: it.everything()})
		})
	}
	if err == nil {
		err = it.once(ctx, moveStep, func(func(homeward.Progress)) error { return it.move(ctx) })
	}
	if err == nil {
		err = it.step(ctx, "make new disks the replica", func(func(homeward.Progress)) error { return it.prepareCopy(ctx) })
	}
	if err == nil {
		err = it.step(ctx, "start reverse replication", func(func(homeward.Progress)) error { return it.startReverse(ctx) })
	}
	if err == nil {
		err = it.half()
	}
	return it.List.Predicted, err
}

const moveStep = "move to new disks"

// mayRelocate refuses what would leave two places to come home to.
func (it *Item) mayRelocate(ctx context.Context) error {
	if err := it.require(opRelocate, Committed); err != nil || it.moved() {
		return err
	}
	if it.Doomed != nil {
		return homeward.Errorf(opRelocate, homeward.Conflict, "item "+string(it.ID()),
			"reprotect to where it was relocated to, or remove what that left behind first", "what an earlier relocation left at %s is still there", it.Doomed.Side)
	}
	replica, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	switch {
	case homeward.KindOf(err) == homeward.NotFound:
		return nil
	case err == nil && replica.Applied.Generation == it.Generation:
		err = homeward.Errorf(opRelocate, homeward.Conflict, "item "+string(it.ID()), "reprotect to the end", "its old disks are the replica already")
	}
	return err
}

// moved reports whether an unfinished relocation has come as far as its new disks.
func (it *Item) moved() bool { return it.List.Op == opRelocate && it.List.Done[moveStep] }

// giveUpOld ends what the agent at the standby side has of the item: the machine
// will run on other disks there.
func (it *Item) giveUpOld(ctx context.Context) error {
	req := homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation}
	_, err := it.Standby.Agent.Handover(ctx, req)
	if err == nil {
		_, err = it.Standby.Agent.Release(ctx, req)
	}
	if homeward.KindOf(err) == homeward.NotFound { // it knows nothing of the item, as where the machine was lost
		return nil
	}
	return err
}

// makeDisks has the standby side's site make a disk for each of the machine's, under
// a name that no disk has had: what is there already would not be empty.
func (it *Item) makeDisks(ctx context.Context, where string) error {
	site := it.Standby.Site
	for i := len(it.List.Disks); i < len(it.Machine.Disks); i++ {
		d := it.Machine.Disks[i]
		err := it.once(ctx, "make disk "+string(d.ID), func(func(homeward.Progress)) error {
			key := fmt.Sprintf("disk-%s-%s-%s", it.ID(), d.ID, it.List.Next.ID)
			d.ID = diskName(d.ID, it.List.Next)
			op, err := finish(ctx, site)(site.CreateDisk(ctx, key, d, where))
			if err == nil {
				it.List.Disks = append(it.List.Disks, op.Result.Native)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// diskName is a disk's id with a part of the generation's.
func diskName(id homeward.DiskID, g homeward.Generation) homeward.DiskID {
	suffix := "-" + g.ID.String()[:8]
	return id[:min(len(id), 64-len(suffix))] + homeward.DiskID(suffix)
}

// move notes that the standby side's copies are the new disks.
func (it *Item) move(ctx context.Context) error {
	m, _, err := it.machineAt(ctx, it.Standby)
	if err != nil {
		return err
	}
	it.Doomed = &Doomed{Side: it.Standby.Name, Machine: m.Ref, Disks: slices.Clone(it.Copies(it.Standby)), Generation: it.List.Next}
	delete(it.Refs, it.Standby.Name)
	it.Moved[it.Standby.Name] = slices.Clone(it.List.Disks)
	return nil
}

// prepareCopy makes the new disks the replica. They are not created by the master
// target: where it does not see what the site made, it must say so.
func (it *Item) prepareCopy(ctx context.Context) error {
	_, err := it.Standby.Target.Unpin(ctx, homeward.PinRequest{Item: it.ID(), Name: branchPin})
	if err == nil || homeward.KindOf(err) == homeward.NotFound {
		_, err = it.Standby.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Copies(it.Standby),
			Generation: it.Generation, Base: it.Base, From: it.Running.ProcessName, Retention: it.Standby.Retention, Policy: it.Policy})
	}
	return err
}

// RemoveDoomed removes what a relocation left behind, and answers what that was;
// nil: nothing. Not before the machine runs at that side again, committed, and the
// other one is in sync (R169): until then it may hold what nobody else has.
func (it *Item) RemoveDoomed(ctx context.Context) (*Doomed, error) {
	const op = "remove what was left behind"
	d := it.Doomed
	if d == nil {
		return nil, nil
	}
	if err := it.require(op, Protected); err != nil {
		return nil, err
	}
	if it.Running.Name != d.Side || it.List.Op != "" {
		return nil, homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()),
			"fail back to "+d.Side+", commit and reprotect first (R169)", "the machine does not run at %s and replicate from there", d.Side)
	}
	site := it.Running.Site
	err := it.step(ctx, op, func(func(homeward.Progress)) error {
		if d.Machine != (homeward.Ref{}) && d.Machine != it.Refs[d.Side] {
			if err := it.remove(ctx, site, d.Machine); err != nil {
				return err
			}
		}
		for _, ref := range d.Disks {
			if slices.Contains(it.Copies(it.Running), ref) || slices.Contains(it.RunsOn, ref) {
				continue
			}
			_, err := finish(ctx, site)(site.DeleteDisk(ctx, fmt.Sprintf("delete-%s-%s", it.ID(), homeward.NewID()), homeward.Ref{Native: ref}))
			if err != nil && homeward.KindOf(err) != homeward.NotFound {
				return err
			}
		}
		it.Doomed = nil
		return it.save()
	})
	return d, err
}
