package service

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// newProtected is a rig whose machine m0 is protected.
func newProtected(t *testing.T) (*rig, context.Context) {
	t.Helper()
	r, ctx := newRig(t, world.Options{})
	r.do(ctx, "m0", vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	return r, ctx
}

// until waits for something that the vault does by itself.
func (r *rig) until(ctx context.Context, what string, is func() bool) {
	r.t.Helper()
	for !is() {
		if err := r.w.Tick(ctx); err != nil {
			r.t.Fatalf("%s: %v", what, err)
		}
	}
}

func (r *rig) alerted(ctx context.Context, code string) bool {
	r.t.Helper()
	page, err := r.Alerts(admin(ctx), vault.Query{State: "raised"})
	must(r.t, err)
	return slices.ContainsFunc(page.Entries, func(a vault.Alert) bool { return a.Code == code })
}

// A test failover runs on an isolated network alone, leaves the machine where it is,
// and is cleaned up by itself when its time is over.
func TestTestFailover_Expires(t *testing.T) {
	r, ctx := newProtected(t)
	_, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.TestFailover, Input: vault.Input{Network: "production"}})
	kind(t, err, homeward.Invalid, "isolated")
	if it := r.item(ctx, "m0"); it.Test.State != vault.TestNone || it.Job != "" {
		t.Errorf("there is something to clean up: %+v", it.Test)
	}
	r.do(ctx, "m0", vault.TestFailover, vault.Input{Network: "isolated", Lifetime: time.Hour})
	it := r.item(ctx, "m0")
	if it.Test.State != vault.TestOpen || it.Test.Machine != "m0-test" || it.Test.Point == "" || it.State != vault.Protected {
		t.Fatalf("%+v", it.Test)
	}
	_, err = r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Resync})
	kind(t, err, homeward.Conflict, "test failover")
	r.clock.forward(2 * time.Hour)
	r.until(ctx, "the end of the test failover", func() bool {
		it := r.item(ctx, "m0")
		return it.Test.State == vault.TestNone && it.Job == ""
	})
	if it = r.item(ctx, "m0"); it.Test.Succeeded.IsZero() || it.Test.Machine != "" {
		t.Errorf("%+v", it.Test)
	}
	if _, err := r.sites["away"].Machine(ctx, homeward.Ref{Native: "m0-test"}); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("the test machine is still there: %v", err)
	}
}

// The point of a failover can be changed until commit, and the failover given up.
func TestFailover_ChangeAndCancel(t *testing.T) {
	r, ctx := newProtected(t)
	r.until(ctx, "points", func() bool {
		list, err := r.Points(admin(ctx), "m0")
		must(t, err)
		return len(list.Points) > 3
	})
	j := r.do(ctx, "m0", vault.Failover, vault.Input{Shutdown: true})
	for _, task := range j.Tasks {
		if task.State != vault.TaskSucceeded {
			t.Errorf("task %s is %s", task.Title, task.State)
		}
	}
	list, err := r.Points(admin(ctx), "m0")
	must(t, err)
	older := list.Points[len(list.Points)-2]
	r.do(ctx, "m0", vault.ChangePoint, vault.Input{Point: older.Position.String()})
	r.is(ctx, "m0", vault.FailedOver, "away")
	r.do(ctx, "m0", vault.CancelFailover, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "home")
	r.do(ctx, "m0", vault.Failover, vault.Input{Point: "-1ms"})
	r.is(ctx, "m0", vault.FailedOver, "away")
}

// A machine that does not answer its probe leaves the job to a person.
func TestFailover_ProbeSuspends(t *testing.T) {
	r, ctx := newProtected(t)
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Failover,
		Input: vault.Input{Probe: &vault.Probe{TCP: "127.0.0.1:1", Timeout: 50 * time.Millisecond}}})
	must(t, err)
	r.until(ctx, "the suspension", func() bool {
		j, err = r.Job(admin(ctx), j.ID)
		must(t, err)
		return j.State == vault.JobPaused
	})
	if !slices.Contains(j.Actions, vault.JobSkip) || !slices.Contains(j.Actions, vault.JobRetry) {
		t.Errorf("possible: %v", j.Actions)
	}
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobRetry, Input: json.RawMessage(`{"wings":2}`)})
	kind(t, err, homeward.Invalid, "wings")
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobSkip})
	must(t, err)
	r.wait(ctx, j.ID)
	r.is(ctx, "m0", vault.FailedOver, "away")
}

