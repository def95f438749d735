package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// workshop turns actions into jobs, and jobs into calls of package recovery.
type workshop struct {
	*core
	alerts    *alerts
	monitor   *monitor
	placement *placement
	gatherer  *gatherer
	discovery *discovery
	engine    *job.Engine
	bounds    Limits
}

// assignment is the stored input of a job: what was asked for, and the facts that its
// tasks were planned from, so that a vault that takes the job up plans the same.
type assignment struct {
	Input vault.Input     `json:"input"`
	Facts lifecycle.Facts `json:"facts"`
	// Chosen is the point that Input.Point meant when it was asked for: an age, or "the
	// newest app-consistent one", would be another at each attempt. Zero: the newest.
	Chosen  homeward.Position `json:"chosen,omitzero"`
	Machine string            `json:"machine,omitempty"` // Enable: that was asked for
	Leaving *leaving          `json:"leaving,omitempty"` // of a replica that is led to another master target
	New     *vault.Item       `json:"new,omitempty"`     // Enable: the item that comes into being with the job
	First   *recovery.Record  `json:"record,omitempty"`  // and its record
}

func (a assignment) encode() (json.RawMessage, error) {
	data, err := json.Marshal(a)
	return data, homeward.Wrap(err, "write job", "")
}

func assignmentOf(j vault.Job) (a assignment, err error) {
	if len(j.Input) == 0 {
		return a, nil
	}
	if err := json.Unmarshal(j.Input, &a); err != nil {
		return a, homeward.Errorf("read job", homeward.Corrupt, "job "+j.ID, "abort it and begin anew", "%w", err)
	}
	return a, nil
}

// work is a task at work on an item.
type work struct {
	*workshop
	run    *job.Run
	asked  assignment
	stored vault.Item     // as it was when the task began
	item   *recovery.Item // only of this task while it runs
}

// ID names the item.
func (w *work) id() homeward.ItemID { return w.stored.ID }

// task is what a step of a job does.
type task func(context.Context, *work) error

// on makes a task of a job of one that works on the job's item.
func (s *workshop) on(do task) func(context.Context, *job.Run) error {
	return func(ctx context.Context, run *job.Run) error {
		release, err := s.owners.claim(ctx, run.Job().Item)
		if err != nil {
			return err
		}
		defer release()
		w, err := s.begin(ctx, run)
		if err != nil {
			return err
		}
		return do(ctx, w)
	}
}

// probe is on for a question.
func (s *workshop) probe(ask func(context.Context, *work) (bool, error)) func(context.Context, *job.Run) (bool, error) {
	return func(ctx context.Context, run *job.Run) (yes bool, err error) {
		err = s.on(func(ctx context.Context, w *work) (err error) {
			yes, err = ask(ctx, w)
			return err
		})(ctx, run)
		return yes, err
	}
}

// patiently is on for a task that waits, and may be interrupted by who has
// something to do with the item; then it goes on.
func (s *workshop) patiently(do task) func(context.Context, *job.Run) error {
	return func(ctx context.Context, run *job.Run) error {
		for {
			mine, release, err := s.owners.claimPatiently(ctx, run.Job().Item)
			if err != nil {
				return err
			}
			w, err := s.begin(mine, run)
			if err == nil {
				err = do(mine, w)
			}
			interrupted := mine.Err() != nil && ctx.Err() == nil
			release()
			if !interrupted || err == nil {
				return err
			}
		}
	}
}

func (s *workshop) begin(ctx context.Context, run *job.Run) (*work, error) {
	j := run.Job()
	asked, err := assignmentOf(j)
	if err != nil {
		return nil, err
	}
	w := &work{workshop: s, run: run, asked: asked}
	if w.stored, err = s.store.Items.Get(ctx, string(j.Item)); err != nil {
		return nil, err
	}
	w.item, err = s.load(ctx, w.stored)
	if err != nil {
		return nil, err
	}
	w.item.Watch = w.tell
	return w, nil
}

// load is the recovery item of a stored one, which the caller must own. Whatever
// becomes of it is in the store before the next effect.
func (c *core) load(ctx context.Context, stored vault.Item) (*recovery.Item, error) {
	if stored.Record == nil {
		return nil, homeward.Errorf("load item", homeward.Corrupt, "item "+string(stored.ID), "restore the vault from a backup", "it has no record")
	}
	original, recover, err := c.sidesOf(ctx, stored)
	if err != nil {
		return nil, err
	}
	it, err := recovery.Load(*stored.Record, original, recover, c.log.With("item", stored.ID))
	if err != nil {
		return nil, err
	}
	it.Weight = weightOf(stored.Replication.Priority)
	if l := stored.Record.Leaving; l != nil {
		if it.To, err = c.standbyWith(ctx, stored, l.To, l.Retention); err != nil {
			return nil, err
		}
	}
	// A list that is told to stop may still have to write down what it did.
	saving := context.WithoutCancel(ctx)
	it.Save = func(it *recovery.Item) error {
		r := it.Snapshot()
		return c.durably(func() error {
			_, err := c.store.Items.Change(saving, string(stored.ID), func(v *vault.Item) error {
				follow(v, r)
				return nil
			})
			return err
		})
	}
	return it, nil
}

// tell shows the steps of a list as children of the task.
func (w *work) tell(s recovery.Step) {
	t := vault.Task{Name: s.Name, Title: s.Name, State: vault.TaskRunning, Started: s.Began.UTC(), Progress: s.Progress}
	if !s.Ended.IsZero() {
		t.Ended, t.State = s.Ended.UTC(), vault.TaskSucceeded
		if s.Err != nil {
			t.State, t.Error, t.Why = vault.TaskFailed, job.FailureOf(s.Err), s.Err.Error()
			if s.Optional {
				t.State = vault.TaskSkipped
			}
		}
	}
	w.run.Child(t)
	if s.Progress.Total > 0 {
		w.run.Progress(s.Progress)
	}
}

// errReached ends a list on purpose.
var errReached = errors.New("the list came to where the next task begins")

// until runs a list of calls as far as the step of a name, and leaves the rest to a
// later task: a list that was cut short is called again, and goes on where it stood.
func (w *work) until(ctx context.Context, step string, list func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.item.Watch = func(s recovery.Step) {
		if s.Name == step && s.Ended.IsZero() {
			stop(errReached)
		}
		if !errors.Is(context.Cause(ctx), errReached) {
			w.tell(s)
		}
	}
	defer func() { w.item.Watch = w.tell }()
	err := list(ctx)
	if errors.Is(context.Cause(ctx), errReached) {
		return nil
	}
	return err
}

// change edits the stored item, beside its record.
func (w *work) change(ctx context.Context, edit func(*vault.Item)) error {
	return w.durably(func() error {
		stored, err := w.store.Items.Change(ctx, string(w.id()), func(it *vault.Item) error {
			edit(it)
			return nil
		})
		if err == nil {
			w.stored = stored
		}
		return err
	})
}

// artefact enters in the ledger what is about to be made.
func (w *work) artefact(ctx context.Context, kind, where, subject, purpose, rule string) error {
	return w.run.Artefact(ctx, vault.Artefact{ID: artefactID(w.id(), kind, where, subject), Kind: kind, Where: where,
		Subject: subject, Purpose: purpose, Rule: rule})
}

func artefactID(item homeward.ItemID, kind, where, subject string) string {
	return fmt.Sprintf("%s-%s-%s", item, kind, scopeOf(where, subject))
}
