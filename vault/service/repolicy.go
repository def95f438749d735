package service

import (
	"context"
	"reflect"

	"github.com/homeward-dr/homeward/vault"
)

// fromPolicy is who raises what is said of policies that items do not replicate by yet.
const fromPolicy = "policy"

// repolicy has an item replicate by its policy as it is now. Where that cannot be told,
// an alert says so and it is tried again.
func (k *keeper) repolicy(ctx context.Context, stored vault.Item) error {
	subject := "item " + string(stored.ID)
	if !replicates(stored) || stored.Record.List.Op != "" {
		return nil // its next leg takes it
	}
	want, err := k.settingsOf(ctx, stored, stored.Direction.To)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(want.WithDefaults(), stored.Record.Policy.WithDefaults()) {
		return k.alerts.settle(ctx, fromPolicy, subject)
	}
	it, err := k.load(ctx, stored)
	if err != nil {
		return err
	}
	why := it.Repolicy(ctx, want)
	if why == nil {
		k.log.Info("an item replicates by its changed policy", "item", stored.ID)
		return k.alerts.settle(ctx, fromPolicy, subject)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return k.alerts.settle(ctx, fromPolicy, subject, vault.Alert{Code: "policy-pending", Severity: vault.SeverityWarning,
		Text:   "its policy was changed, and it replicates by the one before: " + why.Error(),
		Remedy: "bring its agent and master target back: it takes effect as soon as they answer, and with its next leg at the latest"})
}
