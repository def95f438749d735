package service

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

func (r *rig) reported(ctx context.Context, site string) homeward.Generation {
	r.t.Helper()
	report, err := r.side("mt-"+site).Target.Report(ctx, homeward.ItemRequest{Item: "m0"})
	must(r.t, err)
	return report.Generation
}

// Somebody recovers the machine at the master target with nothing else alive: the vault
// learns of it, says so, and what it does next is above that and wins.
func TestForeignGeneration_BreakGlass(t *testing.T) {
	r, ctx := newProtected(t)
	known := r.reported(ctx, "away")
	foreign := known.Next()
	r.close() // there is no vault
	_, err := r.side("mt-away").Target.FailOver(ctx, homeward.FailOverRequest{Item: "m0", Generation: foreign})
	must(t, err)
	r.open(ctx)
	r.until(ctx, "the alert", func() bool { return r.alerted(ctx, "generation-foreign") })
	it, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	if next := it.Record.Next; next.Number <= foreign.Number || next == foreign {
		t.Fatalf("the next one would be %v, and %v is in force", next, foreign)
	}
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.is(ctx, "m0", vault.FailedOver, "away")
	if now := r.reported(ctx, "away"); !now.Fences(foreign) {
		t.Errorf("%v is in force, and %v was", now, foreign)
	}
	r.until(ctx, "the end of the alert", func() bool { return !r.alerted(ctx, "generation-foreign") })
}

// A vault restored from yesterday's backup changes nothing before it has heard all nodes;
// then what it issues is above everything that was issued since.
func TestForeignGeneration_RestoredVault(t *testing.T) {
	r, ctx := newProtected(t)
	var backup bytes.Buffer
	must(t, r.store.Backup(ctx, &backup))
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	since := r.reported(ctx, "home")
	r.close()
	r.url = newFile(t)
	must(t, store.Restore(ctx, store.Config{URL: r.url, Log: slog.New(slog.DiscardHandler), Now: r.clock.now}, &backup))
	r.open(ctx)
	_, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Failover})
	kind(t, err, homeward.Conflict, "restored")
	_, err = r.Reconcile(admin(ctx), false)
	kind(t, err, homeward.Conflict, "mt-home")
	for n, err := range r.store.Nodes.All(ctx, vault.Query{}) {
		must(t, err)
		_, err = r.store.Nodes.Change(ctx, n.Name, func(n *vault.Node) error { n.Heartbeat = r.clock.now(); return nil })
		must(t, err)
	}
	status, err := r.Reconcile(admin(ctx), false)
	must(t, err)
	it, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	if status.ReadOnly || it.Record.Next.Number <= since.Number || !r.alerted(ctx, "generation-foreign") {
		t.Errorf("read-only %t; the next generation would be %v, and %v is in force", status.ReadOnly, it.Record.Next, since)
	}
}
