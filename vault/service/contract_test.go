package service

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// kind checks what an error is, and that it names what it is about.
func kind(t *testing.T, err error, want homeward.Kind, names string) {
	t.Helper()
	if homeward.KindOf(err) != want || err != nil && !strings.Contains(err.Error(), names) {
		t.Errorf("expected %s naming %q: %v", want, names, err)
	}
}

// Everybody may do what their access includes, nobody more; and what was refused is in
// the audit log beside what was done.
func TestAccess(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	calls := map[vault.Access][]func(context.Context) error{
		vault.Reader: {
			func(ctx context.Context) error { _, err := r.Sites(ctx, vault.Query{}); return err },
			func(ctx context.Context) error { _, err := r.Status(ctx); return err },
			func(ctx context.Context) error { _, err := r.Audit(ctx, vault.Query{}); return err },
		},
		vault.Operator: {
			func(ctx context.Context) error { _, err := r.RefreshSite(ctx, "home"); return err },
			func(ctx context.Context) error {
				return r.Limit(ctx, "ps-home", homeward.LimitRequest{Schedule: []homeward.Window{{BytesPerSecond: 1 << 30}}})
			},
		},
		vault.Contributor: {
			func(ctx context.Context) error {
				_, err := r.PutSite(ctx, vault.SiteRequest{Name: "third"})
				return err
			},
			func(ctx context.Context) error {
				_, err := r.PutPolicy(ctx, vault.PolicyRequest{Name: "silver"})
				return err
			},
			func(ctx context.Context) error {
				_, err := r.CreateEnrolment(ctx, vault.EnrolmentRequest{Site: "home", Role: pki.Agent})
				return err
			},
		},
		vault.Administrator: {
			func(ctx context.Context) error { _, err := r.Tokens(ctx, vault.Query{}); return err },
			func(ctx context.Context) error { _, err := r.Reconcile(ctx, false); return err },
		},
	}
	accesses := []vault.Access{vault.Reader, vault.Operator, vault.Contributor, vault.Administrator}
	for need, all := range calls {
		for i, call := range all {
			kind(t, call(ctx), homeward.Unauthentic, "")
			for _, has := range accesses {
				err := call(as(ctx, has))
				if has.Includes(need) && err != nil || !has.Includes(need) && homeward.KindOf(err) != homeward.Forbidden {
					t.Errorf("call %d that takes %s, by a %s: %v", i, need, has, err)
				}
			}
		}
	}
	log, err := r.Audit(admin(ctx), vault.Query{Limit: 1000})
	must(t, err)
	for _, want := range []struct{ caller, action, outcome string }{
		{"test-reader", "site.put", "forbidden"}, {"", "policy.put", "unauthentic"}, {"test-contributor", "site.put", accepted}, {"test-operator", "node.limit", accepted},
	} {
		if !slices.ContainsFunc(log.Entries, func(e vault.AuditEntry) bool {
			return e.Caller == want.caller && e.Action == want.action && e.Outcome == want.outcome
		}) {
			t.Errorf("the audit log lacks %+v", want)
		}
	}
}

// A policy comes with its failback policy, which nobody can edit.
func TestPolicies_Pair(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	back, err := r.Policy(admin(ctx), "gold-failback")
	must(t, err)
	want := vault.FailbackSettings()
	if !back.Failback || back.Of != "gold" || back.Settings.RPOThreshold != want.RPOThreshold || back.Settings.AppEvery != want.AppEvery {
		t.Errorf("%+v", back)
	}
	_, err = r.PutPolicy(admin(ctx), vault.PolicyRequest{Name: "gold-failback"})
	kind(t, err, homeward.Forbidden, "R132")
	kind(t, r.DeletePolicy(admin(ctx), "gold-failback"), homeward.Forbidden, "gold-failback")
	gold, err := r.Policy(admin(ctx), "gold")
	must(t, err)
	_, err = r.PutPolicy(admin(ctx), vault.PolicyRequest{Name: "gold", Revision: gold.Revision})
	must(t, err)
	_, err = r.PutPolicy(admin(ctx), vault.PolicyRequest{Name: "gold", Revision: gold.Revision})
	kind(t, err, homeward.Conflict, "revision")
	must(t, r.DeletePolicy(admin(ctx), "gold"))
	_, err = r.Policy(admin(ctx), "gold-failback")
	kind(t, err, homeward.NotFound, "gold-failback")
}

