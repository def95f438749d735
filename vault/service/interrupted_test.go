package service

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// reverse reprotects an item whose deltas are lost on the way: it synchronizes, and a job
// waits for its first point.
func (r *rig) reverse(ctx context.Context, item homeward.ItemID) {
	r.t.Helper()
	r.w.Net.SetWeather(world.Weather{Lost: 1})
	var j vault.Job
	r.until(ctx, "the reprotect", func() (begun bool) {
		var err error
		j, err = r.Act(admin(ctx), vault.ActionRequest{Item: item, Action: vault.Reprotect})
		return err == nil
	})
	if j = r.endOf(r.t, j.ID); j.State != vault.JobSucceeded {
		r.t.Fatalf("%s", tree(j))
	}
	if it := r.item(ctx, item); it.State != vault.Synchronizing || it.Job == "" {
		r.t.Fatalf("the item is %s, held by %q", it.State, it.Job)
	}
}

// branch is the point lost-writes, as an operator sees it.
func (r *rig) branch(ctx context.Context, item homeward.ItemID) homeward.Point {
	r.t.Helper()
	list, err := r.Points(admin(ctx), item)
	must(r.t, err)
	i := slices.IndexFunc(list.Points, func(p homeward.Point) bool { return slices.Contains(p.Pins, "branch:"+vault.LostWrites) })
	if i < 0 || !list.Points[i].Mark.Kind.Bootable() {
		r.t.Fatalf("no bootable branch among %+v", list.Points)
	}
	return list.Points[i]
}

// The recovery site is lost while the way back synchronizes. The machine boots at home at
// the state that home had, and all that follows is as after any failback.
func TestInterrupted(t *testing.T) {
	for _, then := range []vault.Action{vault.CancelFailover, vault.Commit} {
		t.Run(string(then), func(t *testing.T) {
			r, ctx := newProtected(t)
			r.do(ctx, "m0", vault.Failover, vault.Input{})
			r.do(ctx, "m0", vault.Commit, vault.Input{})
			r.reverse(ctx, "m0")
			r.sites["away"].leave(true)
			r.lose(ctx)
			point := r.branch(ctx, "m0").Position

			j := r.do(ctx, "m0", vault.FailbackAction, vault.Input{Point: vault.LostWrites})
			r.is(ctx, "m0", vault.FailedOver, "home")
			it, err := r.store.Items.Get(ctx, "m0")
			must(t, err)
			if it.Record.Point.Position != point || len(it.Record.Parting.Why) == 0 {
				t.Fatalf("it runs from %v; %+v\n%s", it.Record.Point.Position, it.Record.Parting, tree(j))
			}
			if then == vault.Commit {
				r.do(ctx, "m0", vault.Commit, vault.Input{}) // the machine at the lost site cannot be removed
				r.is(ctx, "m0", vault.Committed, "home")
			}
			r.w.Net.SetWeather(world.Weather{})
			r.sites["away"].leave(false)
			if then == vault.Commit {
				r.do(ctx, "m0", vault.Reprotect, vault.Input{})
				r.is(ctx, "m0", vault.Protected, "home")
				m, err := r.sites["away"].Machine(ctx, it.Record.Refs["away"])
				must(t, err)
				if m.Power != homeward.PowerOff {
					t.Fatalf("the machine that was given up is %s", m.Power)
				}
			} else {
				r.do(ctx, "m0", vault.CancelFailover, vault.Input{}) // and the job that it leaves behind
				r.is(ctx, "m0", vault.Protected, "away")
			}
			r.do(ctx, "m0", map[vault.Action]vault.Action{vault.Commit: vault.Failover, vault.CancelFailover: vault.FailbackAction}[then], vault.Input{})
		})
	}
}

