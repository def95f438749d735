package job_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// byTarget limits jobs by the sites that their item's name lists: "a+b".
func byTarget(most int) func(vault.Job) []job.Limit {
	return func(j vault.Job) (limits []job.Limit) {
		at, _, _ := strings.Cut(string(j.Item), "/")
		for target := range strings.SplitSeq(at, "+") {
			limits = append(limits, job.Limit{Key: target, Max: most})
		}
		return limits
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
			for _, l := range limits(j) {
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