// What does not resolve is named, and nothing is half done.
func TestAct_BadInput(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	ok := vault.Input{Target: "away", Policy: "gold"}
	enable := func(machine string, in vault.Input) error {
		_, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Machine: machine, Action: vault.Enable, Input: in})
		return err
	}
	kind(t, enable("", ok), homeward.Invalid, "machine")
	kind(t, enable("home/nobody", ok), homeward.NotFound, "home/nobody")
	kind(t, enable("home/m0", vault.Input{Policy: "gold"}), homeward.Invalid, "target_site")
	kind(t, enable("home/m0", vault.Input{Target: "mars", Policy: "gold"}), homeward.NotFound, "mars")
	kind(t, enable("home/m0", vault.Input{Target: "away", Policy: "lead"}), homeward.NotFound, "lead")
	kind(t, enable("home/m0", vault.Input{Target: "away", Policy: "gold-failback"}), homeward.Invalid, "policy")
	kind(t, enable("home/m0", vault.Input{Target: "away", Policy: "gold", Location: "original"}), homeward.Invalid, "location")
	kind(t, enable("home/m0", vault.Input{Target: "away", Policy: "gold", MasterTarget: "mt-home"}), homeward.Invalid, "mt-home")
	kind(t, enable("home/m0", vault.Input{Target: "away", Policy: "gold", Retention: "/fat"}), homeward.Invalid, "R107")
	kind(t, enable("home/m0", vault.Input{Target: "away", Policy: "gold", Retention: "/nowhere"}), homeward.Invalid, "/nowhere")
	_, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m9", Action: vault.Commit})
	kind(t, err, homeward.NotFound, "m9")
	_, err = r.Act(admin(ctx), vault.ActionRequest{Item: "m9", Action: "fly"})
	kind(t, err, homeward.Invalid, "fly")
	items, err := r.Items(admin(ctx), vault.Query{})
	must(t, err)
	jobs, err := r.Jobs(admin(ctx), vault.Query{})
	must(t, err)
	if len(items.Entries)+len(jobs.Entries) != 0 {
		t.Errorf("something was begun: %+v %+v", items, jobs)
	}
}

// The same key again answers the same job; another request under it is refused. What
// is not possible now says what is.
func TestAct_KeysAndConflicts(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	req := vault.ActionRequest{Item: "m0", Machine: "home/m0", Action: vault.Enable, Input: vault.Input{Target: "away", Policy: "gold"}, Key: "once"}
	first, err := r.Act(admin(ctx), req)
	must(t, err)
	again, err := r.Act(admin(ctx), req)
	must(t, err)
	if again.ID != first.ID {
		t.Errorf("job %s, then %s", first.ID, again.ID)
	}
	other := req
	other.Input.Policy = "silver"
	_, err = r.Act(admin(ctx), other)
	kind(t, err, homeward.Conflict, "once")
	r.wait(ctx, first.ID)
	_, err = r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.FailbackAction})
	kind(t, err, homeward.Conflict, "R3")
	if err != nil && !strings.Contains(err.Error(), string(vault.Failover)) {
		t.Errorf("it does not say what is possible: %v", err)
	}
	it := r.item(ctx, "m0")
	_, err = r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Failover, Revision: it.Revision - 1})
	kind(t, err, homeward.Conflict, "revision")
	kind(t, r.DeletePolicy(admin(ctx), "gold"), homeward.InUse, "m0")
	kind(t, r.DeleteSite(admin(ctx), "home"), homeward.InUse, "m0")
}

// Tokens admit who holds them, until they expire or are deleted.
func TestTokens(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	made, err := r.CreateToken(admin(ctx), vault.TokenRequest{Name: "ci", Access: vault.Operator, Lifetime: time.Hour})
	must(t, err)
	c, err := r.Authenticate(ctx, made.Secret)
	must(t, err)
	if c.Name != "ci" || c.Access != vault.Operator {
		t.Errorf("%+v", c)
	}
	listed, err := r.Tokens(admin(ctx), vault.Query{})
	must(t, err)
	if len(listed.Entries) != 1 || listed.Entries[0].Secret != "" {
		t.Errorf("%+v", listed)
	}
	for _, wrong := range []string{"", "hw.ci", made.Secret + "0", strings.Replace(made.Secret, "hw.ci", "hw.co", 1), "hw.local.00"} {
		_, err := r.Authenticate(ctx, wrong)
		kind(t, err, homeward.Unauthentic, "")
	}
	_, err = r.CreateToken(admin(ctx), vault.TokenRequest{Name: "ci", Access: vault.Reader})
	kind(t, err, homeward.Exists, "ci")
	_, err = r.CreateToken(admin(ctx), vault.TokenRequest{Name: "local", Access: vault.Reader})
	kind(t, err, homeward.Invalid, "local")
	r.clock.forward(2 * time.Hour)
	_, err = r.Authenticate(ctx, made.Secret)
	kind(t, err, homeward.Unauthentic, "expired")
	must(t, r.DeleteToken(admin(ctx), "ci"))
}
