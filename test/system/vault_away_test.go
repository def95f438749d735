package system

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// A site goes away in the middle of each step of a reprotect and a failback: its
// configuration server is killed, or hangs, or its link is cut. The job waits, or says
// why it stopped and what to do; when the site is back it ends.
func TestVaultSiteGoesAwayInEveryStep(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	rng := random(t)
	e.failOver()
	ways := []outage{
		{"home's configuration server is killed", e.home.Config.Kill, func() { e.must(e.home.Config.Start(e.ctx, e.Executable)) }},
		{"away's configuration server hangs", e.stopped(e.away.Config), e.continued(e.away.Config)},
		{"home's master target hangs", e.stopped(e.home.Target), e.continued(e.home.Target)},
		{"the link is cut", e.home.In.Cut, e.home.In.Restore},
	}
	n := rng.IntN(len(ways))
	next := func() outage { n++; return ways[n%len(ways)] }
	e.outageInEachStep(g, vault.Reprotect, e.back("home"), next)
	e.protected(g)
	e.prove(g)
	e.write(20)
	old := e.leave(g, "home")
	defer old.Stop()
	e.outageInEachStep(g, vault.FailbackAction, vault.Input{}, next)
	if last := e.hear(g, "home"); last < old.Last() {
		t.Fatalf("%s announced record %d, and %d is the last one after a planned move", g.item, old.Last(), last)
	}
	e.done(e.act(g, vault.Commit, vault.Input{}))
	e.done(e.act(g, vault.Reprotect, e.back("away")))
	e.protected(g)
	e.prove(g)
}

// outage takes something away and brings it back.
type outage struct {
	what        string
	begin, over func()
}

func (e *estate) stopped(p *lab.Program) func() {
	return func() { e.must(syscall.Kill(p.PID(), syscall.SIGSTOP)) }
}

func (e *estate) continued(p *lab.Program) func() {
	return func() { e.must(syscall.Kill(p.PID(), syscall.SIGCONT)) }
}

// outageInEachStep stops the vault where each task of an action is stored as begun,
// has an outage begin, and lets the vault go on: so the task meets the outage for sure.
func (e *estate) outageInEachStep(g *guest, a vault.Action, in vault.Input, next func() outage) {
	e.t.Helper()
	var begun []string
	for _, p := range e.steps(g, a, in) {
		if strings.HasPrefix(p, "job.stored ") {
			begun = append(begun, p)
		}
	}
	req := vault.ActionRequest{Item: g.item, Action: a, Input: in, Key: homeward.NewID().String()}
	e.armed(begun[0])
	e.heard()
	if _, err := e.vault.Act(e.ctx, req); err != nil && homeward.KindOf(err) != homeward.Unavailable {
		e.t.Fatal(err)
	}
	for i, point := range begun {
		select {
		case <-e.Vault.Ended():
		case <-time.After(40 * time.Second):
			page, err := e.vault.Jobs(e.ctx, vault.Query{Item: string(g.item), Limit: 1})
			e.t.Fatalf("%s: the vault does not come to %q: %v %+v", a, point, err, page.Entries)
		}
		out := next()
		out.begin()
		upcoming := ""
		if i+1 < len(begun) {
			upcoming = begun[i+1]
		}
		e.armed(upcoming)
		e.t.Logf("%-9s %s: %s", a, strings.TrimPrefix(point, "job.stored "), e.met(g, out))
		out.over()
		e.retryIfFailed(g)
	}
	e.heard()
	j, err := e.vault.Act(e.ctx, req)
	e.must(err)
	e.done(j)
}

// met lets a job meet an outage until it waits, stops, or has passed the task; and
// tells what it did.
func (e *estate) met(g *guest, out outage) (what string) {
	e.t.Helper()
	patience := time.Now().Add(3 * time.Second)
	e.eventually("the job to meet the outage", func() (bool, error) {
		select {
		case <-e.Vault.Ended(): // it came to the next task
			what = out.what + ", which it does not need"
			return true, nil
		default:
		}
		page, err := e.vault.Jobs(e.ctx, vault.Query{Item: string(g.item), Limit: 1})
		if err != nil || len(page.Entries) == 0 {
			return false, err
		}
		j := page.Entries[0]
		what = out.what + ": " + string(j.State)
		switch {
		case j.State == vault.JobFailed || j.State == vault.JobPaused:
			e.honest(j)
			what += ": " + j.Error.Message
			return true, nil
		case j.State == vault.JobSucceeded:
			return true, nil
		}
		for _, task := range j.Tasks {
			if task.State == vault.TaskRunning && task.Why != "" {
				what += ": " + task.Why
				return true, nil
			}
		}
		return time.Now().After(patience), nil
	})
	return what
}

