package service

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/test/world"
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
	r.until(ctx, "a look at the item", func() bool { // its agent need not know it yet
		return !strings.Contains(r.item(ctx, "m0").Replication.Why, "have not been asked")
	})
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
	r.clock.forward(expireAgain)
	r.until(ctx, "an alert", func() bool { return r.alerted(ctx, "test-overdue") })
	r.absent.Delete("mt-away")
	r.clock.forward(2 * expireAgain)
	r.until(ctx, "another clean-up", func() bool { return r.item(ctx, "m0").Test.State == vault.TestNone })
	r.until(ctx, "the end of the alert", func() bool { return !r.alerted(ctx, "test-overdue") })
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

// Alerts about a machine go when nobody protects it any more, and disks that could not
// be deleted stay in the ledger.
func TestDisable_Leftovers(t *testing.T) {
	r, ctx := newProtected(t)
	must(t, r.monitor.alerts.settle(ctx, fromInventory, "machine home/m0", vault.Alert{Code: diskAdded, Severity: vault.SeverityWarning, Text: "a disk"}))
	_, err := r.w.Home.Hyper.PowerOff(ctx, "off", homeward.Ref{Native: "m0"}, homeward.Stop{})
	must(t, err)
	r.sites["away"].leave(true)
	r.do(ctx, "m0", vault.Disable, vault.Input{Force: true})
	if _, err := r.Item(admin(ctx), "m0"); homeward.KindOf(err) != homeward.NotFound {
		t.Fatal(err)
	}
	if r.alerted(ctx, diskAdded) {
		t.Error("the alert about a disk stays")
	}
	left, err := r.Artefacts(admin(ctx), vault.Query{})
	must(t, err)
	if len(left.Entries) == 0 {
		t.Error("the disks that are still there are in no list")
	}
}

// A site that does not list its machines does not undo an enable.
func TestEnable_SiteBlind(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	s := r.sites["away"]
	s.mu.Lock()
	s.blind = true
	s.mu.Unlock()
	j := r.do(ctx, "m0", vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	if last := j.Tasks[len(j.Tasks)-1]; last.State != vault.TaskSkipped {
		t.Errorf("%+v", last)
	}
	r.is(ctx, "m0", vault.Protected, "home")
}

// A pause that waited while a failback began does not keep its last writes from it.
func TestPause_TooLate(t *testing.T) {
	r, ctx := newProtected(t)
	_, err := r.store.Items.Change(ctx, "m0", func(it *vault.Item) error { it.Job = "failback"; return nil })
	must(t, err)
	err = r.recoveries.setPaused(ctx, vault.ActionRequest{Item: "m0", Action: vault.Pause})
	kind(t, err, homeward.Conflict, "another job")
}

// What a job has used cannot be corrected any more, and nobody is told that it was.
func TestRetry_TooLate(t *testing.T) {
	r, ctx := newProtected(t)
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Failover,
		Input: vault.Input{Probe: &vault.Probe{TCP: "127.0.0.1:1", Timeout: 50 * time.Millisecond}}})
	must(t, err)
	r.until(ctx, "the suspension", func() bool {
		j, err = r.Job(admin(ctx), j.ID)
		must(t, err)
		return j.State == vault.JobPaused
	})
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobRetry, Input: json.RawMessage(`{"point":"-1ms"}`)})
	kind(t, err, homeward.Conflict, "point")
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobSkip})
	must(t, err)
	r.wait(ctx, j.ID)
}

// A master target that may have a replica is not left, and no other one is chosen.
func TestReprotect_HalfDoneIsBound(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	other := r.node(pki.MasterTarget, "mt", "home")
	other.Name = "mt-2-home"
	must(t, r.store.Nodes.Insert(ctx, &other))
	req := vault.ActionRequest{Item: "m0", Action: vault.Reprotect, Input: vault.Input{MasterTarget: "mt-2-home"}}
	for _, done := range []bool{false, true} {
		_, err := r.store.Items.Change(ctx, "m0", func(it *vault.Item) error {
			it.Original.MasterTarget = "mt-home"
			it.Record.List = recovery.Unfinished{Op: "reprotect", Done: map[string]bool{"join maps": done}}
			return nil
		})
		must(t, err)
		it, err := r.store.Items.Get(ctx, "m0")
		must(t, err)
		err = r.recoveries.checkWay(ctx, it, req)
		if (homeward.KindOf(err) == homeward.Conflict) != done {
			t.Errorf("joined: %t; chosen anew: %v", done, err)
		}
		_, err = r.recoveries.moveOf(ctx, vault.ReassociateRequest{From: "mt-home", To: "mt-2-home"})
		if (homeward.KindOf(err) == homeward.Conflict) != done {
			t.Errorf("joined: %t; moved: %v", done, err)
		}
	}
}

// The age of the newest point does not depend on the agent's clock.
func TestReplication_Skew(t *testing.T) {
	now := time.Unix(10000, 0)
	for _, skew := range []time.Duration{0, time.Hour, -time.Hour} {
		told := now.Add(skew - 90*time.Second)
		at := homeward.Point{At: told}
		for _, h := range []heard{{replica: homeward.ReplicaReport{NewestPoint: at}}, {capture: homeward.CaptureReport{AppliedAt: told}, target: away()}} {
			r := h.replication(vault.Replication{}, true, now, skew)
			if r.RPO != 90 || len(late(vault.Item{State: vault.Protected}, r, time.Minute, now)) != 1 || len(late(vault.Item{State: vault.Protected}, r, 2*time.Minute, now)) != 0 {
				t.Errorf("%v ahead: %+v", skew, r)
			}
		}
	}
}

