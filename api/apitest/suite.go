package apitest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// World is a vault with something in it for the suite to work on. Whoever makes one
// also ends it, with t.Cleanup.
type World struct {
	// As is the vault as somebody with that access sees it, and the context to call it
	// in; with "" as somebody whom nobody knows.
	As func(vault.Access) (context.Context, vault.Vault)

	Site    string // where Machine is; its nodes are enrolled
	Target  string // another one, to protect to; its nodes are enrolled
	Machine string // id of a machine that is not protected, and can be
	Node    string // a process server at Site
	Policy  string // a forward policy
	Network string // isolated, at Target
}

// Start makes a fresh world.
type Start func(t *testing.T) World

// Run is the whole suite.
func Run(t *testing.T, start Start) {
	Records(t, start)
	Recoveries(t, start)
}

// Records is the part of the suite that works on what is written down: lists,
// sites, nodes, policies, tokens, access, audit log, events. Of the world it needs
// As, Site with a process server Node, and Policy.
func Records(t *testing.T, start Start) {
	run(t, start, []test{
		{"Lists", testLists}, {"Filters", testFilters}, {"Sites", testSites}, {"SiteNames", testNames}, {"Racing", testRacing},
		{"Policies", testPolicies}, {"FailbackPolicy", testFailbackPolicy}, {"Nodes", testNodes}, {"Enrolments", testEnrolments},
		{"Tokens", testTokens}, {"Access", testAccess}, {"Audit", testAudit}, {"Watch", testWatch}, {"WatchAfter", testWatchAfter},
		{"NotFound", testNotFound}, {"Status", testStatus}, {"GivenUp", testGivenUp},
	})
}

// Recoveries is the part that protects Machine and brings it there and back.
func Recoveries(t *testing.T, start Start) {
	run(t, start, []test{
		{"RoundTrip", testRoundTrip}, {"TestFailover", testTestFailover}, {"Refused", testRefused}, {"Key", testKey}, {"Stale", testStale},
		{"Input", testInput}, {"Plan", testPlan}, {"Item", testItem}, {"Jobs", testJobs}, {"Disable", testDisable},
	})
}

type test struct {
	name string
	do   func(*suite)
}

func run(t *testing.T, start Start, tests []test) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.do(&suite{T: t, World: start(t)}) })
	}
}

// suite is one test in its world.
type suite struct {
	*testing.T
	World
}

// patience is how long a test waits for what must come; it decides nothing.
const patience = time.Minute

// must fails the test at once.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// refused demands an error of that kind that is told in full, and that names what
// is wrong.
func (s *suite) refused(kind homeward.Kind, err error, names ...string) {
	s.Helper()
	var e *homeward.Error
	if homeward.KindOf(err) != kind || !errors.As(err, &e) {
		s.Errorf("got %v (%s), want an error of kind %s", err, homeward.KindOf(err), kind)
		return
	}
	if homeward.RemedyOf(err) == "" {
		s.Errorf("nobody learns what to do: %v", err)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			s.Errorf("%s is not named: %v", name, err)
		}
	}
}

// wait follows a job to its end, and on through the child that took over.
func (s *suite) wait(as vault.Access, job vault.Job) vault.Job {
	s.Helper()
	ctx, v := s.As(as)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.until(ctx, "job "+job.ID+" to end", func() bool {
		var err error
		job, err = v.Job(ctx, job.ID)
		s.must(err)
		if job.State == vault.JobPaused {
			s.Fatalf("job %s waits for a person: %+v", job.ID, job.Tasks)
		}
		return job.State.Ended()
	})
	return job
}

// until asks again and again.
func (s *suite) until(ctx context.Context, what string, done func() bool) {
	s.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			s.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// act does an action and waits for its job, which must succeed.
func (s *suite) act(as vault.Access, req vault.ActionRequest) vault.Job {
	s.Helper()
	ctx, v := s.As(as)
	job, err := v.Act(ctx, req)
	s.must(err)
	if !job.State.Ended() {
		job = s.wait(as, job)
	}
	if job.State != vault.JobSucceeded {
		s.Fatalf("%s: the job is %s: %+v", req.Action, job.State, job.Error)
	}
	return job
}

// reach waits until the item is in a state with nothing under way.
func (s *suite) reach(id homeward.ItemID, state vault.State) (item vault.Item) {
	s.Helper()
	ctx, v := s.As(vault.Reader)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.until(ctx, "item "+string(id)+" to be "+string(state), func() bool {
		var err error
		item, err = v.Item(ctx, id)
		s.must(err)
		return item.State == state && item.Job == ""
	})
	return item
}

// protect brings the world's machine under protection.
func (s *suite) protect(id homeward.ItemID) vault.Item {
	s.Helper()
	s.act(vault.Contributor, s.enable(id))
	return s.reach(id, vault.Protected)
}

func (s *suite) enable(id homeward.ItemID) vault.ActionRequest {
	return vault.ActionRequest{Item: id, Machine: s.Machine, Action: vault.Enable, Input: vault.Input{Target: s.Target, Policy: s.Policy}}
}

// all walks a list.
func all[T any](s *suite, list func(context.Context, vault.Query) (vault.Page[T], error), ctx context.Context, q vault.Query) (entries []T) {
	s.Helper()
	for {
		page, err := list(ctx, q)
		s.must(err)
		entries = append(entries, page.Entries...)
		if q.Limit > 0 && len(page.Entries) > q.Limit {
			s.Fatalf("%d entries where %d were asked for", len(page.Entries), q.Limit)
		}
		if q.After = page.Next; q.After == "" {
			return entries
		}
	}
}

func contains[S ~string](all []S, one S) bool { return slices.Contains(all, one) }
