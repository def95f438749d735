package service

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// newTwoTargets is a protected item, and a second master target where its replica is.
func newTwoTargets(t *testing.T) (*rig, context.Context) {
	t.Helper()
	r, ctx := newProtected(t)
	must(t, r.w.Away.AddTarget(ctx))
	other := r.node(pki.MasterTarget, "mt2", "away")
	other.Name = "mt-2-away"
	must(t, r.store.Nodes.Insert(ctx, &other))
	return r, ctx
}

// stateOfNode is what the fleet would say of a node.
func (r *rig) stateOfNode(ctx context.Context, name string, s vault.NodeState) {
	r.t.Helper()
	_, err := r.store.Nodes.Change(ctx, name, func(n *vault.Node) error { n.State = s; return nil })
	must(r.t, err)
}

// The master target that holds the replica dies for good: the alert names the command,
// the replica is led to the other one, and when the first comes back it is emptied.
func TestReassociate_MasterTargetDies(t *testing.T) {
	r, ctx := newTwoTargets(t)
	was := r.item(ctx, "m0").Recovery
	r.w.Away.LoseTarget()
	r.stateOfNode(ctx, "mt-away", vault.NodeDisconnected)
	r.until(ctx, "the alert that names the command", func() bool {
		page, err := r.Alerts(admin(ctx), vault.Query{})
		must(t, err)
		return slices.ContainsFunc(page.Entries, func(a vault.Alert) bool {
			return a.Code == "items-without-master-target" && strings.Contains(a.Remedy, "reassociate --from mt-away --to mt-2-away")
		})
	})
	req := vault.ReassociateRequest{From: "mt-away"} // there is one other
	plan, err := r.PlanReassociate(admin(ctx), req)
	must(t, err)
	if p := plan.Entries[0]; !p.Allowed || p.Estimate == nil || p.Estimate.Bytes == 0 || len(p.Losses) == 0 || !strings.Contains(p.Tasks[3].Title, was.Disks[0]) {
		t.Fatalf("the plan: %+v", p)
	}
	j, err := r.Reassociate(admin(ctx), req)
	must(t, err)
	r.wait(ctx, j.ID)
	it := r.item(ctx, "m0")
	if it.State != vault.Protected || it.Recovery.MasterTarget != "mt-2-away" || slices.Equal(it.Recovery.Disks, was.Disks) {
		t.Fatalf("%s at %+v", it.State, it.Recovery)
	}
	r.until(ctx, "the alert of what is left", func() bool { return r.alerted(ctx, "replica-left-behind") })
	r.until(ctx, "the end of the alert", func() bool { return !r.alerted(ctx, "items-without-master-target") })
	must(t, r.w.Away.FindTarget(ctx))
	r.stateOfNode(ctx, "mt-away", vault.NodeReady)
	r.until(ctx, "the end of what is left", func() bool { return !r.alerted(ctx, "replica-left-behind") })
	if _, err := r.side("mt-away").Target.Report(ctx, homeward.ItemRequest{Item: "m0"}); homeward.KindOf(err) != homeward.NotFound || r.w.Away.Has(was.Disks[0]) {
		t.Errorf("the old one still has it: %v, its disk: %t", err, r.w.Away.Has(was.Disks[0]))
	}
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.is(ctx, "m0", vault.FailedOver, "away")
	_, err = r.Reassociate(admin(ctx), vault.ReassociateRequest{From: "mt-2-away", To: "mt-away"})
	kind(t, err, homeward.Conflict, "runs on")
}

// One that lives is left for good; on the same disks only what differs travels. Then
// everything that was made goes with the item.
func TestReassociate_MasterTargetLives(t *testing.T) {
	r, ctx := newTwoTargets(t)
	for _, req := range []vault.ReassociateRequest{
		{From: "mt-away", To: "mt-2-away", SameDisks: true}, {From: "mt-2-away", To: "mt-away"}, {From: "mt-away", To: "mt-2-away", Items: []homeward.ItemID{"m0"}},
	} {
		j, err := r.Reassociate(admin(ctx), req)
		must(t, err)
		r.wait(ctx, j.ID)
		if it := r.item(ctx, "m0"); it.State != vault.Protected || it.Recovery.MasterTarget != req.To {
			t.Fatalf("%s at %+v", it.State, it.Recovery)
		}
	}
	j, err := r.Prove(admin(ctx), "m0")
	must(t, err)
	r.wait(ctx, j.ID)
	_, err = r.sites["home"].PowerOff(ctx, "by hand", homeward.Ref{Native: "m0"}, homeward.Stop{Graceful: true})
	must(t, err)
	r.do(ctx, "m0", vault.Disable, vault.Input{})
	left, err := r.Artefacts(admin(ctx), vault.Query{})
	must(t, err)
	if len(left.Entries) != 0 {
		t.Errorf("left behind: %+v", left.Entries)
	}
}

