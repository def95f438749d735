package job

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// run is the goroutine of a job: it waits for its turn, works, and leaves when the
// job has ended, waits for a person, or the engine closes.
func (l *live) run() {
	defer l.e.left(l)
	defer l.cancel()
	release, err := l.e.turns.take(l.ctx, l.turn, l.waits)
	if err != nil {
		if l.wasCancelled() {
			l.end(vault.JobCancelled, l.next(), nil)
		}
		return
	}
	defer release()
	defer l.keepProgress()()
	l.work()
}

// waits tells why the job has to wait.
func (l *live) waits(why string) {
	i := l.next()
	l.change(func(j *vault.Job) {
		if i >= 0 {
			j.Tasks[i].Why = why
		}
	})
	// Not stored only if the job is cancelled or the engine closes.
	_ = l.store(l.ctx, l.save)
}

// next is the task to do; -1: all are done.
func (l *live) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, t := range l.job.Tasks {
		if !done(t) {
			return i
		}
	}
	return -1
}

func (l *live) wasCancelled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cancelled
}

func (l *live) work() {
	if l.flawed == nil && !l.wasCancelled() {
		l.flawed = l.revive()
	}
	for {
		i := l.next()
		switch {
		case l.e.base.Err() != nil:
			return
		case i < 0:
			l.end(vault.JobSucceeded, i, nil)
			return
		case l.wasCancelled():
			l.end(vault.JobCancelled, i, nil)
			return
		case l.flawed != nil:
			l.end(vault.JobFailed, i, l.flawed)
			return
		}
		if !l.task(i) {
			return
		}
	}
}

// task does one task; false: the job goes on no further now.
func (l *live) task(i int) bool {
	name := l.look().Tasks[i].Name
	def, ok := l.defs[name]
	if !ok {
		l.end(vault.JobFailed, i, homeward.Errorf("resume job", homeward.Unsupported, "task "+name, "run the version of the vault that began the job", "this version does not know the task"))
		return false
	}
	tries := def.Tries
	if tries <= 0 {
		tries = l.e.tries
	}
	for try, delay := 1, l.e.first; ; try, delay = try+1, min(2*delay, l.e.longest) {
		err := l.once(i, def)
		switch {
		case l.e.base.Err() != nil: // closed: as if killed
			return false
		case err == nil:
			return l.settle(i, vault.TaskSucceeded, "")
		case isSkipped(err):
			return l.settle(i, vault.TaskSkipped, skippedWhy(err))
		case l.wasCancelled():
			l.end(vault.JobCancelled, i, nil)
			return false
		case isPaused(err):
			if !l.suspend(i, def, err) {
				l.end(vault.JobCancelled, i, nil)
			}
			return false
		case !homeward.Retryable(err) || try >= tries:
			l.end(vault.JobFailed, i, err)
			return false
		}
		l.change(func(j *vault.Job) {
			j.Tasks[i].Why = fmt.Sprintf("try %d of %d in %s: %v", try+1, tries, delay, err)
			if !l.cancelled {
				j.Actions = []vault.JobAction{vault.JobCancel}
			}
		})
		if l.store(l.e.base, l.save) != nil {
			return false
		}
		_ = sleep(l.ctx, delay) // if it was cancelled, once says so
	}
}

// once stores that the task runs, asks whether it is done if it may be, and does it.
func (l *live) once(i int, def TaskDef) (err error) {
	again := false
	l.change(func(j *vault.Job) {
		t := &j.Tasks[i]
		again = t.Attempts > 0
		t.Attempts++
		if t.Started.IsZero() || t.State != vault.TaskRunning {
			t.Started = l.e.now()
		}
		t.State, t.Why, t.Error, t.Ended = vault.TaskRunning, "", nil, time.Time{}
		if j.Started.IsZero() {
			j.Started = t.Started
		}
		if l.cancelled {
			return
		}
		j.State, j.Actions, l.whole = vault.JobRunning, []vault.JobAction{vault.JobCancel}, def.Whole
		if def.Whole {
			j.Actions = nil
		}
	})
	defer l.change(func(*vault.Job) { l.whole = false })
	if l.wasCancelled() {
		return context.Canceled
	}
	if err := l.store(l.e.base, l.save); err != nil {
		return err
	}
	if err := l.ctx.Err(); err != nil {
		return err
	}
	r := &Run{l: l, i: i}
	defer func() {
		if p := recover(); p != nil {
			l.e.log.Error("a task panicked", "job", l.id, "task", def.Name, "panic", p, "stack", string(debug.Stack()))
			err = panicked("run task", "task "+def.Name, p)
		}
	}()
	if again && def.Done != nil {
		if ok, err := def.Done(l.ctx, r); ok || err != nil {
			return err
		}
	}
	return def.Do(l.ctx, r)
}

// settle marks a task as done; false: the engine closed before that was stored.
func (l *live) settle(i int, state vault.TaskState, why string) bool {
	l.change(func(j *vault.Job) {
		t := &j.Tasks[i]
		t.State, t.Why, t.Ended = state, why, l.e.now()
	})
	return l.store(l.e.base, l.save) == nil
}

// suspend leaves the job to a person; false: one has cancelled it.
func (l *live) suspend(i int, def TaskDef, err error) bool {
	var p *paused
	errors.As(err, &p)
	l.mu.Lock()
	if l.cancelled {
		l.mu.Unlock()
		return false
	}
	t := &l.job.Tasks[i]
	t.State, t.Why = vault.TaskPaused, p.why
	l.job.State, l.job.Actions = vault.JobPaused, []vault.JobAction{vault.JobRetry, vault.JobAbort}
	if def.Skippable {
		l.job.Actions = append(l.job.Actions, vault.JobSkip)
	}
	l.job.Error = &vault.Failure{Code: string(homeward.Conflict), Kind: homeward.Conflict, Message: p.why, Remedy: p.remedy}
	l.mu.Unlock()
	_ = l.store(l.e.base, l.save) // not stored only if the engine closes: then the task is asked again
	return true
}

// end stores the job's final state, and looks after the children that waited.
func (l *live) end(state vault.JobState, i int, err error) {
	l.change(func(j *vault.Job) { finish(j, state, i, err, l.e.now()) })
	if l.store(l.e.base, l.e.store.End) != nil {
		return
	}
	j := l.look()
	l.e.log.Info("job ended", "job", j.ID, "scenario", j.Scenario, "item", j.Item, "state", j.State, "error", err)
	l.e.follow(j)
}

func isSkipped(err error) bool {
	var s *skipped
	return errors.As(err, &s)
}

func skippedWhy(err error) string {
	var s *skipped
	errors.As(err, &s)
	return s.why
}

func isPaused(err error) bool {
	var p *paused
	return errors.As(err, &p)
}

// finish gives a job, and the task that it came to, a final state.
func finish(j *vault.Job, state vault.JobState, i int, err error, now time.Time) {
	if i >= 0 {
		t := &j.Tasks[i]
		t.State, t.Ended, t.Error = vault.TaskCancelled, now, nil
		if state == vault.JobFailed {
			t.State, t.Error = vault.TaskFailed, FailureOf(err)
		}
	}
	j.State, j.Ended, j.Error, j.Actions = state, now, FailureOf(err), nil
	if state == vault.JobFailed {
		j.Actions = []vault.JobAction{vault.JobRetry}
	}
}
