package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// estate is a vault with two sites, as real processes, and what its machines say.
type estate struct {
	*lab.Installation
	t          *testing.T
	ctx        context.Context
	vault      *api.Client
	home, away *lab.Place
	guests     []*guest
}

// guest is a machine: where it was booted last, and what it says there.
type guest struct {
	item    homeward.ItemID
	console *lab.Console
	said    map[string]int64 // length of its console at each site when it left there
}

// found is an estate with a vault and no sites.
func found(t *testing.T, plan lab.Plan) *estate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	plan.Executable = binary
	plan.Guest.Dir = filepath.Join(root, "cache", "guest")
	if plan.Guest.Kind == "" {
		plan.Guest.Kind = "builtin"
	}
	if plan.Guest.Churn == 0 {
		plan.Guest.Churn = 2
	}
	e := &estate{t: t, ctx: ctx}
	e.must(plan.Guest.Complete())
	var err error
	e.Installation, err = lab.Install(ctx, plan)
	e.must(err)
	t.Cleanup(e.end)
	e.vault = e.client(e.Operator)
	return e
}

// settle is an estate with both sites, each machine at home protected and running.
func settle(t *testing.T, plan lab.Plan, machines ...string) *estate {
	t.Helper()
	e := found(t, plan)
	e.sites(machines...)
	for _, g := range e.guests {
		e.done(e.act(g, vault.Enable, vault.Input{Target: "away", Policy: "gold"}))
	}
	for _, g := range e.guests {
		e.protected(g)
		e.hear(g, "home")
	}
	return e
}

// sites adds both sites, with small machines of one disk at home.
func (e *estate) sites(machines ...string) {
	e.t.Helper()
	var all []homeward.Machine
	for _, name := range machines {
		e.guests = append(e.guests, &guest{item: homeward.ItemID(name), said: map[string]int64{}})
		all = append(all, homeward.Machine{Item: homeward.ItemID(name), Name: name, CPUs: 1, MemoryMiB: 128, Firmware: "bios", OSFamily: "linux",
			Disks: []homeward.Disk{{ID: homeward.DiskID(name + "-root"), Size: 64 << 20, BootOrder: 1}}})
	}
	for _, name := range []string{"home", "away"} {
		_, err := e.vault.PutSite(e.ctx, vault.SiteRequest{Name: name})
		e.must(err)
	}
	var err error
	e.away, err = e.AddSite(e.ctx, "away")
	e.must(err)
	e.home, err = e.AddSite(e.ctx, "home", all...)
	e.must(err)
	for _, g := range e.guests {
		_, err = e.vault.RefreshSite(e.ctx, "home")
		e.must(err)
		m, err := e.vault.Machine(e.ctx, "home/"+string(g.item))
		e.must(err)
		e.must(e.Guest.Format(e.ctx, strings.TrimPrefix(m.Found.Disks[0].Ref, "file:")))
	}
	_, err = e.vault.PutPolicy(e.ctx, vault.PolicyRequest{Name: "gold", Settings: policy()})
	e.must(err)
}

func (e *estate) end() {
	for _, g := range e.guests {
		if g.console != nil {
			g.console.Stop()
		}
	}
	e.vault.Close()
	if e.t.Failed() {
		e.t.Log(e.Logs())
	}
	if err := e.Close(); err != nil {
		e.t.Error(err)
	}
}

