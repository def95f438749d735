package service

import (
	"context"
	"fmt"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// disable ends protection. What cannot be removed is told; a machine that runs goes
// on running on its agent's disks until it is shut down.
func disable(ctx context.Context, w *work) error {
	if err := w.removeLeft(ctx, w.item); err != nil && (!homeward.Retryable(err) || ctx.Err() != nil) {
		return err // who cannot be told is told of below
	}
	left, err := w.item.Disable(ctx, w.asked.Input.Force)
	if err != nil {
		return err
	}
	subject := "item " + string(w.id())
	if len(left) == 0 {
		return w.alerts.settle(ctx, fromJobs, subject)
	}
	return w.alerts.settle(ctx, fromJobs, subject, leftBehind("disabling", left))
}

// leftBehind tells of what could not be taken back.
func leftBehind(by string, left []recovery.Leftover) vault.Alert {
	var says []string
	for _, l := range left {
		says = append(says, fmt.Sprintf("at %s: %s (%s); %s", l.Where, l.What, l.Why, l.Remedy))
	}
	return vault.Alert{Code: "left-behind", Severity: vault.SeverityWarning,
		Text: by + " has left something behind: " + strings.Join(says, "; "), Remedy: "remove it as it says, or disable the item once more"}
}

// removeReplicas removes the disks that were made for the replica, and then the item.
// One whose machine still runs on its agent's disks stays, to be disabled once more.
func removeReplicas(ctx context.Context, w *work) error {
	if w.item.Attached {
		return w.run.Skip("the machine runs on its agent's disks: shut it down, then disable the item once more")
	}
	if w.stored.State != vault.Migrated && w.item.Running.Name == w.stored.Original.Site {
		if err := w.deleteReplica(ctx); err != nil {
			return err
		}
	}
	if err := w.store.DropScores(ctx, w.id()); err != nil {
		return err
	}
	for _, source := range []string{fromMonitor, fromAgent, fromTarget, fromFence, fromNodes, fromKeeper, fromDoubt, fromPolicy, fromLeft} {
		if err := w.alerts.settle(ctx, source, "item "+string(w.id())); err != nil {
			return err
		}
	}
	machines, err := w.machines(ctx)
	if err != nil {
		return err
	}
	for _, id := range machines {
		if err := w.alerts.settle(ctx, fromInventory, "machine "+id); err != nil {
			return err
		}
	}
	return w.durably(func() error {
		return w.store.Tx(ctx, func(ctx context.Context) error { return w.forget(ctx) })
	})
}

// machines are the ids of those that are the item's.
func (w *work) machines(ctx context.Context) (ids []string, err error) {
	for m, err := range w.store.Machines.All(ctx, vault.Query{Item: string(w.id())}) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// forget removes the item, and lets its machines go.
func (w *work) forget(ctx context.Context) error {
	ids, err := w.machines(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, err := w.store.Machines.Change(ctx, id, func(m *vault.Machine) error {
			m.Item, m.Findings = "", nil
			return nil
		})
		if err != nil {
			return err
		}
	}
	err = w.store.Items.Delete(ctx, string(w.id()))
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	return err
}

// deleteReplica deletes the disks that CreateTarget had made. Nobody runs on them:
// the machine runs at its original site.
func (w *work) deleteReplica(ctx context.Context) error {
	end := w.stored.Recovery
	site, err := w.roles.Site(end.Site)
	if err != nil {
		return err
	}
	var left error
	for i, ref := range w.item.Copies(w.item.Standby) {
		_, err := w.finish(ctx, site)(site.DeleteDisk(ctx, "delete-"+w.run.Job().ID+"-"+fmt.Sprint(i), homeward.Ref{Native: ref}))
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			left = err
		}
	}
	if left != nil && w.asked.Input.Force && ctx.Err() == nil { // they stay in the ledger
		w.log.Warn("disks of a replica are left behind", "item", w.id(), "site", end.Site, "error", left)
		return nil
	}
	if left != nil {
		return left
	}
	if err := w.run.Gone(ctx, artefactID(w.id(), "disk", end.Site, disksAt(w.id(), end.MasterTarget))); err != nil {
		return err
	}
	for _, d := range w.item.Machine.Disks {
		if err := w.run.Gone(ctx, artefactID(w.id(), "disk", end.Site, string(replicaName(w.id(), d.ID)))); err != nil {
			return err
		}
	}
	return nil
}

// migrate ends the way back: from now on there is none (R25).
func migrate(ctx context.Context, w *work) error {
	return w.change(ctx, func(it *vault.Item) { it.State = vault.Migrated })
}