// A probe may be a program, tried at the machine's site until it says that it is up; one
// that the site does not allow leaves the job to a person at once.
func TestFailover_CommandProbe(t *testing.T) {
	r, ctx := newProtected(t)
	up := filepath.Join(t.TempDir(), "up")
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Failover,
		Input: vault.Input{Probe: &vault.Probe{Command: []string{"/bin/cat", up}}}})
	must(t, err)
	r.until(ctx, "the suspension", func() bool {
		j, err = r.Job(admin(ctx), j.ID)
		must(t, err)
		return j.State == vault.JobPaused
	})
	if !strings.Contains(j.Error.Message, "/bin/cat") {
		t.Errorf("suspended for %q", j.Error.Message)
	}
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobRetry,
		Input: json.RawMessage(`{"probe":{"command":["/bin/sh","-c","test -e ` + up + `"]}}`)})
	must(t, err)
	must(t, durable.WriteFile(durable.OS(), up, nil, 0o600))
	r.wait(ctx, j.ID)
	r.is(ctx, "m0", vault.FailedOver, "away")
}

// Home to other disks: a new machine and a full copy; what was left behind goes when
// the way forward is in sync.
func TestReprotect_Alternate(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	p, err := r.Plan(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Reprotect, Input: vault.Input{Location: vault.AlternateLocation}})
	must(t, err)
	if p.Estimate == nil || p.Estimate.Bytes == 0 || p.Seeds == nil || !p.Seeds.Known || len(p.Tasks) == 0 || len(p.Findings) == 0 {
		t.Errorf("the plan: %+v", p)
	}
	j := r.do(ctx, "m0", vault.Reprotect, vault.Input{Location: vault.AlternateLocation, Retention: "/retention"})
	if j.Tasks[1].State != vault.TaskSucceeded { // it was not committed
		t.Errorf("the commit is %s", j.Tasks[1].State)
	}
	it := r.item(ctx, "m0")
	if it.Doomed == nil || it.Doomed.Site != "home" || it.State != vault.Protected {
		t.Fatalf("%+v", it)
	}
	doomed := it.Doomed.Refs
	r.do(ctx, "m0", vault.FailbackAction, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "home")
	if it = r.item(ctx, "m0"); it.Doomed != nil {
		t.Errorf("still there: %+v", it.Doomed)
	}
	for _, ref := range doomed {
		if strings.HasPrefix(ref.Native, "medium:") && r.w.Home.Has(ref.Native) {
			t.Errorf("disk %s is still there", ref.Native)
		}
	}
}

// A copy that is powered on raises an alarm and is powered off.
func TestFence(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.w.Home.Hyper.Intrude("m0")
	r.until(ctx, "the alarm", func() bool { return r.alerted(ctx, "copy-powered-on") })
	r.until(ctx, "its end", func() bool { return !r.alerted(ctx, "copy-powered-on") })
	if m, err := r.sites["home"].Machine(ctx, homeward.Ref{Native: "m0"}); err != nil || m.Power != homeward.PowerOff {
		t.Errorf("it is %s: %v", m.Power, err)
	}
}

// A site that is away makes nothing gone, and is told as the reason.
func TestSite_Away(t *testing.T) {
	r, ctx := newProtected(t)
	r.sites["home"].leave(true)
	_, err := r.RefreshSite(admin(ctx), "home")
	kind(t, err, homeward.Unavailable, "away")
	m, err := r.Machine(admin(ctx), "home/m0")
	must(t, err)
	if m.Presence != vault.Unseen || m.Item != "m0" {
		t.Errorf("%+v", m)
	}
	r.do(ctx, "m0", vault.Failover, vault.Input{Shutdown: true})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	_, err = r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Reprotect})
	kind(t, err, homeward.Conflict, "R7")
	r.sites["home"].leave(false)
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "away")
}

