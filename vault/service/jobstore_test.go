package service

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// A job that was cancelled before it began leaves its item as it was; one that came
// into being with it is gone, and its machine free.
func TestJobStore_CancelledBeforeItBegan(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	s := &jobStore{r.core, func(homeward.ItemID) {}}
	cancelled := func(a vault.Action, in vault.Input) {
		t.Helper()
		req := vault.ActionRequest{Item: "m0", Action: a, Input: in, Machine: "home/m0"}
		_, asked, tr, err := r.recoveries.consider(admin(ctx), req)
		must(t, err)
		j := vault.Job{ID: homeward.NewID().String(), Scenario: tr.Scenario, Item: "m0", Action: a, State: vault.JobNotStarted}
		j.Input, err = asked.encode()
		must(t, err)
		must(t, s.Begin(ctx, &j))
		if it := r.item(ctx, "m0"); it.Job != j.ID {
			t.Errorf("%s: the item is held by %q", a, it.Job)
		}
		j.State, j.Ended = vault.JobCancelled, time.Now()
		must(t, s.End(ctx, &j))
	}
	cancelled(vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	_, err := r.Item(admin(ctx), "m0")
	kind(t, err, homeward.NotFound, "m0")
	r.do(ctx, "m0", vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	for a, in := range map[vault.Action]vault.Input{vault.TestFailover: {Network: "isolated"}, vault.Disable: {}, vault.Failover: {}} {
		cancelled(a, in)
		it := r.item(ctx, "m0")
		if it.State != vault.Protected || it.Test.State != vault.TestNone || it.Job != "" {
			t.Errorf("%s, cancelled: %s, test %s, job %q", a, it.State, it.Test.State, it.Job)
		}
	}
}

// A job may be retried though those that it began itself are younger.
func TestJobStore_NewestButForItsOwn(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	s := &jobStore{r.core, func(homeward.ItemID) {}}
	enter := func(parent string) vault.Job {
		j := vault.Job{ID: homeward.NewID().String(), Scenario: lifecycle.ScenarioFirstPoint, Item: "m0", Parent: parent, State: vault.JobFailed}
		must(t, r.store.Jobs.Insert(ctx, &j))
		return j
	}
	enter("")
	first := enter("")
	child := enter(first.ID)
	enter(child.ID)
	must(t, s.newest(ctx, first))
	enter("")
	kind(t, s.newest(ctx, first), homeward.Conflict, first.ID)
}

// An item that was disabled can be enabled again under its id: the site makes new
// disks, though it remembers the old ones.
func TestEnable_AgainAfterDisable(t *testing.T) {
	r, ctx := newProtected(t)
	_, err := r.sites["home"].PowerOff(ctx, "by hand", homeward.Ref{Native: "m0"}, homeward.Stop{Graceful: true})
	must(t, err)
	r.do(ctx, "m0", vault.Disable, vault.Input{})
	_, err = r.RefreshSite(admin(ctx), "home")
	must(t, err)
	r.do(ctx, "m0", vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	r.is(ctx, "m0", vault.Protected, "home")
	disks, away := r.item(ctx, "m0").Recovery.Disks, r.sites["away"]
	away.mu.Lock()
	defer away.mu.Unlock()
	if len(away.made) != 2*len(disks) {
		t.Errorf("the site was asked for %d disks, and the item had %d twice", len(away.made), len(disks))
	}
}
