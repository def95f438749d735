package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

func start(t *testing.T, e *job.Engine, j vault.Job) vault.Job {
	t.Helper()
	got, err := e.Start(bounded(t), j)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return got
}

func wait(t *testing.T, e *job.Engine, id string, want vault.JobState) vault.Job {
	t.Helper()
	j, err := e.Wait(bounded(t), id)
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	if j.State != want {
		t.Fatalf("the job is %s, not %s: %+v", j.State, want, j.Error)
	}
	return j
}

func TestRunsInOrder(t *testing.T) {
	store, order := newMemory(), []string{}
	note := func(ctx context.Context, r *job.Run) error {
		for _, task := range r.Job().Tasks {
			if task.State == vault.TaskRunning {
				order = append(order, task.Name)
			}
		}
		return nil
	}
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", task("a", note), task("b", note), task("c", note))}})
	started := start(t, e, vault.Job{Scenario: "S", Item: "web01", Caller: "ann"})
	if started.State != vault.JobNotStarted || len(started.Tasks) != 3 || started.Title != "S" {
		t.Errorf("started as %+v", started)
	}
	j := wait(t, e, started.ID, vault.JobSucceeded)
	if got := strings.Join(order, " "); got != "a b c" {
		t.Errorf("the order was %s", got)
	}
	for _, task := range j.Tasks {
		if task.State != vault.TaskSucceeded || task.Started.IsZero() || task.Ended.IsZero() || task.Attempts != 1 {
			t.Errorf("task %+v", task)
		}
	}
	if j.Started.IsZero() || j.Ended.IsZero() || len(j.Actions) != 0 || j.Error != nil || store.holder("web01") != "" {
		t.Errorf("job %+v, held by %q", j, store.holder("web01"))
	}
	store.check(t)
}

func TestFailureIsTold(t *testing.T) {
	cause := homeward.Errorf("boot machine", homeward.IO, "web01", "free memory at the host, then retry", "not enough memory")
	e := engine(t, job.Options{Store: newMemory(), Definitions: []job.Definition{
		plain("S", task("a", func(context.Context, *job.Run) error {
			return homeward.Wrap(&job.Fault{Code: "R8", Causes: []string{"the host is full"}, Err: cause}, "fail back", "web01")
		}), task("b", nothing)),
		plain("P", task("a", func(context.Context, *job.Run) error { panic("oh") })),
	}})
	j := wait(t, e, start(t, e, vault.Job{Scenario: "S"}).ID, vault.JobFailed)
	f := j.Error
	if f == nil || f.Code != "R8" || f.Kind != homeward.IO || f.Remedy != "free memory at the host, then retry" || len(f.Causes) != 1 || !strings.Contains(f.Message, "not enough memory") {
		t.Errorf("told as %+v", f)
	}
	if j.Tasks[0].State != vault.TaskFailed || j.Tasks[0].Error == nil || j.Tasks[1].State != vault.TaskNotStarted {
		t.Errorf("tasks %+v", j.Tasks)
	}
	if len(j.Actions) != 1 || j.Actions[0] != vault.JobRetry {
		t.Errorf("actions %v", j.Actions)
	}
	j = wait(t, e, start(t, e, vault.Job{Scenario: "P"}).ID, vault.JobFailed)
	if j.Error.Kind != homeward.Internal || !strings.Contains(j.Error.Message, "oh") || j.Error.Remedy == "" {
		t.Errorf("a panic is told as %+v", j.Error)
	}
}

func TestTransientErrorsAreTriedAgain(t *testing.T) {
	away := homeward.Errorf("call agent", homeward.Unavailable, "agent a1", "", "away")
	var tries, probes atomic.Int32
	flaky := job.TaskDef{Name: "a", Do: func(context.Context, *job.Run) error {
		if tries.Add(1) < 4 {
			return away
		}
		return nil
	}, Done: func(context.Context, *job.Run) (bool, error) { probes.Add(1); return false, nil }}
	dead := job.TaskDef{Name: "a", Tries: 3, Do: func(context.Context, *job.Run) error { return away }}
	store := newMemory()
	var mu sync.Mutex
	whys := map[string]bool{}
	store.saved = func(j vault.Job) {
		mu.Lock()
		defer mu.Unlock()
		whys[j.Tasks[0].Why] = true
	}
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", flaky), plain("D", dead)}})
	j := wait(t, e, start(t, e, vault.Job{Scenario: "S"}).ID, vault.JobSucceeded)
	if j.Tasks[0].Attempts != 4 || tries.Load() != 4 || probes.Load() != 3 || j.Tasks[0].Why != "" {
		t.Errorf("%d tries, %d probes, task %+v", tries.Load(), probes.Load(), j.Tasks[0])
	}
	mu.Lock()
	told := false
	for why := range whys {
		told = told || strings.Contains(why, "try 2 of 8") && strings.Contains(why, "away")
	}
	mu.Unlock()
	if !told {
		t.Errorf("the tries are not told: %v", whys)
	}
	j = wait(t, e, start(t, e, vault.Job{Scenario: "D"}).ID, vault.JobFailed)
	if j.Tasks[0].Attempts != 3 || j.Error.Kind != homeward.Unavailable {
		t.Errorf("gave up with %+v", j)
	}
}