// Replication pauses and goes on; a proof is signed and kept; the item goes with its
// replica when it is disabled.
func TestPause_Prove_Disable(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Pause, vault.Input{})
	if it := r.item(ctx, "m0"); !it.Replication.Paused {
		t.Errorf("%+v", it.Replication)
	}
	_, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Pause})
	kind(t, err, homeward.Conflict, "paused")
	paused, priority := false, 2
	it, err := r.Tune(admin(ctx), "m0", vault.TuneRequest{Paused: &paused, Priority: &priority})
	must(t, err)
	if it.Replication.Paused || it.Replication.Priority != 2 {
		t.Errorf("%+v", it.Replication)
	}
	j, err := r.Prove(admin(ctx), "m0")
	must(t, err)
	r.wait(ctx, j.ID)
	data, err := r.Proof(admin(ctx), "m0")
	must(t, err)
	doc, err := pki.ParseSigned(data)
	must(t, err)
	by, err := pki.Verify(r.id.Roots(), doc)
	must(t, err)
	var proof homeward.Proof
	must(t, doc.Decode(&proof))
	if by.Role != pki.Vault || !proof.Equal || proof.Source != "agent-home" || proof.Target != "mt-away" {
		t.Errorf("by %v: %+v", by, proof)
	}
	_, err = r.sites["home"].PowerOff(ctx, "by hand", homeward.Ref{Native: "m0"}, homeward.Stop{Graceful: true})
	must(t, err)
	r.do(ctx, "m0", vault.Disable, vault.Input{})
	_, err = r.Item(admin(ctx), "m0")
	kind(t, err, homeward.NotFound, "m0")
	left, err := r.Artefacts(admin(ctx), vault.Query{})
	must(t, err)
	if len(left.Entries) != 0 {
		t.Errorf("left behind: %+v", left.Entries)
	}
}

// Items move to another process server.
func TestReassociate(t *testing.T) {
	r, ctx := newProtected(t)
	second := r.node(pki.ProcessServer, "ps", "home")
	second.Name = "ps-2-home"
	must(t, r.store.Nodes.Insert(ctx, &second))
	_, err := r.store.Nodes.Change(ctx, "ps-home", func(n *vault.Node) error { n.State = vault.NodeDisconnected; return nil })
	must(t, err)
	r.until(ctx, "the suggestion", func() bool { return r.alerted(ctx, "items-without-process-server") })
	j, err := r.Reassociate(admin(ctx), vault.ReassociateRequest{From: "ps-home", To: "ps-2-home"})
	must(t, err)
	r.wait(ctx, j.ID)
	if it := r.item(ctx, "m0"); it.Original.ProcessServer != "ps-2-home" {
		t.Errorf("%+v", it.Original)
	}
	r.until(ctx, "the end of the alert", func() bool { return !r.alerted(ctx, "items-without-process-server") })
}

// The standing score says whether the machine could come home now, and why not.
func TestReadiness_Standing(t *testing.T) {
	r, ctx := newProtected(t)
	r.until(ctx, "a score", func() bool { return !r.item(ctx, "m0").Score.At.IsZero() })
	r.sites["home"].leave(true)
	r.until(ctx, "a blocker", func() bool { return r.item(ctx, "m0").Score.Blockers > 0 })
	got, err := r.Readiness(admin(ctx), "m0")
	must(t, err)
	if got.Score.Ready || len(got.History) < 2 || !slices.ContainsFunc(got.Findings, func(f vault.Finding) bool { return f.Rule == "R7" && f.Verdict == vault.Blocker }) {
		t.Errorf("%+v", got.Score)
	}
}

// Placement preselects, and says why others are not eligible.
func TestPlacement(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	p, err := r.Placement(admin(ctx), vault.PlacementRequest{Item: "m0"})
	must(t, err)
	if p.Direction != (homeward.Direction{From: "away", To: "home"}) || p.Policy != "gold-failback" {
		t.Errorf("%+v", p)
	}
	options := map[string][]homeward.Option{}
	for _, f := range p.Fields {
		options[f.Name] = f.Options
	}
	if o := options[fieldMasterTarget]; len(o) != 1 || o[0].Value != "mt-home" || !o[0].Eligible {
		t.Errorf("%+v", o)
	}
	if o := options[fieldRetention]; len(o) != 2 || o[0].Value != "/retention" || o[1].Eligible || !strings.Contains(o[1].Why, "R107") {
		t.Errorf("%+v", o)
	}
}