// What would stop it stops it before anything is done.
func TestReassociate_Refusals(t *testing.T) {
	r, ctx := newTwoTargets(t)
	ask := func(req vault.ReassociateRequest) error {
		_, err := r.Reassociate(admin(ctx), req)
		return err
	}
	kind(t, ask(vault.ReassociateRequest{From: "mt-away", To: "mt-home"}), homeward.Invalid, "site away")
	kind(t, ask(vault.ReassociateRequest{From: "mt-away", To: "mt-2-away", Retention: "/fat"}), homeward.Invalid, "vfat")
	kind(t, ask(vault.ReassociateRequest{From: "mt-away", To: "mt-2-away", Retention: "/none"}), homeward.Invalid, "/none")
	r.stateOfNode(ctx, "mt-2-away", vault.NodeDisconnected)
	kind(t, ask(vault.ReassociateRequest{From: "mt-away", To: "mt-2-away"}), homeward.Conflict, "R34")
	kind(t, ask(vault.ReassociateRequest{From: "mt-away"}), homeward.Invalid, "no other master-target")
	r.stateOfNode(ctx, "mt-2-away", vault.NodeReady)
	r.w.Away.LoseTarget()
	plan, err := r.PlanReassociate(admin(ctx), vault.ReassociateRequest{From: "mt-away", To: "mt-2-away", SameDisks: true})
	must(t, err)
	if p := plan.Entries[0]; p.Allowed || !strings.Contains(p.Why, "may still write") {
		t.Errorf("%+v", p)
	}
	must(t, r.w.Away.FindTarget(ctx))
}

// The vault is killed at writes all along the job, and the next one ends it.
func TestReassociate_Killed(t *testing.T) {
	r, ctx := newTwoTargets(t)
	req := vault.ReassociateRequest{From: "mt-away", To: "mt-2-away"}
	for n := 2; n < 40; n += 5 {
		r.close()
		e := &executioner{left: n, dead: make(chan struct{})}
		r.openCut(ctx, e.cut)
		if j, err := r.Reassociate(admin(ctx), req); err == nil {
			r.untilDeadOr(ctx, e, func() bool { return r.item(ctx, "m0").Recovery.MasterTarget == req.To && r.hasEnded(ctx, j.ID) })
		}
		r.close()
		r.open(ctx)
		r.until(ctx, "the end of all jobs", func() bool { return r.item(ctx, "m0").Job == "" })
		if r.item(ctx, "m0").Recovery.MasterTarget != req.To { // it was killed before the job was begun
			j, err := r.Reassociate(admin(ctx), req)
			must(t, err)
			r.wait(ctx, j.ID)
			r.until(ctx, "its end", func() bool { return r.item(ctx, "m0").Recovery.MasterTarget == req.To })
		}
		r.is(ctx, "m0", vault.Protected, "home")
		req.From, req.To = req.To, req.From
	}
	j, err := r.Prove(admin(ctx), "m0")
	must(t, err)
	r.wait(ctx, j.ID)
}

// untilDeadOr waits until the vault was killed, or something is so.
func (r *rig) untilDeadOr(ctx context.Context, e *executioner, so func() bool) {
	r.t.Helper()
	for {
		select {
		case <-e.dead:
			return
		default:
		}
		if so() {
			return
		}
		must(r.t, r.w.Tick(ctx))
	}
}

func (r *rig) hasEnded(ctx context.Context, id string) bool {
	r.t.Helper()
	j, err := r.Job(admin(ctx), id)
	must(r.t, err)
	return j.State.Ended()
}
