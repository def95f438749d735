package job_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// byTarget limits jobs by the sites that their item's name lists: "a+b".
func byTarget(most int) func(context.Context, vault.Job) ([]job.Limit, error) {
	return func(_ context.Context, j vault.Job) (limits []job.Limit, err error) {
		at, _, _ := strings.Cut(string(j.Item), "/")
		for target := range strings.SplitSeq(at, "+") {
			limits = append(limits, job.Limit{Key: target, Max: most})
		}
		return limits, nil
	}
}

func TestLimits(t *testing.T) {
	store, u := newMemory(), newUntil()
	e := engine(t, job.Options{Store: store, Limits: byTarget(1), Definitions: []job.Definition{plain("S", task("a", u.do))}})
	first := start(t, e, vault.Job{Scenario: "S", Item: "mt1/1"}).ID
	<-u.began
	told := make(chan string, 8)
	store.mu.Lock()
	store.saved = func(j vault.Job) {
		if j.Item == "mt1/2" && j.Tasks[0].Why != "" {
			told <- j.Tasks[0].Why
		}
	}
	store.mu.Unlock()
	second := start(t, e, vault.Job{Scenario: "S", Item: "mt1/2"}).ID
	if why := <-told; !strings.Contains(why, "mt1") {
		t.Errorf("it waits because %q", why)
	}
	j, err := e.Job(bounded(t), second)
	if err != nil || j.State != vault.JobNotStarted || j.Tasks[0].State != vault.TaskNotStarted {
		t.Errorf("waiting as %+v %v", j, err)
	}
	third := start(t, e, vault.Job{Scenario: "S", Item: "mt1/3"}).ID
	start(t, e, vault.Job{Scenario: "S", Item: "mt2/4"})
	<-u.began                                // another target has room
	must(t, e, second, vault.JobCancel, "")  // while it waits
	wait(t, e, second, vault.JobCancelled)   // at once
	if h := store.holder("mt1/2"); h != "" { // and its item is free
		t.Errorf("the item is held by %q", h)
	}
	close(u.goOn)
	wait(t, e, first, vault.JobSucceeded)
	if j := wait(t, e, third, vault.JobSucceeded); j.Tasks[0].Why != "" {
		t.Errorf("it still waits: %q", j.Tasks[0].Why)
	}
	store.check(t)
}

// TestNobodyPasses: a job that waits for two targets is not passed, at the free one,
// by a job that came later.
func TestNobodyPasses(t *testing.T) {
	store, u := newMemory(), newUntil()
	waits := make(chan homeward.ItemID, 8)
	store.saved = func(j vault.Job) {
		if j.State == vault.JobNotStarted && j.Tasks[0].Why != "" {
			waits <- j.Item
		}
	}
	e := engine(t, job.Options{Store: store, Limits: byTarget(1), Definitions: []job.Definition{plain("S", task("a", u.do))}})
	start(t, e, vault.Job{Scenario: "S", Item: "a/1"})
	<-u.began
	for _, item := range []homeward.ItemID{"a+b/2", "b/3"} {
		start(t, e, vault.Job{Scenario: "S", Item: item})
		select {
		case got := <-waits:
			if got != item {
				t.Errorf("%s waits", got)
			}
		case <-u.began:
			t.Fatalf("%s runs", item)
		}
	}
	close(u.goOn)
	for _, j := range store.all() {
		wait(t, e, j.ID, vault.JobSucceeded)
	}
}

func TestQueueIsBounded(t *testing.T) {
	u := newUntil()
	e := engine(t, job.Options{Store: newMemory(), Max: 1, Queue: 3, Definitions: []job.Definition{plain("S", task("a", u.do))}})
	for range 3 {
		start(t, e, vault.Job{Scenario: "S"})
	}
	if _, err := e.Start(bounded(t), vault.Job{Scenario: "S"}); homeward.KindOf(err) != homeward.Busy {
		t.Errorf("the fourth: %v", err)
	}
}

