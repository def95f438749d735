package service

import (
	"context"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// weightless is a process server of an older version.
type weightless struct{ homeward.ProcessServer }

func (w weightless) Prepare(ctx context.Context, req homeward.RouteRequest) (homeward.RouteReport, error) {
	req.Weight = 0
	rep, err := w.ProcessServer.Prepare(ctx, req)
	rep.Weight = 0
	return rep, err
}

func (w weightless) Report(ctx context.Context, req homeward.ItemRequest) (homeward.RouteReport, error) {
	rep, err := w.ProcessServer.Report(ctx, req)
	rep.Weight = 0
	return rep, err
}

func (r *rig) tune(ctx context.Context, id homeward.ItemID, priority int) {
	r.t.Helper()
	_, err := r.Tune(admin(ctx), id, vault.TuneRequest{Priority: &priority})
	must(r.t, err)
}

// An item's priority is its part of bandwidth: from the first copy on, also of one that
// is under way, in both directions; and again where a process server has lost it.
func TestPriority_GovernsBandwidth(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	weight := func(process string) int {
		rep, err := r.side(process).Process.Report(ctx, homeward.ItemRequest{Item: "m0"})
		must(t, err)
		return rep.Weight
	}
	r.w.Net.CutOff("home", true) // the first copy goes on
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Enable, Machine: "home/m0", Input: vault.Input{Target: "away", Policy: "gold"}})
	must(t, err)
	r.until(ctx, "the first copy", func() bool { return r.item(ctx, "m0").State == vault.Synchronizing })
	if got := weight("ps-home"); got != 5 {
		t.Errorf("a weight of %d, of an item that nobody gave a priority", got)
	}
	r.tune(ctx, "m0", 0)
	r.until(ctx, "the weight", func() bool { return r.item(ctx, "m0").Replication.Weight == 10 && weight("ps-home") == 10 })
	r.w.Net.CutOff("home", false)
	r.wait(ctx, j.ID)
	r.until(ctx, "its protection", func() bool { return r.item(ctx, "m0").State == vault.Protected })

	stored, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	home, away := r.side("ps-home"), r.side("mt-away")
	_, err = home.Process.Prepare(ctx, homeward.RouteRequest{Item: "m0", Generation: stored.Record.Generation, Target: away.TargetURL, Agent: home.AgentName, Weight: 3})
	must(t, err)
	r.until(ctx, "the weight that it ought to have", func() bool { return weight("ps-home") == 10 })

	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	if got := weight("ps-away"); got != 10 {
		t.Errorf("on the way back it weighs %d", got)
	}
}

// A process server that does not know weights is told nothing of it, and an alert says
// what it takes; the priority of the default is what it does.
func TestPriority_OldProcessServer(t *testing.T) {
	r, ctx := newProtected(t)
	r.absent.Store("ps-home", func(p homeward.ProcessServer) homeward.ProcessServer { return weightless{p} })
	r.tune(ctx, "m0", 1)
	r.until(ctx, "the alert", func() bool { return r.alerted(ctx, "priority-pending") })
	r.tune(ctx, "m0", 5)
	r.until(ctx, "its end", func() bool { return !r.alerted(ctx, "priority-pending") })
}
