package system

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// Two machines go there and come home through the vault, while every kind of process
// is killed once in the middle of a job, at a moment that is drawn. All jobs end, no
// record that was announced before the point is lost, and both sides are equal.
func TestVaultRoundTripWhileEachRoleIsKilled(t *testing.T) {
	t.Parallel()
	rng := random(t)
	for n := range rounds(t) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := &reaper{estate: found(t, lab.Plan{Outlive: true}), rng: rng, killed: map[string]bool{}}
			r.sites("web01", "db01")
			r.thereAndBack()
			for _, kind := range []string{"vault", "cs-home", "cs-away", "agent", "ps", "mt"} {
				if !r.killed[kind] {
					t.Errorf("%s was not killed", kind)
				}
			}
		})
	}
}

// The same trip with the vault's store in PostgreSQL, whose server is restarted in
// the middle of a job, too.
func TestVaultRoundTripOnPostgreSQL(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	r := &reaper{estate: found(t, lab.Plan{Outlive: true, Store: db.url()}), rng: random(t), killed: map[string]bool{}, only: "vault", database: db}
	status, err := r.vault.Status(r.ctx)
	r.must(err)
	if status.Store != "postgresql" {
		t.Fatalf("the store is %s", status.Store)
	}
	r.sites("web01")
	r.thereAndBack()
}

// reaper kills processes of an estate in the middle of jobs.
type reaper struct {
	*estate
	rng      *rand.Rand
	killed   map[string]bool // kinds of victims
	only     string          // the one kind to kill; empty: each once
	database *database       // nil: none; else restarted in a phase
}

func (r *reaper) thereAndBack() {
	r.t.Helper()
	all := append(append([]*lab.Program{r.Vault}, r.home.Programs()...), r.away.Programs()...)
	left := append([]*lab.Program{r.Vault}, r.away.Programs()...)
	r.phase(vault.Enable, vault.Input{Target: "away", Policy: "gold"}, all)
	for _, g := range r.guests {
		r.protected(g)
		r.hear(g, "home")
	}
	r.write(50)
	least := r.lose()
	for _, g := range r.guests {
		defer r.leave(g, "away").Stop()
	}
	r.phase(vault.Failover, vault.Input{Point: vault.Latest}, left)
	for _, g := range r.guests {
		if last := r.hear(g, "away"); last < least[g] {
			r.t.Fatalf("record %d of %s was durable before the point was cut, %d is the last one there", least[g], g.item, last)
		}
	}
	r.write(50)
	r.phase(vault.Commit, vault.Input{}, left)
	r.returns()
	r.reverse("home", all)
	r.write(50)
	r.comeHome(all)
	r.write(50)
	r.phase(vault.Commit, vault.Input{}, all)
	r.reverse("away", all)
	r.write(20)
}

// reverse reprotects, and proves both sides equal.
func (r *reaper) reverse(to string, victims []*lab.Program) {
	r.t.Helper()
	r.phase(vault.Reprotect, r.back(to), victims)
	for _, g := range r.guests {
		r.protected(g)
		r.prove(g)
	}
}

// comeHome fails back: every record that was ever announced must be there.
func (r *reaper) comeHome(victims []*lab.Program) {
	r.t.Helper()
	old := map[*guest]*lab.Console{}
	for _, g := range r.guests {
		old[g] = r.leave(g, "home")
		defer old[g].Stop()
	}
	r.phase(vault.FailbackAction, vault.Input{}, victims)
	for _, g := range r.guests {
		if last := r.hear(g, "home"); last < old[g].Last() {
			r.t.Fatalf("%s announced record %d, and %d is the last one after a planned move", g.item, old[g].Last(), last)
		}
	}
}

// phase does an action with all machines at the same time, and kills a process once
// a task that was drawn has begun.
func (r *reaper) phase(a vault.Action, in vault.Input, victims []*lab.Program) {
	r.t.Helper()
	victim := r.draw(victims)
	task, delay := r.rng.IntN(5), time.Duration(r.rng.IntN(100))*time.Millisecond
	var jobs []vault.Job
	for _, g := range r.guests {
		jobs = append(jobs, r.act(g, a, in))
	}
	watched := jobs[r.rng.IntN(len(jobs))]
	at := r.begun(watched, task)
	pause := time.NewTimer(delay)
	<-pause.C
	r.t.Logf("%-9s %s killed %v after %q began", a, victim.Name, delay, at)
	victim.Kill()
	if r.database != nil {
		r.database.restart()
	}
	r.start(victim)
	for _, j := range jobs {
		r.done(j)
	}
}

// begun waits until a job's task of an index, or its last one, runs.
func (r *reaper) begun(j vault.Job, task int) (title string) {
	r.t.Helper()
	r.eventually("task of "+j.Title, func() (bool, error) {
		now, err := r.vault.Job(r.ctx, j.ID)
		if err != nil {
			return false, err
		}
		i := min(task, len(now.Tasks)-1)
		title = now.Tasks[i].Title
		return now.State.Ended() || !now.Tasks[i].Started.IsZero(), nil
	})
	return title
}

// draw chooses a victim, of a kind that was not killed yet while there is one.
func (r *reaper) draw(victims []*lab.Program) *lab.Program {
	kind := func(p *lab.Program) string {
		if strings.HasPrefix(p.Name, "cs-") {
			return p.Name
		}
		before, _, _ := strings.Cut(p.Name, "-")
		return before
	}
	fresh := slices.DeleteFunc(slices.Clone(victims), func(p *lab.Program) bool {
		return r.killed[kind(p)] || r.only != "" && kind(p) != r.only
	})
	if len(fresh) == 0 {
		fresh = slices.DeleteFunc(slices.Clone(victims), func(p *lab.Program) bool { return r.only != "" && kind(p) != r.only })
	}
	victim := fresh[r.rng.IntN(len(fresh))]
	r.killed[kind(victim)] = true
	return victim
}