// retryIfFailed does what a job that stopped says.
func (e *estate) retryIfFailed(g *guest) {
	e.t.Helper()
	page, err := e.vault.Jobs(e.ctx, vault.Query{Item: string(g.item), Limit: 1})
	if err != nil || len(page.Entries) == 0 { // the vault has come to the next step, and died there
		return
	}
	if j := page.Entries[0]; j.State == vault.JobFailed || j.State == vault.JobPaused {
		e.honest(j)
		_, err := e.vault.TellJob(e.ctx, vault.JobRequest{ID: j.ID, Action: vault.JobRetry})
		if err != nil && homeward.KindOf(err) != homeward.Unavailable {
			e.t.Fatal(err)
		}
	}
}

// A test failover with a real guest: production's network is refused, the machine is
// rehearsed on the isolated one while it runs and replicates, and what is left of the
// rehearsal goes by itself when its time is over.
func TestVaultTestFailoverOfARealGuest(t *testing.T) {
	t.Parallel()
	need(t, "qemu-system-x86_64", "mkfs.ext4")
	e := settle(t, lab.Plan{Guest: lab.Guest{Kind: "qemu"}}, "web01")
	g := e.guests[0]
	e.write(20)
	e.productionRefused(g)
	began := time.Now()
	point := e.newest(g, began)
	least := g.console.AckedBy(point)
	e.done(e.act(g, vault.TestFailover, vault.Input{Network: "isolated", Lifetime: 20 * time.Second}))
	it := e.state(g, vault.Protected)
	if it.Test.State != vault.TestOpen || it.Test.Network != "isolated" || it.Test.Machine == "" {
		t.Fatalf("the test failover is not open: %+v", it.Test)
	}
	rehearsal := &guest{item: homeward.ItemID(it.Test.Machine), said: map[string]int64{}}
	last := e.hear(rehearsal, "away")
	rehearsal.console.Stop()
	if last < least {
		t.Errorf("record %d was durable before the point was cut, %d is the last one in the rehearsal", least, last)
	}
	e.write(20)
	e.eventually("the rehearsal to be cleaned up by itself", func() (bool, error) {
		it, err := e.vault.Item(e.ctx, g.item)
		return it.Test.State == vault.TestNone && !it.Test.Succeeded.IsZero(), err
	})
	_, err := e.vault.RefreshSite(e.ctx, "away")
	e.must(err)
	if m, err := e.vault.Machine(e.ctx, "away/"+it.Test.Machine); homeward.KindOf(err) != homeward.NotFound && m.Presence != vault.Gone {
		t.Errorf("the machine of the rehearsal is still there: %v %+v", err, m)
	}
	if left, err := filepath.Glob(filepath.Join(e.Dir, "cs-away", "machines", it.Test.Machine+"*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
	e.write(20)
	e.prove(g)
}

// productionRefused asks for a rehearsal in the network of production: no machine is
// made, and it is said which network would do.
func (e *estate) productionRefused(g *guest) {
	e.t.Helper()
	j, err := e.vault.Act(e.ctx, vault.ActionRequest{Item: g.item, Action: vault.TestFailover, Input: vault.Input{Network: "production"}})
	if err == nil {
		e.eventually("the job to be refused", func() (bool, error) {
			j, err = e.vault.Job(e.ctx, j.ID)
			return j.State.Ended(), err
		})
		if j.Error == nil || j.Error.Kind != homeward.Invalid || !strings.Contains(j.Error.Message+j.Error.Remedy, "isolated") {
			e.t.Fatalf("a test failover in production's network: %s %+v", j.State, j.Error)
		}
	} else if homeward.KindOf(err) != homeward.Invalid || !strings.Contains(err.Error(), "isolated") {
		e.t.Fatal(err)
	}
	if it := e.state(g, vault.Protected); it.Test.State != vault.TestNone || it.Test.Machine != "" {
		e.t.Fatalf("something is left of a test failover that was refused: %+v", it.Test)
	}
	if made, err := filepath.Glob(filepath.Join(e.Dir, "cs-away", "machines", "*")); err != nil || len(made) > 0 {
		e.t.Fatalf("machines were made: %q %v", made, err)
	}
}
