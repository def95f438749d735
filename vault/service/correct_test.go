package service

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// stopped waits until a job has failed or was suspended.
func (r *rig) stopped(ctx context.Context, id string) (j vault.Job) {
	r.t.Helper()
	r.until(ctx, "the job to stop", func() bool {
		var err error
		j, err = r.Job(admin(ctx), id)
		must(r.t, err)
		return j.State == vault.JobFailed || j.State == vault.JobPaused
	})
	return j
}

func (r *rig) retry(ctx context.Context, id string, in vault.Input) error {
	r.t.Helper()
	input, err := json.Marshal(in)
	must(r.t, err)
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: id, Action: vault.JobRetry, Input: input})
	return err
}

// second enrols another master target at a site; the world has one there, so it is that.
func (r *rig) second(ctx context.Context, site string) string {
	r.t.Helper()
	n := r.node(pki.MasterTarget, "mt-2", site)
	n.Addresses[0].Host = site + "-mt"
	must(r.t, r.store.Nodes.Insert(ctx, &n))
	return n.Name
}

// The nodes of an enable that failed are corrected: what was told to the one that is
// replaced is taken back, and the item is protected by the others. That of places that
// were used is refused, and so is a node that cannot serve.
func TestRetry_EnableWithOtherNodes(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	broken := &brokenTarget{}
	r.absent.Store("mt-away", broken)
	other := r.second(ctx, "away")
	j, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Machine: "home/m0", Action: vault.Enable,
		Input: vault.Input{Target: "away", Policy: "gold", MasterTarget: "mt-away"}})
	must(t, err)
	if j = r.stopped(ctx, j.ID); j.Error == nil || j.Error.Remedy == "" {
		t.Fatalf("it does not say what to do: %+v", j.Error)
	}
	for want, in := range map[string]vault.Input{
		"datastore":     {Datastore: "elsewhere"},
		"target site":   {Target: "home"},
		"is a agent of": {MasterTarget: "agent-away"},
		"no such node":  {MasterTarget: "mt-3-away"},
		"volume /fat":   {MasterTarget: other, Retention: "/fat"},
	} {
		if err := r.retry(ctx, j.ID, in); err == nil {
			t.Errorf("%+v was taken; expected: %s", in, want)
		}
	}
	must(t, r.retry(ctx, j.ID, vault.Input{MasterTarget: other}))
	r.wait(ctx, j.ID)
	r.is(ctx, "m0", vault.Protected, "home")
	if it := r.item(ctx, "m0"); it.Recovery.MasterTarget != other || it.Replication.Points == 0 || it.Replication.RPO < 0 {
		t.Errorf("protected by %s; known when the job had ended: %+v", it.Recovery.MasterTarget, it.Replication)
	}
	if broken.forgot.Load() == 0 {
		t.Error("the master target that was replaced was not told")
	}
}

// A node that never answered is replaced without it.
func TestRetry_EnableWithoutTheLostNode(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	other := r.second(ctx, "away")
	r.absent.Store("mt-away", true)
	it := r.enabling(ctx, "mt-away")
	w := &work{workshop: r.recoveries.workshop, stored: it, asked: assignment{Input: vault.Input{MasterTarget: other}}}
	var err error
	w.item, err = r.load(ctx, it)
	must(t, err)
	must(t, w.takeCorrections(ctx))
	if w.stored.Recovery.MasterTarget != other {
		t.Errorf("%+v", w.stored.Recovery)
	}
}

// enabling is an item whose job has not told any node yet.
func (r *rig) enabling(ctx context.Context, target string) vault.Item {
	r.t.Helper()
	it, err := r.recoveries.conceive(ctx, vault.ActionRequest{Item: "m0", Machine: "home/m0", Action: vault.Enable,
		Input: vault.Input{Target: "away", Policy: "gold", MasterTarget: target}})
	must(r.t, err)
	it.Record.List = recovery.Unfinished{Op: listProtect, Next: homeward.Generation{Number: 1, ID: homeward.NewID()}, Began: time.Now()}
	must(r.t, r.store.Items.Insert(ctx, &it))
	return it
}

// An age asks for the same point as long as the failover that it was asked of has not
// ended; another point is refused once one is served, with what to do instead.
func TestFailover_AskedAgain(t *testing.T) {
	r, ctx := newProtected(t)
	r.until(ctx, "some points", func() bool {
		list, err := r.Points(admin(ctx), "m0")
		must(t, err)
		return len(list.Points) > 4
	})
	ask := func(point string) (vault.Job, error) {
		return r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Failover, Input: vault.Input{Point: point,
			Probe: &vault.Probe{TCP: "127.0.0.1:1", Timeout: 50 * time.Millisecond}}})
	}
	j, err := ask("-1ms")
	must(t, err)
	r.stopped(ctx, j.ID)
	_, err = r.TellJob(admin(ctx), vault.JobRequest{ID: j.ID, Action: vault.JobAbort})
	must(t, err)
	stored, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	served := stored.Record.Point.Position
	_, err = r.store.Items.Change(ctx, "m0", func(it *vault.Item) error { // as if it had failed at its last step
		it.Record.List = recovery.Unfinished{Op: listFailOver, Point: served, Next: it.Record.Generation, Began: time.Now()}
		return nil
	})
	must(t, err)
	_, err = ask("-2ms")
	kind(t, err, homeward.Conflict, "change-point m0")
	for _, same := range []string{"-1ms", fmt.Sprint(served)} {
		it, err := r.store.Items.Get(ctx, "m0")
		must(t, err)
		at, err := r.recoveries.chosen(ctx, it, vault.ActionRequest{Item: "m0", Action: vault.Failover, Input: vault.Input{Point: same}})
		if err != nil || at != served {
			t.Errorf("%q: %v, %v; %v is served", same, at, err, served)
		}
	}
}

// The age of a point counts by the clock of the agent that cut it.
func TestPoint_AgeByTheAgentsClock(t *testing.T) {
	r, ctx := newProtected(t)
	const ahead = time.Hour
	_, err := r.store.Nodes.Change(ctx, "agent-home", func(n *vault.Node) error { n.Skew = -ahead; return nil })
	must(t, err)
	it, err := r.store.Items.Get(ctx, "m0")
	must(t, err)
	// Its clock is an hour behind, and the points bear the vault's time: they are of an
	// hour in the future.
	if p, err := r.recoveries.choosePoint(ctx, it, "-30m"); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("%v, %v", p, err)
	}
	_, err = r.store.Nodes.Change(ctx, "agent-home", func(n *vault.Node) error { n.Skew = ahead; return nil })
	must(t, err)
	if p, err := r.recoveries.choosePoint(ctx, it, "-30m"); err != nil || p.IsZero() {
		t.Errorf("%v, %v", p, err)
	}
}
