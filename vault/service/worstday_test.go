package service

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// ended waits for a job, however it ends.
func (r *rig) endOf(t *testing.T, id string) vault.Job {
	t.Helper()
	for {
		j, err := r.Job(admin(t.Context()), id)
		must(t, err)
		if j.State.Ended() {
			return j
		}
		must(t, r.w.Tick(t.Context()))
	}
}

// The jobs of a restored vault wait until it is reconciled: a failover of yesterday
// must not go on today.
func TestRestored_JobsWait(t *testing.T) {
	r, ctx := newProtected(t)
	r.sites["away"].leave(true) // after its preflight: it is refused while the site is known to be away
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Failover, Input: vault.Input{Shutdown: true}})
	must(t, err)
	r.until(ctx, "the boot that fails", func() bool {
		j, err := r.Job(admin(ctx), j.ID)
		must(t, err)
		return r.item(ctx, "m0").State == vault.FailedOver && j.State == vault.JobRunning
	})
	must(t, r.store.SetSetting(ctx, store.SettingReadOnly, "restored from a backup"))
	r.close()
	r.open(ctx)
	r.sites["away"].leave(false)
	stored, err := r.store.Jobs.Get(ctx, j.ID)
	must(t, err)
	r.until(ctx, "a look at the item", func() bool { return !r.item(ctx, "m0").Replication.As.IsZero() })
	now, err := r.store.Jobs.Get(ctx, j.ID)
	must(t, err)
	if now.Revision != stored.Revision {
		t.Fatalf("the job goes on:\n%s", tree(now))
	}
	_, err = r.Reconcile(admin(ctx), true)
	must(t, err)
	r.wait(ctx, j.ID)
	r.is(ctx, "m0", vault.FailedOver, "away")
}

// A disable that failed before it began leaves an item that can be failed over.
func TestDisable_Refused(t *testing.T) {
	r, ctx := newProtected(t)
	r.absent.Store("mt-away", true)
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Disable})
	must(t, err)
	r.until(ctx, "a second try", func() bool {
		j, err = r.Job(admin(ctx), j.ID)
		must(t, err)
		return j.Tasks[0].Attempts > 1
	})
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobCancel})
	must(t, err)
	r.endOf(t, j.ID)
	r.is(ctx, "m0", vault.Protected, "home")
	r.absent.Delete("mt-away")
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.is(ctx, "m0", vault.FailedOver, "away")
}

// A clean-up by itself that fails is tried again.
func TestTestFailover_ExpiryFails(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.TestFailover, vault.Input{Network: "isolated", Lifetime: time.Hour})
	r.absent.Store("mt-away", true)
	r.clock.forward(2 * time.Hour)
	var j vault.Job
	r.until(ctx, "the clean-up", func() bool {
		page, err := r.Jobs(admin(ctx), vault.Query{Item: "m0"})
		must(t, err)
		j = page.Entries[0]
		return j.Action == vault.CleanUpTest
	})
	_, err := r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobCancel})
	must(t, err)
	r.endOf(t, j.ID)
	if it := r.item(ctx, "m0"); it.Test.State != vault.TestClosing {
		t.Fatalf("%+v", it.Test)
	}
	r.absent.Delete("mt-away")
	r.clock.forward(expireAgain)
	r.until(ctx, "the second clean-up", func() bool { return r.item(ctx, "m0").Test.State == vault.TestNone })
}

// What is known last keeps an alert open, also over a restart of the vault.
func TestAlerts_UnknownIsNotWell(t *testing.T) {
	r, ctx := newProtected(t)
	r.absent.Store("mt-away", true)
	must(t, r.monitor.alerts.settle(ctx, fromMonitor, "item m0", vault.Alert{Code: "rpo-exceeded", Severity: vault.SeverityCritical, Text: "too old"}))
	must(t, r.monitor.alerts.settle(ctx, fromTarget, "item m0", vault.Alert{Code: "replica-fault", Severity: vault.SeverityCritical, Text: "broken"}))
	r.close()
	r.open(ctx)
	it, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	h := heard{asked: true, agent: away(), process: away(), target: away()}
	must(t, r.monitor.settle(ctx, it, h, vault.Replication{}, time.Minute))
	if !r.alerted(ctx, "rpo-exceeded") || !r.alerted(ctx, "replica-fault") {
		t.Fatal("nobody can be asked, and the alerts are gone")
	}
	r.absent.Delete("mt-away")
	r.until(ctx, "all is well", func() bool { return !r.alerted(ctx, "rpo-exceeded") && !r.alerted(ctx, "replica-fault") })
}

func away() error { return homeward.Errorf("ask", homeward.Unavailable, "node", "", "it is away") }
