package system

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/site/local"
	"github.com/homeward-dr/homeward/vault"
)

// The vault dies at each boundary of each task of a reprotect and a failback: when the
// task is stored as begun, and as ended. Each time it goes on by itself, and the job
// ends as if nothing had been; nobody retries it.
func TestVaultKilledAtEveryTaskBoundary(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	e.failOver()
	e.dieAtEachStep(g, vault.Reprotect, e.back("home"))
	e.protected(g)
	e.prove(g)
	e.write(30)
	old := e.leave(g, "home")
	defer old.Stop()
	e.dieAtEachStep(g, vault.FailbackAction, vault.Input{})
	if last := e.hear(g, "home"); last < old.Last() {
		t.Fatalf("%s announced record %d, and %d is the last one after a planned move", g.item, old.Last(), last)
	}
	e.write(30)
	e.dieAtEachStep(g, vault.Commit, vault.Input{})
	e.dieAtEachStep(g, vault.Reprotect, e.back("away"))
	e.protected(g)
	e.prove(g)
	e.write(10)
}

// failOver loses home, runs all machines at away, commits, and brings home back.
func (e *estate) failOver() {
	e.t.Helper()
	e.write(30)
	least := e.lose()
	for _, g := range e.guests {
		old := e.leave(g, "away")
		e.done(e.act(g, vault.Failover, vault.Input{Point: vault.Latest}))
		if last := e.hear(g, "away"); last < least[g] {
			e.t.Fatalf("record %d of %s was durable before the point was cut, %d is the last one there", least[g], g.item, last)
		}
		old.Stop()
		e.done(e.act(g, vault.Commit, vault.Input{}))
	}
	e.returns()
	e.ready()
}

// ready waits until nothing stands in the way of coming home.
func (e *estate) ready() {
	e.t.Helper()
	e.heard()
	for _, g := range e.guests {
		var why vault.Readiness
		e.eventually("readiness of "+string(g.item), func() (_ bool, err error) {
			why, err = e.vault.Readiness(e.ctx, g.item)
			return why.Score.Ready, err
		})
	}
}

// armed starts the vault so that it dies where a job's task is about to be stored in
// a state, or has been.
func (e *estate) armed(point string) {
	e.t.Helper()
	e.Vault.Kill()
	e.Vault.Env = nil
	if point != "" {
		e.Vault.Env = []string{"HOMEWARD_FAULT=" + point}
	}
	e.must(e.Vault.Start(e.ctx, e.Executable))
	e.Vault.Env = nil
}

// steps are the boundaries of an action's tasks, as fault points, in their order.
func (e *estate) steps(g *guest, a vault.Action, in vault.Input) (points []string) {
	e.t.Helper()
	var plan vault.Plan
	e.eventually("a plan", func() (_ bool, err error) {
		plan, err = e.vault.Plan(e.ctx, vault.ActionRequest{Item: g.item, Action: a, Input: in})
		return err == nil, err
	})
	for _, task := range plan.Tasks {
		points = append(points, "job.store "+task.Name+" in-progress", "job.stored "+task.Name+" in-progress", "job.store "+task.Name+" [!i]*")
	}
	return points
}

// dieAtEachStep does an action while the vault dies at each boundary of its tasks; it
// may do so before it has answered who asked for it.
func (e *estate) dieAtEachStep(g *guest, a vault.Action, in vault.Input) {
	e.t.Helper()
	points := e.steps(g, a, in)
	e.armed(points[0])
	e.heard()
	req := vault.ActionRequest{Item: g.item, Action: a, Input: in, Key: homeward.NewID().String()}
	if _, err := e.vault.Act(e.ctx, req); err != nil && homeward.KindOf(err) != homeward.Unavailable {
		e.t.Fatal(err)
	}
	for i, next := range append(points[1:], "") {
		select {
		case <-e.Vault.Ended():
		case <-time.After(40 * time.Second):
			page, err := e.vault.Jobs(e.ctx, vault.Query{Item: string(g.item), Limit: 1})
			e.t.Fatalf("%s: the vault does not come to %q: %v %+v", a, points[i], err, page.Entries)
		}
		e.armed(next)
	}
	e.heard()
	j, err := e.vault.Act(e.ctx, req) // the same job, by its key
	e.must(err)
	e.undisturbed(j)
}

// undisturbed waits until a job has succeeded, and demands that it did so by itself.
func (e *estate) undisturbed(j vault.Job) {
	e.t.Helper()
	e.eventually(fmt.Sprintf("job %s (%s)", j.ID, j.Title), func() (bool, error) {
		now, err := e.vault.Job(e.ctx, j.ID)
		if err == nil && (now.State == vault.JobFailed || now.State == vault.JobPaused || now.State == vault.JobCancelled) {
			e.t.Fatalf("%s is %s and does not go on by itself: %+v", now.Title, now.State, now.Error)
		}
		return now.State == vault.JobSucceeded, err
	})
}

// Somebody starts the old machine by hand, behind the back of its site's
// configuration server, after the machine was failed over and reprotected: that is
// told as an alarm, it is powered off again, and nothing is lost at either side.
func TestVaultOldMachinePoweredOnByHand(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	e.failOver()
	e.done(e.act(g, vault.Reprotect, e.back("home")))
	e.protected(g)
	ref := homeward.Ref{Native: string(g.item), UUID: string(g.item)}
	e.home.Config.Kill()
	e.must(e.AtHypervisor(e.home, []string{"sh", "-c", "exec sleep 300", "sh"}, func(s *local.Site) error {
		guards, err := s.GuardsOf(e.ctx, ref)
		if err != nil {
			return err
		}
		for _, guard := range guards {
			if err := s.Unguard(e.ctx, guard); err != nil {
				return err
			}
		}
		if _, err := s.PowerOn(e.ctx, "by-hand", ref); err != nil {
			return err
		}
		return e.until(func() (bool, error) {
			m, err := s.Machine(e.ctx, ref)
			return m.Power == homeward.PowerOn, err
		})
	}))
	e.start(e.home.Config)
	e.eventually("an alarm", func() (bool, error) {
		page, err := e.vault.Alerts(e.ctx, vault.Query{})
		return slices.ContainsFunc(page.Entries, func(a vault.Alert) bool {
			return a.Code == "copy-powered-on" && a.Subject == "item web01" && a.Severity == vault.SeverityCritical && a.Remedy != ""
		}), err
	})
	e.eventually("the old machine to be off again", func() (bool, error) {
		if _, err := e.vault.RefreshSite(e.ctx, "home"); err != nil {
			return false, err
		}
		m, err := e.vault.Machine(e.ctx, "home/web01")
		return m.Found.Power == homeward.PowerOff, err
	})
	e.eventually("the alarm to be cleared", func() (bool, error) {
		page, err := e.vault.Alerts(e.ctx, vault.Query{})
		return !slices.ContainsFunc(page.Entries, func(a vault.Alert) bool { return a.Code == "copy-powered-on" && a.Cleared.IsZero() }), err
	})
	e.write(10)
	e.prove(g)
}

// until is eventually for what tells errors.
func (e *estate) until(ok func() (bool, error)) error { return e.Operator.Until(e.ctx, ok) }
