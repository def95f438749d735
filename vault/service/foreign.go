package service

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// Somebody else may have moved an item: an offline recovery at a master target, or a vault
// that this one was restored from a backup of. Its generation tells, or what its nodes say
// where no generation was raised. It is told of until the state found is adopted.

// learn takes note of a generation that others have raised: what the vault issues is above
// it.
func (a *alerts) learn(ctx context.Context, it vault.Item, reported homeward.Generation) (foreign bool, err error) {
	subject, r := "item "+string(it.ID), it.Record
	if !raised(r, reported) {
		return false, a.settle(ctx, fromNodes, subject)
	}
	if reported.Number >= r.Next.Number {
		_, err := a.store.Items.Change(ctx, string(it.ID), func(it *vault.Item) error {
			it.Record.Next = homeward.Generation{Number: reported.Number + 1, ID: homeward.NewID()}
			return nil
		})
		if err != nil {
			return true, err
		}
	}
	return true, a.settle(ctx, fromNodes, subject, vault.Alert{Code: "generation-foreign", Severity: vault.SeverityCritical,
		Text: fmt.Sprintf("nodes have generation %d in force, and the vault knows of %d: the item was moved by somebody else, as by an offline recovery, or after the backup that the vault was restored from",
			reported.Number, r.Generation.Number),
		Remedy: adoptRemedy(it.ID) + "; whatever else the vault does is above that generation and wins"})
}

// raised reports whether a generation is another's.
func raised(r *recovery.Record, reported homeward.Generation) bool {
	return reported.Fences(r.Generation) && reported != r.Next
}

func adoptRemedy(id homeward.ItemID) string {
	return "see what is found with 'homeward item adopt " + string(id) + " --dry-run', then adopt it"
}

// foreign reports whether the nodes say otherwise than is recorded.
func (c *core) foreign(it vault.Item, h heard) lifecycle.Truth {
	switch {
	case it.Record == nil:
		return lifecycle.No
	case raised(it.Record, c.registry.MaxGeneration(it.ID)) || h.otherwise(it) != "":
		return lifecycle.Yes
	case h.asked && answered(h.agent) && answered(h.target):
		return lifecycle.No
	}
	return lifecycle.Unknown
}

// otherwise is how what was heard contradicts the record of an item on which nothing
// works, though no generation was raised; empty: it does not.
func (h heard) otherwise(it vault.Item) string {
	r := it.Record
	if it.Job != "" || r.List.Op != "" {
		return ""
	}
	c := h.capture
	ships := h.agent == nil && c.State == homeward.CaptureRunning && c.Base.Generation == r.Generation
	switch r.State {
	case recovery.FailedOver:
		if s := h.replica.State; h.target == nil && (s == homeward.ReplicaPromoting || s == homeward.ReplicaPromoted) {
			return "its failover is recorded as not committed, and its master target says " + string(s)
		}
	case recovery.Committed:
		if ships && c.Sink != "" {
			return "it is recorded as not protected, and its agent ships to " + c.Sink
		}
	case recovery.Protected, recovery.Synchronizing:
		if ships && r.Paused != (c.Sink == "") {
			return fmt.Sprintf("it is recorded as paused: %t, and its agent ships to %q", r.Paused, c.Sink)
		}
	}
	return ""
}

// tellOtherwise settles the alert that follows. What was heard may be older than what the
// item has become meanwhile: then the next round tells.
func (m *monitor) tellOtherwise(ctx context.Context, it vault.Item, h heard) error {
	subject, why := "item "+string(it.ID), h.otherwise(it)
	if why == "" {
		return m.alerts.settle(ctx, fromRecord, subject)
	}
	now, err := m.store.Items.Get(ctx, string(it.ID))
	if err != nil || now.Revision != it.Revision {
		return err
	}
	return m.alerts.settle(ctx, fromRecord, subject, vault.Alert{Code: "state-foreign", Severity: vault.SeverityCritical, Text: why, Remedy: adoptRemedy(it.ID)})
}
