package job_test

import (
	"context"
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// until blocks a task until it is let go or cancelled.
type until struct {
	began chan struct{}
	goOn  chan struct{}
}

func newUntil() *until { return &until{began: make(chan struct{}, 64), goOn: make(chan struct{})} }

func (u *until) do(ctx context.Context, _ *job.Run) error {
	u.began <- struct{}{}
	select {
	case <-u.goOn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func tell(t *testing.T, e *job.Engine, id string, a vault.JobAction, input string) (vault.Job, error) {
	t.Helper()
	return e.Tell(bounded(t), vault.JobRequest{ID: id, Action: a, Input: json.RawMessage(input)})
}

func must(t *testing.T, e *job.Engine, id string, a vault.JobAction, input string) vault.Job {
	t.Helper()
	j, err := tell(t, e, id, a, input)
	if err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	return j
}

func TestCancel(t *testing.T) {
	store, u := newMemory(), newUntil()
	var cancelling atomic.Bool
	store.saved = func(j vault.Job) {
		if j.State == vault.JobCancelling {
			cancelling.Store(true)
		}
	}
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", task("a", nothing), task("b", func(ctx context.Context, r *job.Run) error {
		err := u.do(ctx, r)
		if ctx.Err() != nil && !cancelling.Load() {
			t.Error("the task was interrupted before that was stored")
		}
		return err
	}), task("c", nothing))}})
	id := start(t, e, vault.Job{Scenario: "S", Item: "web01"}).ID
	<-u.began
	if _, err := tell(t, e, id, vault.JobRetry, ""); homeward.KindOf(err) != homeward.Conflict || !strings.Contains(err.Error(), "cancel") {
		t.Errorf("retry of a running job: %v", err)
	}
	must(t, e, id, vault.JobCancel, "")
	j := wait(t, e, id, vault.JobCancelled)
	if j.Tasks[0].State != vault.TaskSucceeded || j.Tasks[1].State != vault.TaskCancelled || j.Tasks[2].State != vault.TaskNotStarted || store.holder("web01") != "" {
		t.Errorf("cancelled as %+v, held by %q", j.Tasks, store.holder("web01"))
	}
	if _, err := tell(t, e, id, vault.JobCancel, ""); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("cancel of a cancelled job: %v", err)
	}
	if _, err := tell(t, e, "nobody", vault.JobCancel, ""); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("cancel of no job: %v", err)
	}
	store.check(t)
}

func TestCancelComesTooLate(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	e := engine(t, job.Options{Store: newMemory(), Definitions: []job.Definition{plain("S", task("a", func(ctx context.Context, _ *job.Run) error {
		close(began)
		<-ctx.Done()
		<-goOn
		return nil // it had done it all
	}))}})
	id := start(t, e, vault.Job{Scenario: "S"}).ID
	<-began
	if j := must(t, e, id, vault.JobCancel, ""); j.State != vault.JobCancelling {
		t.Errorf("told to cancel, it is %s", j.State)
	}
	close(goOn)
	wait(t, e, id, vault.JobSucceeded)
}

func TestRetryWithCorrectedInput(t *testing.T) {
	type input struct {
		Target string            `json:"target_site"`
		Disks  map[string]string `json:"disks"`
		Keep   int               `json:"keep"`
	}
	store := newMemory()
	var first atomic.Int32
	var good atomic.Value
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S",
		task("a", func(context.Context, *job.Run) error { first.Add(1); return nil }),
		task("b", func(_ context.Context, r *job.Run) error {
			var in input
			if err := r.Input(&in); err != nil {
				return err
			}
			if in.Target != "cloud" {
				return homeward.Errorf("find site", homeward.NotFound, in.Target, "name an existing site", "no such site")
			}
			good.Store(in)
			return nil
		}))}})
	j := start(t, e, vault.Job{Scenario: "S", Item: "web01", Input: json.RawMessage(`{"target_site":"clod","disks":{"a":"1","b":"2"},"keep":7}`)})
	wait(t, e, j.ID, vault.JobFailed)
	if store.holder("web01") != "" {
		t.Error("a failed job holds the item")
	}
	if _, err := tell(t, e, j.ID, vault.JobRetry, `["cloud"]`); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("an input that is no object: %v", err)
	}
	must(t, e, j.ID, vault.JobRetry, `{"target_site":"cloud","disks":{"b":null,"c":"3"}}`)
	ended := wait(t, e, j.ID, vault.JobSucceeded)
	in, _ := good.Load().(input)
	if in.Keep != 7 || len(in.Disks) != 2 || in.Disks["a"] != "1" || in.Disks["c"] != "3" {
		t.Errorf("merged to %+v", in)
	}
	if first.Load() != 1 || ended.Error != nil || ended.Tasks[1].Attempts != 2 || store.holder("web01") != "" {
		t.Errorf("the first task ran %d times; %+v", first.Load(), ended)
	}
	store.check(t)
}

