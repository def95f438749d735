package job

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Definition says what jobs of one scenario consist of.
type Definition struct {
	Scenario string
	Title    string
	// Tasks plans a job from its stored input alone: it has no effects and asks
	// nobody, and the same input gives the same plan. It is called when the job is
	// started, and again when it is resumed or retried; tasks are matched by name.
	Tasks func(ctx context.Context, j vault.Job) ([]TaskDef, error)
}

// TaskDef is one task of a plan.
type TaskDef struct {
	Name      string // unique in the plan
	Title     string
	Skippable bool // a person may skip it while the job is suspended at it
	Whole     bool // the job cannot be cancelled while it is done; between tries it can
	// Done probes whether the effect is there already. It is asked before the task is
	// done again: after a kill, a failed try, or a person's retry. nil: always do.
	Done func(ctx context.Context, r *Run) (bool, error)
	// Do has the effect; doing it twice must be the same as once. It returns soon
	// after ctx ends.
	Do func(ctx context.Context, r *Run) error
	// Tries bounds how often it is done while it fails with errors that may pass by
	// themselves (homeward.Retryable); 0: Options.Tries.
	Tries int
}

// plan asks the definition for the tasks of a job.
func (e *Engine) plan(ctx context.Context, j vault.Job) (defs []TaskDef, err error) {
	d, ok := e.definitions[j.Scenario]
	if !ok {
		return nil, homeward.Errorf("plan job", homeward.Unsupported, "scenario "+j.Scenario, "run the version of the vault that began the job", "this version does not know the scenario")
	}
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("planning a job panicked", "job", j.ID, "scenario", j.Scenario, "panic", p, "stack", string(debug.Stack()))
			err = panicked("plan job", "scenario "+j.Scenario, p)
		}
	}()
	if defs, err = d.Tasks(ctx, j); err != nil {
		return nil, homeward.Wrap(err, "plan job", "scenario "+j.Scenario)
	}
	names := map[string]bool{}
	for _, t := range defs {
		if t.Name == "" || t.Do == nil || names[t.Name] {
			return nil, homeward.Errorf("plan job", homeward.Internal, "scenario "+j.Scenario, "", "task %q has no name, nothing to do, or is there twice", t.Name)
		}
		names[t.Name] = true
	}
	if len(defs) == 0 {
		return nil, homeward.Errorf("plan job", homeward.Internal, "scenario "+j.Scenario, "", "the plan is empty")
	}
	return defs, nil
}

// rows are the tasks of a plan as they are stored, with what tasks of the same name
// have come to already.
func rows(defs []TaskDef, before []vault.Task) []vault.Task {
	out := make([]vault.Task, len(defs))
	for i, d := range defs {
		out[i] = vault.Task{Name: d.Name, Title: d.Title, State: vault.TaskNotStarted, Cancellable: !d.Whole}
		for _, old := range before {
			if old.Name != d.Name {
				continue
			}
			if done(old) {
				out[i] = old
			} else { // whoever does it again asks first whether it is done
				out[i].Attempts, out[i].Job, out[i].Children = old.Attempts, old.Job, old.Children
			}
		}
	}
	return out
}

func done(t vault.Task) bool { return t.State == vault.TaskSucceeded || t.State == vault.TaskSkipped }

func panicked(op, subject string, p any) error {
	return homeward.Errorf(op, homeward.Internal, subject, "report it with 'homeward bundle'; then retry the job", "panic: %s", fmt.Sprint(p))
}
