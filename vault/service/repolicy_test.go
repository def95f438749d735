package service

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// A changed policy reaches items that replicate, on both sides of their leg, and points
// go on coming; while a side cannot be told, an alert says so.
func TestPolicy_ReachesRunningLegs(t *testing.T) {
	r, ctx := newProtected(t)
	r.absent.Store("mt-away", true)
	p, err := r.Policy(admin(ctx), "gold")
	must(t, err)
	p.Settings.Retention, p.Settings.MinInterval = []homeward.Tier{{For: 20 * time.Millisecond}}, 60*time.Millisecond
	_, err = r.PutPolicy(admin(ctx), vault.PolicyRequest{Name: "gold", Settings: p.Settings})
	must(t, err)
	r.until(ctx, "the alert", func() bool { return r.alerted(ctx, "policy-pending") })
	before := r.item(ctx, "m0").Replication.Newest
	r.absent.Delete("mt-away")
	r.until(ctx, "newer points, and few of them", func() bool {
		now := r.item(ctx, "m0").Replication
		return now.Newest.After(before) && now.Points > 0 && now.Points <= 3
	})
	r.until(ctx, "the end of the alert", func() bool { return !r.alerted(ctx, "policy-pending") })
	if it, err := r.store.Items.Get(ctx, "m0"); err != nil || it.Record.Policy.MinInterval != p.Settings.MinInterval {
		t.Errorf("the record says %+v (%v)", it.Record.Policy, err)
	}
}