// lose checks what an operator is told before he gives the recovery site up.
func (r *rig) lose(ctx context.Context) {
	t := r.t
	t.Helper()
	give := func(a vault.Action, in vault.Input) vault.ActionRequest {
		return vault.ActionRequest{Item: "m0", Action: a, Input: in}
	}
	_, err := r.Act(admin(ctx), give(vault.FailbackAction, vault.Input{}))
	kind(t, err, homeward.Conflict, "")
	p, err := r.Plan(admin(ctx), give(vault.FailbackAction, vault.Input{Point: vault.LostWrites}))
	must(t, err)
	if !p.Allowed || len(p.Losses) == 0 || !strings.Contains(p.Losses[0], "wrote at away") || strings.Contains(p.Losses[0], "not known") {
		t.Errorf("the plan: %t, %s, %q", p.Allowed, p.Why, p.Losses)
	}
	it := r.item(ctx, "m0")
	for _, no := range it.Refused {
		if no.Action == vault.FailbackAction && (!strings.Contains(no.Remedy, vault.LostWrites) || no.Job == "") {
			t.Errorf("the item does not say what is possible: %+v", no)
		}
	}
	j, err := r.store.Jobs.Get(ctx, it.Job)
	must(t, err)
	if j.State.Ended() {
		t.Errorf("the wait has ended by a plan")
	}
}

// No disable destroys the only state that boots unless it is told to.
func TestInterrupted_DisableKeepsTheBranch(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.reverse(ctx, "m0")
	_, err := r.TellJob(admin(ctx), vault.JobRequest{ID: r.item(ctx, "m0").Job, Action: vault.JobCancel})
	must(t, err)
	r.until(ctx, "the end of the wait", func() bool { return r.item(ctx, "m0").Job == "" })
	for _, force := range []bool{false, true} {
		_, err := r.Act(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Disable, Input: vault.Input{Force: force}})
		kind(t, err, homeward.Conflict, "lost-writes")
		if !strings.Contains(homeward.RemedyOf(err), "--discard-branch") {
			t.Errorf("the remedy: %s", homeward.RemedyOf(err))
		}
	}
	r.branch(ctx, "m0")
	_, err = r.w.Away.Hyper.PowerOff(ctx, "off", homeward.Ref{Native: "m0"}, homeward.Stop{})
	must(t, err)
	r.do(ctx, "m0", vault.Disable, vault.Input{DiscardBranch: true})
	if _, err := r.Item(admin(ctx), "m0"); homeward.KindOf(err) != homeward.NotFound {
		t.Fatal(err)
	}
}

// A recovery site that is lost when the way back stands is left by force, and without
// force the failback says so.
func TestFailback_ByForce(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.sites["away"].leave(true)
	p, err := r.Plan(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.FailbackAction, Input: vault.Input{Force: true}})
	must(t, err)
	if !p.Allowed || len(p.Losses) == 0 {
		t.Errorf("the plan: %t, %s, %q", p.Allowed, p.Why, p.Losses)
	}
	r.do(ctx, "m0", vault.FailbackAction, vault.Input{Force: true})
	r.is(ctx, "m0", vault.FailedOver, "home")
	r.sites["away"].leave(false)
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "home")
}

// The vault is killed at random writes of each job of it, on both legs.
func TestInterrupted_VaultKilled(t *testing.T) { onBoth(t, interruptedKilled) }

func interruptedKilled(t *testing.T, url string) {
	r, ctx := newRigOn(t, url, world.Options{})
	rng := powerloss.Rand(t)
	kill := func(a vault.Action, in vault.Input, s vault.State, site string) {
		t.Helper()
		r.killedIn(ctx, rng, vault.ActionRequest{Item: "m0", Action: a, Input: in, Key: homeward.NewID().String()})
		r.is(ctx, "m0", s, site)
	}
	r.do(ctx, "m0", vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	r.do(ctx, "m0", vault.Failover, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.reverse(ctx, "m0")
	kill(vault.FailbackAction, vault.Input{Point: vault.LostWrites}, vault.FailedOver, "home")
	r.w.Net.SetWeather(world.Weather{})
	kill(vault.CancelFailover, vault.Input{}, vault.Protected, "away")
	r.do(ctx, "m0", vault.FailbackAction, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.reverse(ctx, "m0")
	kill(vault.Failover, vault.Input{Point: vault.LostWrites}, vault.FailedOver, "away")
	r.w.Net.SetWeather(world.Weather{})
	kill(vault.Commit, vault.Input{}, vault.Committed, "away")
	kill(vault.Reprotect, vault.Input{}, vault.Protected, "away")
}
