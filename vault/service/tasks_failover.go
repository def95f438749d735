package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// Steps of recovery's lists at which the next task of a job begins.
const (
	stepShipLast   = "ship last writes"
	stepServePoint = "serve point"
	stepBootTest   = "boot test machine"
)

// failPreflight looks for what the failover depends on: the agent that will capture,
// the master target, and the point.
func failPreflight(ctx context.Context, w *work) error {
	site := w.stored.Direction.To
	if err := w.chooseAgent(ctx, site); err != nil {
		return err
	}
	end := endOf(&w.stored, site)
	if err := w.placement.checkNode(ctx, "fail over", fieldMasterTarget, end.MasterTarget, pki.MasterTarget, site); err != nil {
		return err
	}
	_, err := w.item.Standby.Target.Report(ctx, homeward.ItemRequest{Item: w.id()})
	return err
}

// chooseAgent sees to it that the side that will run has an agent to capture there.
func (w *work) chooseAgent(ctx context.Context, site string) error {
	end := endOf(&w.stored, site)
	name := w.asked.Input.Agent
	if name == "" {
		name = end.Agent
	}
	if name == "" {
		nodes, err := w.placement.nodesOf(ctx, pki.Agent, site)
		if err != nil {
			return err
		}
		name = firstReady(nodes)
	}
	if err := w.placement.checkNode(ctx, "fail over", "agent", name, pki.Agent, site); err != nil {
		return err
	}
	if name == end.Agent {
		return nil
	}
	return w.change(ctx, func(it *vault.Item) { endOf(it, site).Agent = name })
}

// interrupts reports whether the job gives up a side amid its synchronization, for a
// point from before that. The side is always asked to stop, and for nothing else.
func (w *work) interrupts() bool { return w.asked.Facts.State == vault.Synchronizing }

func (w *work) shutsDown() bool {
	return w.asked.Input.Shutdown || w.interrupts() || w.run.Job().Action == vault.FailbackAction
}

func (w *work) failOver(ctx context.Context) error {
	_, err := w.item.FailOverWith(ctx, recovery.FailOverRequest{Point: w.asked.Chosen, Shutdown: w.shutsDown()})
	return err
}

// shutdownSource stops the machine where it runs, if that is asked for and possible;
// the failover goes on without.
func shutdownSource(ctx context.Context, w *work) error {
	if !w.shutsDown() {
		return w.run.Skip("not asked for")
	}
	return w.leave(ctx, w.failOver)
}

// leave runs a list as far as the source is shut down.
func (w *work) leave(ctx context.Context, list func(context.Context) error) error {
	switch {
	case w.item.State == recovery.FailedOver:
		return nil
	case w.interrupts():
		return w.until(ctx, stepServePoint, list)
	}
	return w.until(ctx, stepShipLast, list)
}

// shipLastWrites takes along what is still on its way, for the newest point.
func shipLastWrites(ctx context.Context, w *work) error {
	if w.interrupts() || !w.asked.Chosen.IsZero() && !w.shutsDown() {
		return w.run.Skip("an older point was chosen")
	}
	if w.item.State == recovery.FailedOver {
		return nil
	}
	return w.until(ctx, stepServePoint, w.failOver)
}

func startFailover(ctx context.Context, w *work) error {
	if w.item.State == recovery.FailedOver && w.item.List.Op == "" {
		return nil
	}
	if w.run.Job().Action == vault.FailbackAction {
		return w.failBack(ctx)
	}
	return w.failOver(ctx)
}

// backPreflight is the last look before the machine is shut down.
func backPreflight(ctx context.Context, w *work) error {
	if !unplanned(w.asked.Input, w.asked.Facts) {
		if err := w.stops(ctx, w.stored); err != nil {
			return err
		}
	}
	return failPreflight(ctx, w)
}

// unplanned reports whether a failback goes on without what its source does not do: by
// force, for a point from before, or because it was begun so.
func unplanned(in vault.Input, f lifecycle.Facts) bool {
	return in.Force || f.State == vault.Synchronizing || f.Unfinished == listFailOver
}

func (w *work) failBack(ctx context.Context) error {
	if unplanned(w.asked.Input, w.asked.Facts) {
		return w.failOver(ctx)
	}
	return w.item.FailOverPlanned(ctx, w.asked.Chosen)
}

func shutdownActive(ctx context.Context, w *work) error { return w.leave(ctx, w.failBack) }

func drainActive(ctx context.Context, w *work) error {
	if w.interrupts() {
		return w.run.Skip("an older point was chosen")
	}
	if w.item.State == recovery.FailedOver {
		return nil
	}
	return w.until(ctx, stepServePoint, w.failBack)
}

// changePoint runs the failed-over machine from another point.
func changePoint(ctx context.Context, w *work) error { return w.item.ChangePoint(ctx, w.asked.Chosen) }

// pointChanged keeps a task that is done again from dropping what the machine has
// written since.
func pointChanged(_ context.Context, w *work) (bool, error) {
	return w.item.List.Op == "" && w.item.Point.Position == w.asked.Chosen, nil
}

// cancelPreflight is standing where something was served. Else the machine is brought
// back also if the other side cannot be told: it may be off by now, and run nowhere.
func cancelPreflight(ctx context.Context, w *work) error {
	if w.item.State != recovery.FailedOver {
		return nil
	}
	return standing()(ctx, w)
}

func cancelFailover(ctx context.Context, w *work) error {
	done := w.item.State == recovery.Protected && w.item.List.Op == "" ||
		w.item.State == recovery.Synchronizing && w.item.Interrupted == nil
	if !done {
		if err := w.item.Cancel(ctx); err != nil {
			return err
		}
	}
	if w.item.State == recovery.Synchronizing { // as before: somebody waits for its first point
		return w.await(ctx)
	}
	return nil
}

func commit(ctx context.Context, w *work) error {
	if w.item.State == recovery.Committed {
		return nil
	}
	return w.item.Commit(ctx)
}

// commitFirst commits what another action presupposes.
func commitFirst(ctx context.Context, w *work) error {
	if w.item.State != recovery.FailedOver {
		return w.run.Skip("it is committed already")
	}
	return w.item.Commit(ctx)
}

// removeRecovery removes the machine that a committed failback has left (R118),
// never its disks. A site that was lost need not answer: reprotect keeps the machine off.
func removeRecovery(ctx context.Context, w *work) error {
	err := w.item.RemoveStandbyMachine(ctx)
	if !w.item.Planned && homeward.Retryable(err) && ctx.Err() == nil {
		return w.run.Skip("the site that was given up does not answer; its machine stays, and is kept off when it returns")
	}
	return err
}