func TestKeysAreIdempotent(t *testing.T) {
	var done atomic.Int32
	store := newMemory()
	now := time.Now()
	e := engine(t, job.Options{Store: store, Now: func() time.Time { return now }, Definitions: []job.Definition{plain("S", task("a", func(context.Context, *job.Run) error { done.Add(1); return nil }))}})
	req := vault.Job{Scenario: "S", Item: "web01", Key: "k1", Input: json.RawMessage(`{"point":"latest","shutdown":true}`)}
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			j, err := e.Start(bounded(t), req)
			if err != nil {
				t.Errorf("start: %v", err)
			}
			ids[i] = j.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("one key made jobs %v", ids)
		}
	}
	wait(t, e, ids[0], vault.JobSucceeded)
	req.Input = json.RawMessage(`{"shutdown":true, "point":"latest"}`)
	if j := start(t, e, req); j.ID != ids[0] || j.State != vault.JobSucceeded {
		t.Errorf("the same request made job %s (%s)", j.ID, j.State)
	}
	req.Input = json.RawMessage(`{"point":"latest-app-consistent"}`)
	if _, err := e.Start(bounded(t), req); homeward.KindOf(err) != homeward.Conflict || !strings.Contains(err.Error(), ids[0]) {
		t.Errorf("another request with the key: %v", err)
	}
	now = now.Add(25 * time.Hour)
	if j := start(t, e, req); j.ID == ids[0] {
		t.Error("a key answers after more than a day")
	} else {
		wait(t, e, j.ID, vault.JobSucceeded)
	}
	if done.Load() != 2 {
		t.Errorf("%d effects", done.Load())
	}
}

func TestOneJobPerItem(t *testing.T) {
	store := newMemory()
	hold := make(chan struct{})
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", task("a", func(ctx context.Context, _ *job.Run) error {
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))}})
	var wg sync.WaitGroup
	var won, lost atomic.Int32
	var winner atomic.Value
	for i := range 16 {
		wg.Go(func() {
			j, err := e.Start(bounded(t), vault.Job{Scenario: "S", Item: "web01", Key: fmt.Sprint(i)})
			if err == nil {
				won.Add(1)
				winner.Store(j.ID)
				return
			}
			if homeward.KindOf(err) != homeward.Conflict {
				t.Errorf("refused with %v", err)
			}
			lost.Add(1)
		})
	}
	wg.Wait()
	id, _ := winner.Load().(string)
	if won.Load() != 1 || lost.Load() != 15 || store.holder("web01") != id {
		t.Fatalf("%d began, %d refused, held by %q", won.Load(), lost.Load(), store.holder("web01"))
	}
	_, err := e.Start(bounded(t), vault.Job{Scenario: "S", Item: "web01"})
	if err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("the conflict does not name the running job: %v", err)
	}
	other := start(t, e, vault.Job{Scenario: "S", Item: "db01"})
	close(hold)
	wait(t, e, id, vault.JobSucceeded)
	wait(t, e, other.ID, vault.JobSucceeded)
	wait(t, e, start(t, e, vault.Job{Scenario: "S", Item: "web01"}).ID, vault.JobSucceeded)
	store.check(t)
}

