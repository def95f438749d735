package service

import (
	"cmp"
	"context"

	"github.com/homeward-dr/homeward"
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
	// Link is how many synchronize at once over one process server to one master target; 6.
	Link int
	// Host is how many items at once have things prepared or taken down by the hypervisor
	// of one site, behind its configuration server; and, apart from them so that no
	// recovery waits for preparations, how many at once have a machine started there; 32.
	Host int
}

// DefaultLimits are those of a vault that is told none.
func DefaultLimits() Limits { return Limits{Target: 8, Link: 6, Host: 32} }

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	return Limits{Target: cmp.Or(l.Target, d.Target), Link: cmp.Or(l.Link, d.Link), Host: cmp.Or(l.Host, d.Host)}
}

// Validate names the first limit that nothing could run under.
func (l Limits) Validate() error {
	for _, of := range []struct {
		name string
		most int
	}{{"target", l.Target}, {"link", l.Link}, {"host", l.Host}} {
		if of.most < 0 {
			return homeward.Errorf("validate limits", homeward.Invalid, of.name, "give at least 1, or 0 for the default", "%d", of.most)
		}
	}
	return nil
}

// How many jobs there may be at once: one for each item that synchronizes, and more.
// What a node bears is bounded by limits.
const maxJobs = 20000

// limits are what a job shares with others. That they cannot be read is not that there
// are none.
func (w *workshop) limits(ctx context.Context, j vault.Job) ([]job.Limit, error) {
	it, err := w.store.Items.Get(ctx, string(j.Item))
	if homeward.KindOf(err) == homeward.NotFound { // it is gone, or the job has none
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	asked, err := assignmentOf(j)
	if err != nil {
		return nil, nil //nolint:nilerr // its plan says what is wrong, and it does nothing
	}
	return w.bounds.of(j, it, asked.Input), nil
}

// of is pure.
func (l Limits) of(j vault.Job, it vault.Item, in vault.Input) []job.Limit {
	other := otherSite(it)
	target := endOf(&it, other).MasterTarget
	if in.MasterTarget != "" {
		target = in.MasterTarget
	}
	process := endOf(&it, it.ActiveSite).ProcessServer
	if in.ProcessServer != "" {
		process = in.ProcessServer
	}
	host := func(site, what string) job.Limit {
		return job.Limit{Key: "site " + site + ", " + what, Max: l.Host}
	}
	// The child's copying goes on whether it runs or not: it counts from its parent's end.
	sync := func(holds bool) []job.Limit {
		return []job.Limit{
			{Key: "master target " + target + ", synchronizations", Max: l.Target, Holds: holds},
			{Key: "the link from process server " + process + " to master target " + target + ", synchronizations", Max: l.Link, Holds: holds},
		}
	}
	switch {
	case j.Scenario == lifecycle.ScenarioFirstPoint:
		return sync(true)
	case j.Scenario == scenarioReplica:
		return sync(false)
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
func (w *workshop) rank(ctx context.Context, j vault.Job) (int, error) {
	it, err := w.store.Items.Get(ctx, string(j.Item))
	if homeward.KindOf(err) == homeward.NotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	switch j.Action {
	case vault.Failover, vault.ChangePoint, vault.FailbackAction, vault.CancelFailover:
		return it.Replication.Priority, nil
	}
	return 10 + it.Replication.Priority, nil
}
