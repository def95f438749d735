package job

import (
	"context"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// place decides what becomes of an unended job that does not run: it runs, it waits
// for a person or for its parent, or its parent has left it nothing to do. The
// caller is in the gate.
func (e *Engine) place(ctx context.Context, j vault.Job) error {
	if l, _ := e.live(j.ID); l != nil || j.State == vault.JobPaused {
		return nil
	}
	if j.Parent != "" && j.Item != "" && j.State == vault.JobNotStarted {
		parent, err := e.store.Load(ctx, j.Parent)
		switch {
		case homeward.KindOf(err) == homeward.NotFound:
		case err != nil:
			return err
		case Waits(j, parent):
			return nil
		case parent.Item == j.Item && parent.State != vault.JobSucceeded:
			return e.drop(ctx, j, "its parent did not succeed")
		}
	}
	return e.schedule(j)
}

// drop ends a job that does not run. The caller is in the gate.
func (e *Engine) drop(ctx context.Context, j vault.Job, why string) error {
	i := -1
	for n, t := range j.Tasks {
		if !done(t) {
			i = n
			break
		}
	}
	finish(&j, vault.JobCancelled, i, nil, e.now())
	if i >= 0 {
		j.Tasks[i].Why = why
	}
	if err := e.store.End(ctx, &j); err != nil {
		e.unsure(err)
		return homeward.Wrap(err, "end job", j.ID)
	}
	e.mu.Lock()
	e.tell()
	e.mu.Unlock()
	return e.children(ctx, j)
}

// follow places the children that waited for a job.
func (e *Engine) follow(parent vault.Job) {
	if parent.Item == "" || e.enter(e.base) != nil {
		return
	}
	defer e.leave()
	e.unsure(e.children(e.base, parent))
}

func (e *Engine) children(ctx context.Context, parent vault.Job) error {
	if parent.Item == "" {
		return nil
	}
	unended, err := e.store.Unended(ctx)
	if err != nil {
		return err
	}
	for _, j := range unended {
		if j.Parent != parent.ID {
			continue
		}
		if err := e.place(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// Begin starts a child job. One on the parent's own item waits until the parent has
// ended, and takes the item over from it; it is cancelled if the parent does not
// succeed. Any other runs at once and may outlive the parent. A task that is done
// again finds the child that it began before, unless that one failed: then it
// begins another.
func (r *Run) Begin(ctx context.Context, child vault.Job) (vault.Job, error) {
	parent := r.Job()
	child.Parent = parent.ID
	if child.Caller == "" {
		child.Caller = parent.Caller
	}
	if err := r.l.e.enter(ctx); err != nil {
		return vault.Job{}, err
	}
	got, err := r.begin(ctx, child)
	r.l.e.leave()
	if err != nil {
		return got, err
	}
	told := vault.Task{Name: child.Scenario + " " + string(child.Item), Title: got.Title, State: vault.TaskRunning, Job: got.ID, Started: r.l.e.now(), Cancellable: true}
	r.l.change(func(j *vault.Job) {
		j.Tasks[r.i].Job = got.ID
		upsert(&j.Tasks[r.i].Children, told)
	})
	return got, r.l.store(ctx, r.l.save)
}

// dropped marks in a failed job's tasks the children that were cancelled because it
// failed: they have to begin again when it is retried.
func (e *Engine) dropped(ctx context.Context, j *vault.Job) error {
	for i := range j.Tasks {
		for n := range j.Tasks[i].Children {
			told := &j.Tasks[i].Children[n]
			if told.Job == "" {
				continue
			}
			child, err := e.store.Load(ctx, told.Job)
			if err != nil {
				return homeward.Wrap(err, "look at child job", told.Job)
			}
			if child.State == vault.JobCancelled && child.Started.IsZero() && !child.Ended.Before(j.Ended) {
				told.State = vault.TaskCancelled
			}
		}
	}
	return nil
}

// revive begins again what dropped has marked, of tasks that are not done again.
func (l *live) revive() error {
	for i, t := range l.look().Tasks {
		for _, told := range t.Children {
			if !done(t) || told.Job == "" || told.State != vault.TaskCancelled {
				continue
			}
			r := &Run{l: l, i: i}
			for delay := l.e.first; ; delay = min(2*delay, l.e.longest) {
				err := r.replace(told.Job)
				if err == nil {
					break
				}
				if !uncertain(err) || sleep(l.ctx, delay) != nil {
					return err
				}
			}
		}
	}
	return nil
}

// replace begins a child like one that was cancelled.
func (r *Run) replace(id string) error {
	old, err := r.l.e.store.Load(r.l.ctx, id)
	if err != nil {
		return err
	}
	_, err = r.Begin(r.l.ctx, vault.Job{Scenario: old.Scenario, Title: old.Title, Item: old.Item, Action: old.Action, Caller: old.Caller, Input: old.Input})
	return err
}

func (r *Run) begin(ctx context.Context, child vault.Job) (vault.Job, error) {
	base := fmt.Sprintf("%s/%s/%s/%s", child.Parent, r.Job().Tasks[r.i].Name, child.Scenario, child.Item)
	for n := 1; ; n++ {
		child.Key = fmt.Sprintf("%s/%d", base, n)
		got, known, err := r.l.e.start(ctx, child)
		if err != nil || !known || !got.State.Ended() || got.State == vault.JobSucceeded {
			return got, err
		}
	}
}

// upsert replaces the task of that name, or appends it; bounded by maxChildren.
func upsert(tasks *[]vault.Task, t vault.Task) {
	for i, old := range *tasks {
		if old.Name == t.Name {
			if t.Started.IsZero() {
				t.Started = old.Started
			}
			(*tasks)[i] = t
			return
		}
	}
	if len(*tasks) < maxChildren {
		*tasks = append(*tasks, t)
	}
}

// maxChildren of a task; more are not told.
const maxChildren = 500

// artefactID is the same for the same thing made by the same job, so that a task
// that is done again enters it once.
func artefactID(a vault.Artefact) string {
	return fmt.Sprintf("%s/%s/%s/%s", a.Job, a.Kind, a.Where, a.Subject)
}

// Artefact enters what is about to be made outside the store. Make it only when
// this returned nil. Its ID, if empty, follows from job, kind, place and subject.
func (r *Run) Artefact(ctx context.Context, a vault.Artefact) error {
	a.Job, a.Made = r.l.id, r.l.e.now()
	if a.ID == "" {
		a.ID = artefactID(a)
	}
	if err := r.l.e.store.Enter(ctx, a); err != nil {
		return homeward.Wrap(err, "enter artefact", a.Kind+" "+a.Subject)
	}
	r.l.tell(func(j *vault.Job) {
		for _, old := range j.Artefacts {
			if old.ID == a.ID {
				return
			}
		}
		j.Artefacts = append(j.Artefacts, a)
	})
	return nil
}

// Gone says that an artefact is no longer there, whoever made it.
func (r *Run) Gone(ctx context.Context, id string) error {
	at := r.l.e.now()
	if err := r.l.e.store.Gone(ctx, id, at); err != nil {
		return homeward.Wrap(err, "strike artefact", id)
	}
	r.l.tell(func(j *vault.Job) {
		for i := range j.Artefacts {
			if j.Artefacts[i].ID == id && j.Artefacts[i].Gone == (time.Time{}) {
				j.Artefacts[i].Gone = at
			}
		}
	})
	return nil
}
