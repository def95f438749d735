package recovery

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
)

// Cancel gives a failover up before it is committed: the overlay is dropped, and
// the side that ran before runs and replicates again from where it stood. A
// failover that did not come as far as to serve its point can be cancelled too;
// then the machine is brought back even if the standby side cannot be told, and
// Cancel, called again until it succeeds, tells it later. A synchronization that the
// failover interrupted goes on. If the replica went on in
// between, by what was still on its way, the machine is started once more for that, and
// what its agent cannot account for waits for a Resync.
func (it *Item) Cancel(ctx context.Context) error {
	raised := it.State == FailedOver
	switch it.List.Op {
	case opFailOver, opFailBack, opCancel:
		if err := it.require(opCancel, FailedOver, Protected, Synchronizing); err != nil {
			return err
		}
	default:
		if err := it.require(opCancel, FailedOver); err != nil {
			return err
		}
	}
	if raised {
		if err := it.notCommitting(ctx, opCancel); err != nil {
			return err
		}
	}
	return it.cancel(ctx, raised)
}

func (it *Item) cancel(ctx context.Context, raised bool) error {
	next, err := it.begin(opCancel, homeward.Position{})
	if err != nil {
		return err
	}
	if raised {
		if err := it.retireStandby(ctx, next); err != nil {
			return err
		}
	}
	// Nothing runs at the standby side. If it was not raised, nothing ever did.
	untold := it.once(ctx, "drop overlay", func(func(homeward.Progress)) error {
		replica, err := it.Standby.Target.CancelFailOver(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: next})
		if err == nil {
			it.List.Drained = replica.Applied
		}
		return err
	})
	if untold != nil && raised {
		return untold
	}
	resumed := it.Generation == next // by an attempt that could not tell the standby side
	if resumed && untold == nil && it.List.Drained.Generation != next && it.List.Drained != it.Base {
		// The replica stands elsewhere than was thought: what the process server still held
		// arrived there. Once more, under another generation.
		if it.Log != nil {
			it.Log.Warn("the machine is stopped and started once more: its replica went on while the standby side could not be told",
				"item", it.ID(), "began at", it.Base, "stands at", it.List.Drained)
		}
		it.List = Unfinished{}
		return it.cancel(ctx, raised)
	}
	if !raised || !it.Planned { // it may still run under the old generation
		err := it.once(ctx, "hand over running side", func(func(homeward.Progress)) error { return it.retireRunning(ctx, next) })
		if err != nil {
			return err
		}
	}
	if !resumed {
		it.Generation, it.Base = next, it.List.Drained
		if err := it.save(); err != nil {
			return err
		}
	}
	if err := it.resumeRunning(ctx); err != nil {
		return err
	}
	if untold != nil {
		return homeward.Errorf(opCancel, homeward.KindOf(untold), "item "+string(it.ID()),
			"the machine runs again and is not protected: cancel once more when the standby side answers", "%w", untold)
	}
	return it.goOn()
}

// retireRunning stops the machine at the running side and ends its leg there.
func (it *Item) retireRunning(ctx context.Context, next homeward.Generation) error {
	if err := it.shutdown(ctx, it.Running); err != nil {
		return err
	}
	changes, err := it.Running.Agent.Handover(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: next})
	if err == nil && it.List.Drained.IsZero() { // the standby side could not be asked where it stands
		it.List.Drained = changes.Since
	}
	return err
}

// resumeRunning begins a leg at the running side, where one was handed over, and
// boots the machine there.
func (it *Item) resumeRunning(ctx context.Context) error {
	var report homeward.CaptureReport
	err := it.step(ctx, "resume capture", func(func(homeward.Progress)) (err error) {
		if err = it.route(ctx, it.Running, it.Standby); err != nil {
			return err
		}
		// What was not compared is in no map: no mark of this leg is bootable before it is.
		req := homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn,
			Generation: it.Generation, Base: it.Base, Incomplete: it.Interrupted != nil && !it.Interrupted.Done[compareStep],
			Sink: it.Running.SinkURL, Policy: it.Policy}
		deadline := time.Now().Add(hangUp) // the agent's own connection to its disks, which it has ended, may look alive
		return poll(ctx, func() (bool, error) {
			report, err = it.Running.Agent.Prepare(ctx, req)
			if homeward.KindOf(err) == homeward.InUse && time.Now().Before(deadline) {
				return false, nil
			}
			return true, err
		})
	})
	if err != nil {
		return err
	}
	it.Paused = false
	return it.step(ctx, "boot machine", func(func(homeward.Progress)) error { return it.boot(ctx, it.Running, report) })
}

// notCommitting refuses to give up a view that becomes the replica: it is asked
// before anything is stopped.
func (it *Item) notCommitting(ctx context.Context, op string) error {
	replica, err := it.lookAtStandby(ctx)
	if err != nil {
		return err
	}
	if replica.State == homeward.ReplicaPromoting || replica.State == homeward.ReplicaPromoted {
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "commit it to the end, then fail back", "its commit has begun")
	}
	return nil
}

// retireStandby stops the failed-over machine and gives up its capture.
func (it *Item) retireStandby(ctx context.Context, next homeward.Generation) error {
	req := homeward.GenerationRequest{Item: it.ID(), Generation: next}
	err := it.once(ctx, "stop failed-over machine", func(func(homeward.Progress)) error { return it.keepOff(ctx, it.Standby) })
	if err == nil {
		err = it.once(ctx, "end its capture", func(func(homeward.Progress)) error {
			_, err := it.Standby.Agent.Handover(ctx, req)
			if homeward.KindOf(err) == homeward.NotFound { // it never began, or is given up already
				return nil
			}
			return err
		})
	}
	if err == nil {
		err = it.once(ctx, "give up its capture", func(func(homeward.Progress)) error {
			_, err := it.Standby.Agent.Release(ctx, req)
			return err
		})
	}
	return err
}