func TestProgressIsLiveAndStored(t *testing.T) {
	store := newMemory()
	saw, told, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var once sync.Once
	store.saved = func(j vault.Job) {
		if j.Progress.Done == 7 && len(j.Tasks[0].Children) == 1 {
			once.Do(func() { close(saw) })
		}
	}
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", task("a", func(_ context.Context, r *job.Run) error {
		r.Child(vault.Task{Name: "serve point", State: vault.TaskRunning})
		r.Child(vault.Task{Name: "serve point", State: vault.TaskSucceeded})
		r.Progress(homeward.Progress{Done: 7, Total: 10, Left: 3})
		close(told)
		<-goOn
		return r.Record(func(j *vault.Job) {
			j.Predicted, j.State, j.Tasks = &homeward.Estimate{Bytes: 10}, vault.JobFailed, nil
		})
	}))}})
	id := start(t, e, vault.Job{Scenario: "S"}).ID
	<-told
	live, err := e.Job(bounded(t), id)
	if err != nil || live.Progress.Done != 7 || live.Tasks[0].Progress.Left != 3 || live.Tasks[0].Children[0].State != vault.TaskSucceeded {
		t.Errorf("live: %+v %v", live, err)
	}
	if over := e.Live(vault.Job{ID: id}); over.Progress.Done != 7 {
		t.Errorf("overlay: %+v", over)
	}
	<-saw
	close(goOn)
	j := wait(t, e, id, vault.JobSucceeded)
	if j.Predicted == nil || j.Predicted.Bytes != 10 || len(j.Tasks) != 1 {
		t.Errorf("recorded: %+v", j)
	}
}

func TestStoreAwayForAWhile(t *testing.T) {
	store := newMemory()
	var writes atomic.Int32
	away := errors.New("database is locked")
	store.around = func(call string, after bool) error { // of three writes, one fails and one loses its answer
		if call != "save" && call != "end" {
			return nil
		}
		if n := writes.Load(); after && n%3 == 1 || !after && writes.Add(1)%3 == 0 {
			return away
		}
		return nil
	}
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", task("a", nothing), task("b", nothing), task("c", nothing))}})
	j := wait(t, e, start(t, e, vault.Job{Scenario: "S", Item: "web01"}).ID, vault.JobSucceeded)
	if store.holder("web01") != "" || store.stored(j.ID).State != vault.JobSucceeded {
		t.Errorf("stored %+v, held by %q", store.stored(j.ID), store.holder("web01"))
	}
	store.check(t)
}

func TestLostAnswerOfBegin(t *testing.T) {
	store := newMemory()
	var lost atomic.Bool
	store.around = func(call string, after bool) error {
		if call == "begin" && after && lost.CompareAndSwap(false, true) {
			return homeward.Errorf("begin", homeward.Unavailable, "", "", "connection lost")
		}
		return nil
	}
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", task("a", nothing))}})
	if _, err := e.Start(bounded(t), vault.Job{Scenario: "S", Item: "web01"}); homeward.KindOf(err) != homeward.Unavailable {
		t.Fatalf("start: %v", err)
	}
	wait(t, e, store.all()[0].ID, vault.JobSucceeded) // it was found by itself
	if store.holder("web01") != "" {
		t.Error("the item is held for good")
	}
}

func TestRefusedPlans(t *testing.T) {
	store := newMemory()
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{
		plain("empty"), plain("twice", task("a", nothing), task("a", nothing)), plain("idle", job.TaskDef{Name: "a"}),
		{Scenario: "panics", Tasks: func(context.Context, vault.Job) ([]job.TaskDef, error) { panic("no") }},
		{Scenario: "errs", Tasks: func(context.Context, vault.Job) ([]job.TaskDef, error) {
			return nil, homeward.Errorf("plan", homeward.Invalid, "field point", "give a point", "missing")
		}},
	}})
	for scenario, kind := range map[string]homeward.Kind{"unknown": homeward.Unsupported, "empty": homeward.Internal, "twice": homeward.Internal, "idle": homeward.Internal, "panics": homeward.Internal, "errs": homeward.Invalid} {
		if _, err := e.Start(bounded(t), vault.Job{Scenario: scenario, Item: "web01"}); homeward.KindOf(err) != kind {
			t.Errorf("%s: %v", scenario, err)
		}
	}
	if len(store.all()) != 0 || store.holder("web01") != "" {
		t.Error("a refused plan left something")
	}
}

func TestClosedEngineRefuses(t *testing.T) {
	e := newEngine(job.Options{Store: newMemory(), Definitions: []job.Definition{plain("S", task("a", nothing))}})
	e.Close()
	e.Close()
	if _, err := e.Start(bounded(t), vault.Job{Scenario: "S"}); homeward.KindOf(err) != homeward.Unavailable {
		t.Errorf("start: %v", err)
	}
	if _, err := e.Tell(bounded(t), vault.JobRequest{ID: "x", Action: vault.JobCancel}); homeward.KindOf(err) != homeward.Unavailable {
		t.Errorf("tell: %v", err)
	}
}
