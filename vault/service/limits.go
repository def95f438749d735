package service

import (
	"context"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// Limits bound how much jobs do at the same time; a job that waits says for what. Zero:
// the default.
type Limits struct {
	// Target is how many items synchronize (first copies, reprotects, resyncs) or are
	// proven at once to one master target; 8.
	Target int
	// Link is how many synchronize at once from one site to another; 16.
	Link int
	// Host is how many items at once have things prepared or taken down by the
	// configuration server of one site; and, apart from them so that no recovery waits for
	// preparations, how many at once have a machine started there; 32.
	Host int
}

func (l Limits) withDefaults() Limits {
	for at, then := range map[*int]int{&l.Target: 8, &l.Link: 16, &l.Host: 32} {
		if *at <= 0 {
			*at = then
		}
	}
	return l
}

// How many jobs there may be at once: one for each item that synchronizes, and more.
// What a node bears is bounded by limits.
const maxJobs = 20000

// limits are what a job shares with others.
func (w *workshop) limits(j vault.Job) []job.Limit {
	it, err := w.store.Items.Get(context.Background(), string(j.Item))
	if err != nil {
		return nil // it is gone, or the first task says what is wrong
	}
	asked, err := assignmentOf(j)
	if err != nil {
		return nil
	}
	return w.bounds.of(j, it, asked.Input)
}

// of is pure.
func (l Limits) of(j vault.Job, it vault.Item, in vault.Input) []job.Limit {
	other := otherSite(it)
	target := endOf(&it, other).MasterTarget
	if in.MasterTarget != "" {
		target = in.MasterTarget
	}
	host := func(site, what string) job.Limit {
		return job.Limit{Key: "site " + site + ", " + what, Max: l.Host}
	}
	// The child's copying goes on whether it runs or not: it counts from its parent's end.
	sync := func(holds bool) []job.Limit {
		return []job.Limit{
			{Key: "master target " + target + ", synchronizations", Max: l.Target, Holds: holds},
			{Key: "the link from " + it.ActiveSite + " to " + other + ", synchronizations", Max: l.Link, Holds: holds},
		}
	}
	switch {
	case j.Scenario == lifecycle.ScenarioFirstPoint:
		return sync(true)
	case j.Scenario == scenarioProve:
		return sync(false)[:1]
	}
	switch j.Action {
	case vault.Resync:
		return sync(false)
	case vault.Enable, vault.Reprotect:
		return append(sync(false), host(other, "preparations"))
	case vault.TestFailover, vault.CleanUpTest, vault.Disable:
		return []job.Limit{host(other, "preparations")}
	case vault.Failover, vault.ChangePoint, vault.FailbackAction, vault.CancelFailover:
		return []job.Limit{host(other, "machine starts")}
	}
	return nil
}

// rank says which of the jobs that wait goes first: what brings a machine back before
// everything else, and then by the item's priority.
func (w *workshop) rank(j vault.Job) int {
	it, err := w.store.Items.Get(context.Background(), string(j.Item))
	if err != nil {
		return 0
	}
	switch j.Action {
	case vault.Failover, vault.ChangePoint, vault.FailbackAction, vault.CancelFailover:
		return it.Replication.Priority
	}
	return 10 + it.Replication.Priority
}
