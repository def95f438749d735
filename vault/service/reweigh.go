package service

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// fromPriority is who raises what is said of priorities that do not govern yet.
const fromPriority = "priority"

// weightOf is an item's part of bandwidth by its priority: 0 (first) weighs ten times
// what 9 (last) does.
func weightOf(priority int) int { return homeward.MaxWeight - priority }

// reweighPatience is for who works on the item; a job may do so for hours.
const reweighPatience = 2 * time.Second

// reweigh has the process server of the leg in force share its bandwidth by the item's
// priority of now; done is false where somebody else works on the item. Who waits for
// its first recovery point is interrupted for it, and goes on.
func (s *workshop) reweigh(ctx context.Context, id homeward.ItemID) (done bool, err error) {
	waiting, cancel := context.WithTimeout(ctx, reweighPatience)
	release, err := s.owners.claim(waiting, id)
	cancel()
	if err != nil {
		return false, ctx.Err()
	}
	defer release()
	stored, err := s.store.Items.Get(ctx, string(id))
	if err != nil || !steady(stored) {
		return false, err
	}
	it, err := s.load(ctx, stored)
	if err != nil {
		return false, err
	}
	return true, it.Reroute(ctx)
}

// steady reports whether the leg in force stays: nothing that turns or ends it has begun.
func steady(it vault.Item) bool {
	if it.Record == nil || it.State == vault.Disabling || !replicates(it) {
		return false
	}
	return it.Record.List.Op == "" || it.Record.State == recovery.Synchronizing
}

// weigh sees that an item has the bandwidth of its priority, as its process server says.
// Where that cannot be, an alert says so and it is tried again.
func (k *keeper) weigh(ctx context.Context, it vault.Item) error {
	subject, want := "item "+string(it.ID), weightOf(it.Replication.Priority)
	now, known := k.monitor.last(it.ID)
	known = known && now.process == nil
	switch {
	case steady(it) && !known: // who cannot be asked may have it or not
		return nil
	case !steady(it), cmp.Or(now.route.Weight, homeward.DefaultWeight) == want:
		return k.alerts.settle(ctx, fromPriority, subject)
	}
	pending := vault.Alert{Code: "priority-pending", Severity: vault.SeverityWarning,
		Text:   fmt.Sprintf("its priority is %d, and its process server gives it bandwidth as to priority %d", it.Replication.Priority, homeward.MaxWeight-cmp.Or(now.route.Weight, homeward.DefaultWeight)),
		Remedy: "nothing to do: the vault goes on trying"}
	if now.route.Weight == 0 {
		pending.Remedy = "update process server " + endOf(&it, it.ActiveSite).ProcessServer + ": its version does not know priorities"
		return k.alerts.settle(ctx, fromPriority, subject, pending)
	}
	done, err := k.reweigh(ctx, it.ID)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		pending.Text += ": " + err.Error()
		return k.alerts.settle(ctx, fromPriority, subject, pending)
	case done:
		k.log.Info("an item has the bandwidth of its changed priority", "item", it.ID, "priority", it.Replication.Priority)
	}
	return nil
}