func TestOnlyTheNewestIsRetried(t *testing.T) {
	store, u := newMemory(), newUntil()
	var fail atomic.Bool
	fail.Store(true)
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{
		plain("F", task("a", func(context.Context, *job.Run) error {
			if fail.Load() {
				return homeward.Errorf("do", homeward.IO, "disk", "replace it", "broken")
			}
			return nil
		})), plain("U", task("a", u.do))}})
	old := start(t, e, vault.Job{Scenario: "F", Item: "web01"}).ID
	wait(t, e, old, vault.JobFailed)
	newer := start(t, e, vault.Job{Scenario: "U", Item: "web01"}).ID
	<-u.began
	if _, err := tell(t, e, old, vault.JobRetry, ""); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("retry while another runs: %v", err)
	}
	close(u.goOn)
	wait(t, e, newer, vault.JobSucceeded)
	if _, err := tell(t, e, old, vault.JobRetry, ""); homeward.KindOf(err) != homeward.Conflict || !strings.Contains(err.Error(), newer) {
		t.Errorf("retry of one that is not the newest: %v", err)
	}
	newest := start(t, e, vault.Job{Scenario: "F", Item: "web01"}).ID
	wait(t, e, newest, vault.JobFailed)
	fail.Store(false)
	var wg sync.WaitGroup
	var told atomic.Int32
	for range 8 { // two operators at once
		wg.Go(func() {
			if _, err := tell(t, e, newest, vault.JobRetry, ""); err == nil {
				told.Add(1)
			} else if homeward.KindOf(err) != homeward.Conflict {
				t.Errorf("retry: %v", err)
			}
		})
	}
	wg.Wait()
	if j := wait(t, e, newest, vault.JobSucceeded); told.Load() != 1 || j.Tasks[0].Attempts != 2 {
		t.Errorf("%d retries were taken, %d attempts", told.Load(), j.Tasks[0].Attempts)
	}
	store.check(t)
}

// pausing waits for a person until its probe answers.
func pausing(up *atomic.Bool) job.Definition {
	return plain("P", task("a", nothing), job.TaskDef{Name: "boot", Skippable: true, Do: func(_ context.Context, r *job.Run) error {
		if up.Load() {
			return nil
		}
		return r.Pause("the machine does not answer", "look at its console, then retry or skip")
	}}, task("c", nothing))
}

func TestPause(t *testing.T) {
	for _, c := range []struct {
		action vault.JobAction
		up     bool
		state  vault.JobState
		task   vault.TaskState
	}{
		{vault.JobRetry, true, vault.JobSucceeded, vault.TaskSucceeded},
		{vault.JobRetry, false, vault.JobPaused, vault.TaskPaused},
		{vault.JobSkip, false, vault.JobSucceeded, vault.TaskSkipped},
		{vault.JobAbort, false, vault.JobCancelled, vault.TaskCancelled},
		{vault.JobCancel, false, vault.JobCancelled, vault.TaskCancelled},
	} {
		for _, restarted := range []bool{false, true} {
			store := newMemory()
			var up atomic.Bool
			o := job.Options{Store: store, Definitions: []job.Definition{pausing(&up)}}
			e := newEngine(o)
			id := start(t, e, vault.Job{Scenario: "P", Item: "web01"}).ID
			j := wait(t, e, id, vault.JobPaused)
			if j.Tasks[1].State != vault.TaskPaused || j.Tasks[1].Why == "" || j.Error == nil || j.Error.Remedy == "" || store.holder("web01") != id {
				t.Errorf("paused as %+v, held by %q", j, store.holder("web01"))
			}
			for _, a := range []vault.JobAction{vault.JobRetry, vault.JobSkip, vault.JobAbort} {
				if !slices.Contains(j.Actions, a) {
					t.Errorf("%s is not offered: %v", a, j.Actions)
				}
			}
			if restarted {
				e.Close()
				e = newEngine(o)
				if err := e.Resume(bounded(t)); err != nil {
					t.Fatal(err)
				}
				if j := wait(t, e, id, vault.JobPaused); j.Tasks[1].Attempts != 1 {
					t.Errorf("a resume made %d attempts", j.Tasks[1].Attempts)
				}
			}
			up.Store(c.up)
			must(t, e, id, c.action, "")
			j = wait(t, e, id, c.state)
			if j.Tasks[1].State != c.task {
				t.Errorf("after %s the task is %s", c.action, j.Tasks[1].State)
			}
			if c.state.Ended() != (store.holder("web01") == "") {
				t.Errorf("after %s the item is held by %q", c.action, store.holder("web01"))
			}
			e.Close()
			store.check(t)
		}
	}
}