func (e *estate) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// client is one who calls the vault as an operator would.
func (e *estate) client(o *lab.Operator) *api.Client {
	e.t.Helper()
	env := map[string]string{}
	for _, v := range o.Env {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	c, err := api.NewClient(api.ClientOptions{URL: env["HOMEWARD_VAULT"], Token: env["HOMEWARD_TOKEN"], CA: env["HOMEWARD_CA"]})
	e.must(err)
	return c
}

// eventually asks until ok; a vault that is away is borne, and a role too.
func (e *estate) eventually(what string, ok func() (bool, error)) {
	e.t.Helper()
	(&rig{t: e.t, ctx: e.ctx}).eventually(what, ok)
}

// act asks for an action as somebody does who insists, whatever becomes of the vault
// meanwhile: the key makes it one job.
func (e *estate) act(g *guest, a vault.Action, in vault.Input) vault.Job {
	e.t.Helper()
	req := vault.ActionRequest{Item: g.item, Action: a, Input: in, Key: homeward.NewID().String()}
	if a == vault.Enable {
		req.Machine = "home/" + string(g.item)
	}
	var j vault.Job
	e.eventually(string(a)+" to begin", func() (_ bool, err error) {
		j, err = e.vault.Act(e.ctx, req)
		return err == nil, err
	})
	return j
}

// done waits until a job has succeeded. One that says that it failed or waits for
// somebody must say what to do about it, and is retried.
func (e *estate) done(j vault.Job) vault.Job {
	e.t.Helper()
	retries := 0
	e.eventually(fmt.Sprintf("job %s (%s of %s)", j.ID, j.Title, j.Item), func() (bool, error) {
		now, err := e.vault.Job(e.ctx, j.ID)
		if err != nil {
			return false, err
		}
		j = now
		switch {
		case j.State == vault.JobFailed || j.State == vault.JobPaused:
			e.honest(j)
			if retries++; retries > 10 {
				e.t.Fatalf("%s of %s fails each time: %+v", j.Title, j.Item, j.Error)
			}
			e.t.Logf("%s of %s is retried: %s", j.Title, j.Item, j.Error.Message)
			_, err = e.vault.TellJob(e.ctx, vault.JobRequest{ID: j.ID, Action: vault.JobRetry})
			if homeward.KindOf(err) == homeward.Conflict { // its answer was lost, or a role is not back yet
				e.t.Logf("the retry is refused: %v", err)
				return false, nil
			}
		case j.State == vault.JobCancelled:
			e.t.Fatalf("%s of %s was cancelled by nobody", j.Title, j.Item)
		}
		return j.State == vault.JobSucceeded, err
	})
	for _, task := range j.Tasks {
		if task.State != vault.TaskSucceeded && task.State != vault.TaskSkipped {
			e.t.Fatalf("%s of %s succeeded, and its task %s is %s", j.Title, j.Item, task.Name, task.State)
		}
	}
	return j
}

// honest demands that a job which stopped says why, and what to do.
func (e *estate) honest(j vault.Job) {
	e.t.Helper()
	if j.Error == nil || j.Error.Message == "" || j.Error.Remedy == "" || !slices.Contains(j.Actions, vault.JobRetry) {
		e.t.Fatalf("%s of %s is %s and does not say why, what to do, or cannot be retried: %+v, %v", j.Title, j.Item, j.State, j.Error, j.Actions)
	}
}

// protected waits until a machine's first point stands.
func (e *estate) protected(g *guest) {
	e.t.Helper()
	e.state(g, vault.Protected)
	page, err := e.vault.Jobs(e.ctx, vault.Query{Item: string(g.item)})
	e.must(err)
	for _, j := range page.Entries { // newest first
		if j.Scenario == "IrCompletion" {
			e.done(j)
			return
		}
	}
	e.t.Fatalf("item %s is protected, and no job has waited for its first point", g.item)
}

// state waits until an item is in a state and nothing works on it.
func (e *estate) state(g *guest, want vault.State) vault.Item {
	e.t.Helper()
	var it vault.Item
	e.eventually(fmt.Sprintf("item %s to be %s", g.item, want), func() (_ bool, err error) {
		it, err = e.vault.Item(e.ctx, g.item)
		return it.State == want && it.Job == "", err
	})
	return it
}

// start starts a process again, and waits until the vault hears the nodes that run,
// and those it needs can be asked.
func (e *estate) start(p *lab.Program) {
	e.t.Helper()
	e.must(p.Start(e.ctx, e.Executable))
	e.heard()
}

func (e *estate) heard() {
	e.t.Helper()
	for _, p := range []*lab.Place{e.home, e.away} {
		for _, prog := range p.Programs() {
			select {
			case <-prog.Ended():
				continue
			default:
			}
			e.eventually("the vault to hear "+prog.Name, func() (bool, error) {
				n, err := e.vault.Node(e.ctx, prog.Name)
				return n.State == vault.NodeReady, err
			})
			if prog == p.Config { // asked anew: a vault that was just started believes what it knew
				e.eventually("site "+p.Name+" to answer", func() (bool, error) {
					s, err := e.vault.RefreshSite(e.ctx, p.Name)
					return s.Connected, err
				})
			}
		}
	}
}

func (e *estate) console(g *guest, site string) string {
	return filepath.Join(e.Dir, "cs-"+site, "run", string(g.item)+".console")
}

// hear listens to a machine where it was booted now, and tells the newest record that
// it found there. Nothing it found may be damaged.
func (e *estate) hear(g *guest, site string) uint64 {
	e.t.Helper()
	g.console = lab.Listen(e.ctx, e.console(g, site), g.said[site])
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	found, err := g.console.Running(ctx)
	if err != nil {
		e.t.Fatalf("%s does not come up at %s: %v; it says %q", g.item, site, err, g.console.Other())
	}
	if found.Bad != 0 {
		e.t.Fatalf("%s found %d damaged records at %s", g.item, found.Bad, site)
	}
	return found.Last
}

// leave stops listening to a machine before it goes to a site, and remembers what it
// has said there before.
func (e *estate) leave(g *guest, to string) *lab.Console {
	if st, err := os.Stat(e.console(g, to)); err == nil {
		g.said[to] = st.Size()
	}
	old := g.console
	g.console = nil
	return old
}

// write lets all machines announce n more records.
func (e *estate) write(n uint64) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	for _, g := range e.guests {
		if err := g.console.Until(ctx, g.console.Last()+n); err != nil {
			e.t.Fatalf("%s: %v; it says %q", g.item, err, g.console.Other())
		}
	}
}

