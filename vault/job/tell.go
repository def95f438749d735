package job

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Tell tells a job something, on a person's behalf. Conflict names what it can be
// told now.
func (e *Engine) Tell(ctx context.Context, req vault.JobRequest) (vault.Job, error) {
	for {
		if l, _ := e.live(req.ID); l != nil {
			if j, told, err := l.interrupt(ctx, req.Action); told || err != nil {
				return j, err
			}
			select { // it has ended, or is suspended, and is about to leave
			case <-l.gone:
			case <-ctx.Done():
				return vault.Job{}, ctx.Err()
			}
		}
		if err := e.enter(ctx); err != nil {
			return vault.Job{}, err
		}
		if l, _ := e.live(req.ID); l != nil { // somebody else was faster
			e.leave()
			continue
		}
		j, err := e.tellStored(ctx, req)
		e.leave()
		return j, err
	}
}

// tellStored tells a job that does not run. The caller is in the gate.
func (e *Engine) tellStored(ctx context.Context, req vault.JobRequest) (vault.Job, error) {
	j, err := e.store.Load(ctx, req.ID)
	if err != nil {
		return vault.Job{}, err
	}
	switch {
	case j.State == vault.JobFailed && req.Action == vault.JobRetry:
		return e.again(ctx, j, req.Input, e.store.Reopen)
	case j.State == vault.JobPaused && req.Action == vault.JobRetry:
		return e.again(ctx, j, req.Input, e.store.Save)
	case j.State == vault.JobPaused && req.Action == vault.JobSkip && slices.Contains(j.Actions, vault.JobSkip):
		return e.skip(ctx, j)
	case j.State == vault.JobPaused && (req.Action == vault.JobAbort || req.Action == vault.JobCancel):
		return e.abandon(ctx, j, "aborted by a person")
	case j.State == vault.JobNotStarted && req.Action == vault.JobCancel:
		return e.abandon(ctx, j, "cancelled before it began")
	case !j.State.Ended() && j.State != vault.JobPaused: // stored, but the engine does not run it yet
		e.unsure(closed())
		return vault.Job{}, homeward.Errorf("tell job", homeward.Unavailable, "job "+j.ID, "try again", "the job is about to be resumed")
	}
	return vault.Job{}, cannot(j, req.Action)
}

func cannot(j vault.Job, a vault.JobAction) error {
	return homeward.Errorf("tell job", homeward.Conflict, "job "+j.ID, "see the actions that the job lists", "a job that is %s cannot be told to %s; possible: %v", j.State, a, j.Actions)
}

// amid refuses a cancel while a task is done that would leave its effect half done.
func amid(j vault.Job) error {
	title := j.Title
	for _, t := range j.Tasks {
		if t.State == vault.TaskRunning {
			title = t.Title
		}
	}
	return homeward.Errorf("cancel job", homeward.Conflict, "job "+j.ID, "wait until that task has ended, then cancel what is left of the job",
		"it is amid the task %q, which would leave the machine half moved", title)
}

// interrupt cancels a job that runs or waits for its turn; told is false if it has
// left already.
func (l *live) interrupt(ctx context.Context, a vault.JobAction) (j vault.Job, told bool, err error) {
	l.mu.Lock()
	state := l.job.State
	switch {
	case state == vault.JobPaused || state.Ended():
		l.mu.Unlock()
		return vault.Job{}, false, nil
	case a != vault.JobCancel || l.cancelled:
		defer l.mu.Unlock()
		return vault.Job{}, true, cannot(l.job, a)
	case l.whole:
		defer l.mu.Unlock()
		return vault.Job{}, true, amid(l.job)
	}
	l.cancelled = true
	l.job.State, l.job.Actions = vault.JobCancelling, nil
	l.mu.Unlock()
	err = l.store(ctx, l.save)
	l.cancel()
	return l.look(), true, homeward.Wrap(err, "cancel job", l.id)
}

// again lets a job go on from the task it stopped at, with corrected inputs, by a
// new plan.
func (e *Engine) again(ctx context.Context, j vault.Job, corrected json.RawMessage, put func(context.Context, *vault.Job) error) (vault.Job, error) {
	input, err := merge(j.Input, corrected)
	if err != nil {
		return vault.Job{}, err
	}
	j.Input = input
	defs, err := e.plan(ctx, j)
	if err != nil {
		return vault.Job{}, err
	}
	if err := e.dropped(ctx, &j); err != nil {
		return vault.Job{}, err
	}
	j.Tasks = rows(defs, j.Tasks)
	j.State, j.Error, j.Ended, j.Actions = vault.JobRunning, nil, time.Time{}, []vault.JobAction{vault.JobCancel}
	return e.goOn(ctx, j, put)
}

func (e *Engine) skip(ctx context.Context, j vault.Job) (vault.Job, error) {
	for i := range j.Tasks {
		if t := &j.Tasks[i]; t.State == vault.TaskPaused {
			t.State, t.Why, t.Ended = vault.TaskSkipped, "skipped by a person: "+t.Why, e.now()
		}
	}
	j.State, j.Error, j.Actions = vault.JobRunning, nil, []vault.JobAction{vault.JobCancel}
	return e.goOn(ctx, j, e.store.Save)
}

func (e *Engine) goOn(ctx context.Context, j vault.Job, put func(context.Context, *vault.Job) error) (vault.Job, error) {
	if err := put(ctx, &j); err != nil {
		e.unsure(err)
		return vault.Job{}, homeward.Wrap(err, "go on with job", j.ID)
	}
	e.unsure(e.schedule(j)) // it is stored: if it cannot be placed now, the sweep does it
	return j, nil
}

func (e *Engine) abandon(ctx context.Context, j vault.Job, why string) (vault.Job, error) {
	if err := e.drop(ctx, j, why); err != nil {
		return vault.Job{}, err
	}
	return e.store.Load(ctx, j.ID)
}

// merge puts corrected inputs over the first ones, field by field; null removes.
func merge(input, corrected json.RawMessage) (json.RawMessage, error) {
	if len(corrected) == 0 {
		return input, nil
	}
	var fix map[string]any
	if err := json.Unmarshal(corrected, &fix); err != nil {
		return nil, homeward.Errorf("retry job", homeward.Invalid, "input", "give a JSON object of the fields to correct", "%w", err)
	}
	was := map[string]any{}
	if len(input) > 0 {
		if err := json.Unmarshal(input, &was); err != nil {
			return nil, homeward.Errorf("retry job", homeward.Invalid, "input", "start a new job", "the stored input is no object: %w", err)
		}
	}
	patch(was, fix)
	return json.Marshal(was)
}

func patch(was, fix map[string]any) {
	for name, v := range fix {
		inner, isObject := v.(map[string]any)
		old, wasObject := was[name].(map[string]any)
		switch {
		case v == nil:
			delete(was, name)
		case isObject && wasObject:
			patch(old, inner)
		default:
			was[name] = v
		}
	}
}
