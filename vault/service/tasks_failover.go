package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
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

func (w *work) failOver(ctx context.Context) error {
	_, err := w.item.FailOverWith(ctx, recovery.FailOverRequest{Point: w.asked.Chosen, Shutdown: w.asked.Input.Shutdown})
	return err
}

// shutdownSource stops the machine where it runs, if that is asked for and possible;
// the failover goes on without.
func shutdownSource(ctx context.Context, w *work) error {
	if !w.asked.Input.Shutdown {
		return w.run.Skip("not asked for")
	}
	if w.item.State == recovery.FailedOver {
		return nil
	}
	return w.until(ctx, stepShipLast, w.failOver)
}

// shipLastWrites takes along what is still on its way, for the newest point.
func shipLastWrites(ctx context.Context, w *work) error {
	if !w.asked.Chosen.IsZero() && !w.asked.Input.Shutdown {
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
	if err := w.stops(ctx, w.stored); err != nil {
		return err
	}
	return failPreflight(ctx, w)
}

func (w *work) failBack(ctx context.Context) error {
	return w.item.FailOverPlanned(ctx, w.asked.Chosen)
}

func shutdownActive(ctx context.Context, w *work) error {
	if w.item.State == recovery.FailedOver {
		return nil
	}
	return w.until(ctx, stepShipLast, w.failBack)
}

func drainActive(ctx context.Context, w *work) error {
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
	if w.item.State == recovery.Protected && w.item.List.Op == "" {
		return nil
	}
	return w.item.Cancel(ctx)
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
// never its disks.
func removeRecovery(ctx context.Context, w *work) error {
	return w.item.RemoveStandbyMachine(ctx)
}
