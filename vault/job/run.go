package job

import (
	"encoding/json"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Run is what a task sees of its job. Safe for concurrent use while the task runs.
type Run struct {
	l *live
	i int // the task
}

// Job is the job as it is now.
func (r *Run) Job() vault.Job { return r.l.look() }

// Input reads the job's input into v, a pointer.
func (r *Run) Input(v any) error {
	in := r.Job().Input
	if len(in) == 0 {
		return nil
	}
	if err := json.Unmarshal(in, v); err != nil {
		return homeward.Errorf("read input", homeward.Invalid, "job "+r.l.id, "retry the job with corrected inputs", "%w", err)
	}
	return nil
}

// Progress tells how far the task is: live at once, stored about once a second.
func (r *Run) Progress(p homeward.Progress) {
	r.l.tell(func(j *vault.Job) { j.Tasks[r.i].Progress, j.Progress = p, p })
}

// Child tells of a sub-step, by its name; told again it replaces itself. The first
// 500 of a task are kept.
func (r *Run) Child(t vault.Task) {
	r.l.tell(func(j *vault.Job) {
		t.Cancellable = j.Tasks[r.i].Cancellable
		upsert(&j.Tasks[r.i].Children, t)
	})
}

// Skip is returned by a task that has nothing to do.
func (r *Run) Skip(why string) error { return &skipped{why: why} }

// Pause is returned by a task that can go on only when a person says so: the job is
// suspended at it, for retry, skip (if the task is skippable) or abort.
func (r *Run) Pause(why, remedy string) error { return &paused{why: why, remedy: remedy} }

// Record writes down what was predicted or what it took, durably before it returns
// nil. Of what do changes, Predicted, Took and Progress are kept.
func (r *Run) Record(do func(*vault.Job)) error {
	r.l.change(func(j *vault.Job) {
		c := clone(*j)
		do(&c)
		j.Predicted, j.Took, j.Progress = c.Predicted, c.Took, c.Progress
	})
	return r.l.store(r.l.e.base, r.l.save)
}