// newest waits for a point that was cut after an instant.
func (e *estate) newest(g *guest, after time.Time) (at time.Time) {
	e.t.Helper()
	e.eventually("points of "+string(g.item), func() (bool, error) {
		list, err := e.vault.Points(e.ctx, g.item)
		if n := len(list.Points); n > 0 {
			at = list.Points[n-1].Mark.At
		}
		return at.After(after), err
	})
	return at
}

// lose takes home away and returns, for each machine, the newest record that must not
// be lost: it was announced before the newest point was cut.
func (e *estate) lose() map[*guest]uint64 {
	e.t.Helper()
	began := time.Now()
	for _, g := range e.guests {
		e.newest(g, began)
	}
	e.Lose(e.home)
	e.must(e.EndMachines(e.ctx, e.home))
	least := map[*guest]uint64{}
	for _, g := range e.guests {
		least[g] = g.console.AckedBy(e.newest(g, began))
	}
	return least
}

// returns brings home back; its machines stay off.
func (e *estate) returns() {
	e.t.Helper()
	e.must(e.Restore(e.ctx, e.home))
	e.heard()
}

// back is what a reprotect to a site is given.
func (e *estate) back(to string) vault.Input {
	return vault.Input{MasterTarget: "mt-" + to, Datastore: e.Datastore(to)}
}

// prove demands equal digests of both sides, and a report that the vault has signed.
func (e *estate) prove(g *guest) {
	e.t.Helper()
	var j vault.Job
	e.eventually("a proof to begin", func() (_ bool, err error) {
		j, err = e.vault.Prove(e.ctx, g.item)
		return err == nil, err
	})
	e.done(j)
	raw, err := e.vault.Proof(e.ctx, g.item)
	e.must(err)
	signed, err := pki.ParseSigned(raw)
	e.must(err)
	var proof homeward.Proof
	e.must(signed.Decode(&proof))
	if !proof.Equal {
		e.t.Fatalf("the sides of %s differ: %+v", g.item, proof.Disks)
	}
}