// TestLimitsHold runs jobs with random keys and sees that no limit is ever exceeded,
// and that all of them run.
func TestLimitsHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most, all := rapid.IntRange(1, 3).Draw(rt, "limit"), rapid.IntRange(1, 5).Draw(rt, "all")
		var mu sync.Mutex
		running, total := map[string]int{}, 0
		limits := byTarget(most)
		add := func(j vault.Job, n int) {
			mu.Lock()
			defer mu.Unlock()
			total += n
			if total > all {
				rt.Errorf("%d run at once, the limit is %d", total, all)
			}
			shared, err := limits(context.Background(), j)
			if err != nil {
				rt.Fatal(err)
			}
			for _, l := range shared {
				if running[l.Key] += n; running[l.Key] > most {
					rt.Errorf("%d run at %s, the limit is %d", running[l.Key], l.Key, most)
				}
			}
		}
		e := newEngine(job.Options{Store: newMemory(), Max: all, Limits: limits, Definitions: []job.Definition{plain("S", task("a", func(_ context.Context, r *job.Run) error {
			add(r.Job(), 1)
			add(r.Job(), -1)
			return nil
		}))}})
		defer e.Close()
		var ids []string
		for i := range rapid.IntRange(1, 20).Draw(rt, "jobs") {
			targets := rapid.SampledFrom([]string{"a", "b", "c", "a+b", "b+c", "a+b+c"}).Draw(rt, "targets")
			j, err := e.Start(context.Background(), vault.Job{Scenario: "S", Item: homeward.ItemID(fmt.Sprintf("%s/%d", targets, i))})
			if err != nil {
				rt.Fatalf("start: %v", err)
			}
			ids = append(ids, j.ID)
		}
		for _, id := range ids {
			if j, err := e.Wait(bounded(t), id); err != nil || j.State != vault.JobSucceeded {
				rt.Fatalf("%s %v", j.State, err)
			}
		}
	})
}

// A job of better rank goes first, also one that got it while it waited.
func TestRank(t *testing.T) {
	store, u := newMemory(), newUntil()
	ranks := map[homeward.ItemID]int{"a/1": 5, "a/2": 5, "a/3": 2, "a/4": 5}
	var mu sync.Mutex
	rank := func(_ context.Context, j vault.Job) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return ranks[j.Item], nil
	}
	order := make(chan homeward.ItemID, 4)
	def := plain("S", task("a", func(ctx context.Context, r *job.Run) error {
		order <- r.Job().Item
		if r.Job().Item == "a/1" {
			return u.do(ctx, r)
		}
		return nil
	}))
	e := engine(t, job.Options{Store: store, Limits: byTarget(1), Rank: rank, Definitions: []job.Definition{def}})
	start(t, e, vault.Job{Scenario: "S", Item: "a/1"})
	<-u.began
	for _, item := range []homeward.ItemID{"a/2", "a/3", "a/4"} {
		start(t, e, vault.Job{Scenario: "S", Item: item})
	}
	mu.Lock()
	ranks["a/4"] = 0
	mu.Unlock()
	if err := e.Reorder(bounded(t), "a/4"); err != nil {
		t.Fatal(err)
	}
	close(u.goOn)
	for _, want := range []homeward.ItemID{"a/1", "a/4", "a/3", "a/2"} {
		if got := <-order; got != want {
			t.Errorf("%s came, and %s was to", got, want)
		}
	}
}

// What a job left to its child goes on counting, without a gap, and the child does not
// wait for a turn that it has.
func TestLimits_HandedToTheChild(t *testing.T) {
	store, u := newMemory(), newUntil()
	limits := func(_ context.Context, j vault.Job) ([]job.Limit, error) {
		return []job.Limit{{Key: "mt", Max: 1, Holds: j.Scenario == "wait"}}, nil
	}
	e := engine(t, job.Options{Store: store, Limits: limits, Definitions: []job.Definition{
		plain("S", task("a", func(ctx context.Context, r *job.Run) error {
			_, err := r.Begin(ctx, vault.Job{Scenario: "wait", Item: r.Job().Item})
			return err
		})),
		plain("wait", task("w", u.do)),
	}})
	var jobs []string
	for i := range 4 {
		jobs = append(jobs, start(t, e, vault.Job{Scenario: "S", Item: homeward.ItemID(fmt.Sprint("m", i))}).ID)
	}
	wait(t, e, jobs[0], vault.JobSucceeded)
	<-u.began
	for _, id := range jobs[1:] {
		if j, err := e.Job(bounded(t), id); err != nil || j.State != vault.JobNotStarted {
			t.Errorf("while another one synchronizes: %s, %v", j.State, err)
		}
	}
	close(u.goOn)
	for _, id := range jobs[1:] {
		wait(t, e, id, vault.JobSucceeded)
	}
}

// A store that does not tell what a job shares with others: the job waits, and runs once
// that is known.
func TestLimits_NotKnown(t *testing.T) {
	var silent atomic.Bool
	silent.Store(true)
	asked := make(chan struct{}, 100)
	limits := func(context.Context, vault.Job) ([]job.Limit, error) {
		if silent.Load() {
			asked <- struct{}{}
			return nil, homeward.Errorf("read item", homeward.Unavailable, "store", "start it", "it does not answer")
		}
		return nil, nil
	}
	e := engine(t, job.Options{Store: newMemory(), Limits: limits, Definitions: []job.Definition{plain("S", task("a", nothing))}})
	j := start(t, e, vault.Job{Scenario: "S", Item: "a/1"})
	<-asked // by Start
	<-asked // by who looks for what was left
	if now, err := e.Job(bounded(t), j.ID); err != nil || now.State != vault.JobNotStarted {
		t.Errorf("%s, %v", now.State, err)
	}
	silent.Store(false)
	wait(t, e, j.ID, vault.JobSucceeded)
}