func TestSkipOnlyWhereItIsPossible(t *testing.T) {
	e := engine(t, job.Options{Store: newMemory(), Definitions: []job.Definition{
		plain("P", task("a", func(_ context.Context, r *job.Run) error { return r.Pause("no", "yes") })),
		plain("N", task("a", func(_ context.Context, r *job.Run) error { return r.Skip("already committed") }), task("b", nothing))}})
	id := start(t, e, vault.Job{Scenario: "P"}).ID
	wait(t, e, id, vault.JobPaused)
	if _, err := tell(t, e, id, vault.JobSkip, ""); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("skip: %v", err)
	}
	j := wait(t, e, start(t, e, vault.Job{Scenario: "N"}).ID, vault.JobSucceeded)
	if j.Tasks[0].State != vault.TaskSkipped || j.Tasks[0].Why != "already committed" {
		t.Errorf("skipped as %+v", j.Tasks[0])
	}
}

// TestCancelSurvivesAKill: a job that was being cancelled has no more effects.
func TestCancelSurvivesAKill(t *testing.T) {
	store := newMemory()
	began := make(chan struct{})
	var stubborn atomic.Int32
	defs := []job.Definition{plain("S", task("a", func(ctx context.Context, _ *job.Run) error {
		if stubborn.Add(1) == 1 {
			close(began)
		}
		<-ctx.Done()
		return homeward.Errorf("call", homeward.Unavailable, "agent", "", "away")
	}), task("b", nothing))}
	store.around = func(call string, after bool) error { // killed before the end is stored
		if call == "end" {
			return errKilled
		}
		return nil
	}
	e := newEngine(job.Options{Store: store, Definitions: defs})
	id := start(t, e, vault.Job{Scenario: "S", Item: "web01"}).ID
	<-began
	must(t, e, id, vault.JobCancel, "")
	e.Close()
	if s := store.stored(id).State; s != vault.JobCancelling {
		t.Fatalf("stored as %s", s)
	}
	store.around = nil
	e = engine(t, job.Options{Store: store, Definitions: defs})
	if err := e.Resume(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, e, id, vault.JobCancelled)
	if stubborn.Load() != 1 || store.holder("web01") != "" {
		t.Errorf("%d effects, held by %q", stubborn.Load(), store.holder("web01"))
	}
}

func TestUnknownScenarioAtResume(t *testing.T) {
	store, u := newMemory(), newUntil()
	e := newEngine(job.Options{Store: store, Definitions: []job.Definition{plain("New", task("a", u.do)), plain("Changed", task("a", u.do))}})
	ids := []string{start(t, e, vault.Job{Scenario: "New", Item: "web01"}).ID, start(t, e, vault.Job{Scenario: "Changed", Item: "db01"}).ID}
	<-u.began
	<-u.began
	e.Close()
	e = engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("Changed", task("b", nothing))}})
	if err := e.Resume(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if j := wait(t, e, id, vault.JobFailed); j.Error.Kind != homeward.Unsupported || j.Error.Remedy == "" {
			t.Errorf("told as %+v", j.Error)
		}
	}
}

// A task that is to be done whole is not cancelled while it is done, and the refusal says
// until when; before it, between two tries and after it, the job is.
func TestCancel_Whole(t *testing.T) {
	store, u := newMemory(), newUntil()
	after := newUntil()
	var tries atomic.Int64
	whole := task("b", func(ctx context.Context, r *job.Run) error {
		if tries.Add(1) > 1 { // of the second job
			return homeward.Errorf("move", homeward.Unavailable, "site", "start it", "it is away")
		}
		return u.do(ctx, r)
	})
	whole.Whole, whole.Title = true, "Start failover"
	e := engine(t, job.Options{Store: store, First: time.Hour, Definitions: []job.Definition{plain("S", task("a", nothing), whole, task("c", after.do))}})
	id := start(t, e, vault.Job{Scenario: "S", Item: "web01"}).ID
	<-u.began
	now, err := e.Job(bounded(t), id)
	if err != nil || len(now.Actions) != 0 || !now.Tasks[0].Cancellable || now.Tasks[1].Cancellable {
		t.Errorf("%v %+v: %v", now.Actions, now.Tasks, err)
	}
	_, err = tell(t, e, id, vault.JobCancel, "")
	if homeward.KindOf(err) != homeward.Conflict || !strings.Contains(err.Error(), "Start failover") || homeward.RemedyOf(err) == "" {
		t.Errorf("cancel amid it: %v", err)
	}
	close(u.goOn)
	<-after.began
	must(t, e, id, vault.JobCancel, "")
	if j := wait(t, e, id, vault.JobCancelled); j.Tasks[1].State != vault.TaskSucceeded {
		t.Errorf("%+v", j.Tasks)
	}

	id = start(t, e, vault.Job{Scenario: "S", Item: "web01"}).ID
	for now.ID != id || len(now.Actions) == 0 || now.Tasks[1].Why == "" { // it waits for its next try
		if now, err = e.Job(bounded(t), id); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	must(t, e, id, vault.JobCancel, "")
	wait(t, e, id, vault.JobCancelled)
}