// A disaster does not wait for a test failover to be cleaned up; what follows does.
func TestFailover_TestOpen(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.TestFailover, vault.Input{Network: "isolated"})
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.is(ctx, "m0", vault.FailedOver, "away")
	_, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Commit})
	kind(t, err, homeward.Conflict, "test failover")
	r.do(ctx, "m0", vault.CleanUpTest, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "away")
}

// What is left out and what is empty are the same request.
func TestSame(t *testing.T) {
	a, b := vault.Input{Shutdown: true}, vault.Input{Shutdown: true, Overrides: map[string]string{}}
	if !same(a, b) || same(a, vault.Input{}) {
		t.Error("requests are compared by how they are held, not by what they say")
	}
}

// Who would disable an item amid its way back is told that its old state goes.
func TestPlan_DisableLosses(t *testing.T) {
	r, ctx := newProtected(t)
	p, err := r.Plan(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Disable})
	must(t, err)
	if len(p.Losses) != 2 {
		t.Errorf("%q", p.Losses)
	}
	it, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	it.State, it.ActiveSite = vault.Synchronizing, "away"
	if all := disabled(it); len(all) != 2 || !strings.Contains(all[1], "at home") {
		t.Errorf("%q", all)
	}
}

// A machine that its site knows by another name now is found by its UUID: by the old
// name nobody would find it on.
func TestKeeper_Rename(t *testing.T) {
	r, ctx := newProtected(t)
	m, err := r.store.Machines.Get(ctx, "home/m0")
	must(t, err)
	if m.Found.Ref.UUID == "" {
		t.Fatal("the site gives no UUIDs")
	}
	_, err = r.store.Items.Change(ctx, "m0", func(it *vault.Item) error {
		it.Record.Refs["home"] = homeward.Ref{Native: "as-it-was", UUID: m.Found.Ref.UUID}
		it.Machine = "home/as-it-was"
		return nil
	})
	must(t, err)
	r.until(ctx, "its name", func() bool {
		it, err := r.store.Items.Get(ctx, "m0")
		must(t, err)
		return it.Machine == "home/m0" && it.Record.Refs["home"] == m.Found.Ref
	})
}

// An item that nobody waits for is not protected, and somebody is told.
func TestAlerts_Unattended(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	r.do(ctx, "m0", vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	it, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	for state, want := range map[vault.State]int{vault.Protected: 0, vault.Synchronizing: 1} {
		if it.State, it.Job = state, ""; len(unattended(it)) != want {
			t.Errorf("%s: %+v", state, unattended(it))
		}
		if it.Job = "a job"; len(unattended(it)) != 0 {
			t.Errorf("%s, with a job: %+v", state, unattended(it))
		}
	}
}

// An agent that lost its map makes no point, and somebody is told before the RPO is.
func TestAlerts_Torn(t *testing.T) {
	for complete, want := range map[bool]int{true: 0, false: 1} {
		h := heard{capture: homeward.CaptureReport{Complete: complete}}
		if got := h.torn(vault.Item{State: vault.Protected}); len(got) != want {
			t.Errorf("complete %t: %+v", complete, got)
		}
		if got := h.torn(vault.Item{State: vault.FailedOver}); len(got) != 0 {
			t.Errorf("failed over: %+v", got)
		}
	}
}

// A failover that stopped the machine and then lost its master target is cancelled: the
// machine runs again before that one can be told.
func TestCancel_TargetAway(t *testing.T) {
	r, ctx := newProtected(t)
	_, err := r.w.Home.Hyper.PowerOff(ctx, "off", homeward.Ref{Native: "m0"}, homeward.Stop{})
	must(t, err)
	_, err = r.store.Items.Change(ctx, "m0", func(it *vault.Item) error {
		it.Record.Next = it.Record.Generation.Next()
		it.Record.List = recovery.Unfinished{Op: "fail over", Next: it.Record.Next, Done: map[string]bool{}}
		return nil
	})
	must(t, err)
	r.absent.Store("mt-away", true)
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.CancelFailover})
	must(t, err)
	r.until(ctx, "the machine", func() bool { return r.w.Home.Hyper.Guest("m0") != nil })
	r.absent.Delete("mt-away")
	r.wait(ctx, j.ID)
	r.is(ctx, "m0", vault.Protected, "home")
}

// A site that was lost may still run the machine: somebody is told, until it is known.
func TestFailover_OldMachineUnknown(t *testing.T) {
	r, ctx := newProtected(t)
	r.sites["home"].leave(true)
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.until(ctx, "the doubt", func() bool { return r.alerted(ctx, "old-machine-unknown") })
	r.sites["home"].leave(false)
	r.until(ctx, "the certainty", func() bool {
		m, err := r.sites["home"].Machine(ctx, homeward.Ref{Native: "m0"})
		must(t, err)
		return !r.alerted(ctx, "old-machine-unknown") && r.alerted(ctx, "copy-powered-on") == (m.Power == homeward.PowerOn)
	})
	r.is(ctx, "m0", vault.FailedOver, "away")
}
