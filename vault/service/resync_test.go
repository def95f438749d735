package service

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// resyncs are the jobs that the vault began by itself.
func (r *rig) resyncs(ctx context.Context) (all []vault.Job) {
	r.t.Helper()
	page, err := r.Jobs(admin(ctx), vault.Query{Item: "m0"})
	must(r.t, err)
	for _, j := range page.Entries {
		if j.Action == vault.Resync && j.Caller == "vault" {
			all = append(all, j)
		}
	}
	return all
}

// loseTrack has the agent of an item no more know all that was written.
func (r *rig) loseTrack(ctx context.Context) {
	r.t.Helper()
	for complete := true; complete; {
		must(r.t, r.w.Tick(ctx)) // the guest writes
		must(r.t, r.w.Home.PowerLoss(ctx))
		rep, err := r.side("ps-home").Agent.Report(ctx, homeward.ItemRequest{Item: "m0"})
		must(r.t, err)
		complete = rep.Complete
	}
}

// An item whose agent lost track of writes is resynchronized by the vault itself where
// its policy says so: audited, once, and the next time not before a pause is over.
func TestResync_ByItself(t *testing.T) {
	r, ctx := newProtected(t)
	put := func(rule vault.ResyncRule) {
		p, err := r.Policy(admin(ctx), "gold")
		must(t, err)
		_, err = r.PutPolicy(admin(ctx), vault.PolicyRequest{Name: "gold", Settings: p.Settings, Resync: rule})
		must(t, err)
	}
	healed := func(n int) bool {
		all := r.resyncs(ctx)
		return len(all) == n && all[0].State == vault.JobSucceeded && !r.alerted(ctx, "resync-needed")
	}
	put(vault.ResyncManual)
	r.loseTrack(ctx)
	r.until(ctx, "the alert", func() bool { return r.alerted(ctx, "resync-needed") })
	put("")
	r.until(ctx, "the resync", func() bool { return healed(1) })
	log, err := r.Audit(admin(ctx), vault.Query{})
	must(t, err)
	var told []string
	for _, e := range log.Entries {
		if e.Action == "item.resync" {
			told = append(told, e.Caller+": "+e.Outcome)
		}
	}
	if got := strings.Join(told, ", "); got != "vault: accepted" {
		t.Errorf("the audit log tells %q", got)
	}

	r.loseTrack(ctx)
	r.until(ctx, "the alert again", func() bool { return r.alerted(ctx, "resync-needed") })
	it, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	due, err := r.keeper.resyncDue(ctx, it)
	must(t, err)
	if wait := due.Sub(r.resyncs(ctx)[0].Ended); wait != resyncPause {
		t.Errorf("the second one is due %v after the first", wait)
	}
	if n := len(r.resyncs(ctx)); n != 1 {
		t.Errorf("%d resyncs, and no pause", n)
	}
	r.clock.forward(resyncPause)
	r.until(ctx, "the second resync", func() bool { return healed(2) })
	due, err = r.keeper.resyncDue(ctx, it)
	must(t, err)
	if wait := due.Sub(r.resyncs(ctx)[0].Ended); wait != 2*resyncPause {
		t.Errorf("the third one is due %v after the second", wait)
	}
}

// What stands in the way of a resync is waited for without a word in the audit log.
func TestResync_NotNow(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Pause, vault.Input{})
	r.loseTrack(ctx)
	r.until(ctx, "the alert", func() bool { return r.alerted(ctx, "resync-needed") })
	stored, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	for range 3 {
		must(t, r.keeper.resync(ctx, stored))
	}
	if n := len(r.resyncs(ctx)); n != 0 {
		t.Errorf("%d resyncs of an item that is paused", n)
	}
	r.do(ctx, "m0", vault.Resume, vault.Input{})
	r.until(ctx, "the resync", func() bool { return len(r.resyncs(ctx)) == 1 })
}

func TestPolicy_ResyncRule(t *testing.T) {
	r, ctx := newProtected(t)
	at := func(s string) time.Time {
		when, err := time.Parse("15:04", s)
		must(t, err)
		return when
	}
	for rule, want := range map[vault.ResyncRule]string{
		"": "yes yes yes", vault.ResyncAutomatic: "yes yes yes", vault.ResyncManual: "no no no",
		"18:00-08:00": "yes no yes", "08:00-18:00": "no yes no", "00:00-07:59": "yes no no",
	} {
		must(t, rule.Validate())
		var got []string
		for _, when := range []string{"07:58", "08:00", "18:00"} {
			if rule.Begins(at(when)) {
				got = append(got, "yes")
			} else {
				got = append(got, "no")
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: %s, want %s", rule, s, want)
		}
	}
	for _, bad := range []vault.ResyncRule{"never", "8-18", "18:00-18:00", "18:00", "25:00-08:00"} {
		_, err := r.PutPolicy(admin(ctx), vault.PolicyRequest{Name: "gold", Resync: bad})
		kind(t, err, homeward.Invalid, "resync")
	}
	p, err := r.Policy(admin(ctx), "gold")
	must(t, err)
	back, err := r.Policy(admin(ctx), p.Pair)
	must(t, err)
	if p.Resync != vault.ResyncAutomatic || back.Resync != vault.ResyncAutomatic {
		t.Errorf("by default %q and %q", p.Resync, back.Resync)
	}
}
