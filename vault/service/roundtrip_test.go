package service

import (
	"context"
	"slices"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// Two machines go there and come home, through the vault alone.
func TestRoundTrip(t *testing.T) { onBoth(t, roundTrip) }

func roundTrip(t *testing.T, url string) {
	r, ctx := newRigOn(t, url, world.Options{Machines: [][]int64{{1 << 20}, {512 << 10, 512 << 10}}})
	for _, id := range []homeward.ItemID{"m0", "m1"} {
		r.do(ctx, id, vault.Enable, vault.Input{Target: "away", Policy: "gold"})
		r.is(ctx, id, vault.Protected, "home")
	}
	for _, id := range []homeward.ItemID{"m0", "m1"} {
		r.do(ctx, id, vault.Failover, vault.Input{})
		r.is(ctx, id, vault.FailedOver, "away")
		r.do(ctx, id, vault.Commit, vault.Input{})
		r.is(ctx, id, vault.Committed, "away")
		j := r.do(ctx, id, vault.Reprotect, vault.Input{})
		if !slices.ContainsFunc(j.Tasks, func(t vault.Task) bool {
			return t.Name == "CommitFailoverTask" && t.State == vault.TaskSkipped
		}) {
			t.Errorf("the commit is not shown as skipped:\n%s", tree(j))
		}
		r.is(ctx, id, vault.Protected, "away")
		r.do(ctx, id, vault.FailbackAction, vault.Input{})
		r.is(ctx, id, vault.FailedOver, "home")
		r.do(ctx, id, vault.Commit, vault.Input{})
		r.is(ctx, id, vault.Committed, "home")
		r.do(ctx, id, vault.Reprotect, vault.Input{})
		r.is(ctx, id, vault.Protected, "home")
	}
}

// is checks where an item stands.
func (r *rig) is(ctx context.Context, id homeward.ItemID, s vault.State, site string) {
	r.t.Helper()
	if it := r.item(ctx, id); it.State != s || it.ActiveSite != site {
		r.t.Fatalf("item %s is %s at %s, expected %s at %s", id, it.State, it.ActiveSite, s, site)
	}
}
