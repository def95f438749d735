package service

import (
	"strconv"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// What each job shares with others.
func TestLimits_Of(t *testing.T) {
	it := vault.Item{ID: "web", Original: vault.End{Site: "home", MasterTarget: "mt-home", ProcessServer: "ps-home"}, Recovery: vault.End{Site: "away", MasterTarget: "mt-away", ProcessServer: "ps-away"}, ActiveSite: "home"}
	back := it
	back.ActiveSite = "away"
	for _, c := range []struct {
		job  vault.Job
		it   vault.Item
		in   vault.Input
		want string
	}{
		{vault.Job{Action: vault.Enable}, it, vault.Input{}, "master target mt-away, synchronizations 8; the link from process server ps-home to master target mt-away, synchronizations 6; site away, preparations 32"},
		{vault.Job{Action: vault.Reprotect}, back, vault.Input{MasterTarget: "mt-2", ProcessServer: "ps-2"}, "master target mt-2, synchronizations 8; the link from process server ps-2 to master target mt-2, synchronizations 6; site home, preparations 32"},
		{vault.Job{Scenario: lifecycle.ScenarioFirstPoint}, it, vault.Input{}, "master target mt-away, synchronizations 8 held; the link from process server ps-home to master target mt-away, synchronizations 6 held"},
		{vault.Job{Scenario: scenarioProve}, it, vault.Input{}, "master target mt-away, synchronizations 8"},
		{vault.Job{Action: vault.Resync}, it, vault.Input{}, "master target mt-away, synchronizations 8; the link from process server ps-home to master target mt-away, synchronizations 6"},
		{vault.Job{Action: vault.TestFailover}, it, vault.Input{}, "site away, preparations 32"},
		{vault.Job{Action: vault.FailbackAction}, back, vault.Input{}, "site home, machine starts 32"},
		{vault.Job{Action: vault.Commit}, it, vault.Input{}, ""},
	} {
		var got []string
		for _, l := range (Limits{}).withDefaults().of(c.job, c.it, c.in) {
			s := l.Key + " " + strconv.Itoa(l.Max)
			if l.Holds {
				s += " held"
			}
			got = append(got, s)
		}
		if all := strings.Join(got, "; "); all != c.want {
			t.Errorf("%s%s: %s; want %s", c.job.Action, c.job.Scenario, all, c.want)
		}
	}
}

// One item at a time synchronizes if that is the limit; those that wait say for what,
// go by priority, and one that is cancelled before its turn is gone.
func TestLimits_Synchronizations(t *testing.T) {
	t.Run("to a target", func(t *testing.T) { synchronizeInTurn(t, Limits{Target: 1}, "at master target mt-away") })
	t.Run("over a link", func(t *testing.T) {
		synchronizeInTurn(t, Limits{Link: 1}, "at the link from process server ps-home to master target mt-away")
	})
}

func synchronizeInTurn(t *testing.T, most Limits, why string) {
	one := []int64{64 << 10}
	r, ctx := newRig(t, world.Options{Machines: [][]int64{one, one, one, one}})
	r.close()
	r.most = most
	r.open(ctx)
	r.w.Net.CutOff("home", true) // nothing gets in sync meanwhile
	enable := func(id homeward.ItemID) vault.Job {
		j, err := r.Act(admin(ctx), vault.ActionRequest{Item: id, Action: vault.Enable, Machine: "home/" + string(id), Input: vault.Input{Target: "away", Policy: "gold"}})
		must(t, err)
		return j
	}
	first := enable("m0")
	second, third, fourth := enable("m1"), enable("m2"), enable("m3")
	for _, j := range []vault.Job{second, third, fourth} {
		r.until(ctx, "why it waits", func() bool {
			now, err := r.Job(admin(ctx), j.ID)
			must(t, err)
			return now.State == vault.JobNotStarted && strings.Contains(now.Tasks[0].Why, why)
		})
	}
	_, err := r.TellJob(admin(ctx), vault.JobRequest{ID: fourth.ID, Action: vault.JobCancel})
	must(t, err)
	r.until(ctx, "the item that is not to be", func() bool {
		_, err := r.Item(admin(ctx), "m3")
		return homeward.KindOf(err) == homeward.NotFound
	})
	zero := 0
	_, err = r.Tune(admin(ctx), "m2", vault.TuneRequest{Priority: &zero})
	must(t, err)
	r.w.Net.CutOff("home", false)
	r.wait(ctx, first.ID)
	second, third = r.wait(ctx, second.ID), r.wait(ctx, third.ID)
	if !third.Started.Before(second.Started) {
		t.Errorf("the item of priority 0 began at %v, the other one at %v", third.Started, second.Started)
	}
}

func TestLimits_Validate(t *testing.T) {
	for _, bad := range []Limits{{Target: -1}, {Link: -1}, {Host: -1}} {
		kind(t, bad.Validate(), homeward.Invalid, "at least 1")
	}
	must(t, Limits{}.Validate())
}
