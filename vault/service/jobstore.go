package service

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// jobStore keeps the engine's jobs, and in the same transactions what they make of
// their items: Item.Job, and the state that only a job knows.
type jobStore struct {
	*core
	ended func(homeward.ItemID) // told of an item on which a job has ended
}

var _ job.Store = (*jobStore)(nil)

// Begin implements job.Store.
func (s *jobStore) Begin(ctx context.Context, j *vault.Job) error {
	return s.whole(ctx, func(ctx context.Context) error {
		unended, err := s.unended(ctx, j.Item)
		if err == nil {
			err = job.Admit(*j, unended)
		}
		if err == nil {
			err = s.store.Jobs.Insert(ctx, j)
		}
		if err != nil || j.Item == "" {
			return err
		}
		asked, err := assignmentOf(*j)
		if err != nil {
			return err
		}
		if asked.New != nil {
			it := *asked.New
			it.Record, it.Job = asked.First, j.ID
			if err := s.seize(ctx, it); err != nil {
				return err
			}
			return s.store.Items.Insert(ctx, &it)
		}
		return s.took(ctx, *j, append(unended, *j), begun)
	})
}

// seize makes a machine an item's, unless it is another's.
func (s *jobStore) seize(ctx context.Context, it vault.Item) error {
	_, err := s.store.Machines.Change(ctx, it.Machine, func(m *vault.Machine) error {
		if m.Item != "" && m.Item != it.ID {
			return homeward.Errorf("enable", homeward.Exists, "machine "+m.ID, "act on item "+string(m.Item), "item %s protects it", m.Item)
		}
		m.Item = it.ID
		return nil
	})
	return err
}

// Reopen implements job.Store.
func (s *jobStore) Reopen(ctx context.Context, j *vault.Job) error {
	return s.whole(ctx, func(ctx context.Context) error {
		unended, err := s.unended(ctx, j.Item)
		if err == nil {
			err = job.Admit(*j, unended)
		}
		if err == nil && j.Item != "" {
			err = s.newest(ctx, *j)
		}
		if err == nil {
			err = s.store.Jobs.Update(ctx, j)
		}
		if err != nil {
			return err
		}
		return s.took(ctx, *j, append(unended, *j), begun)
	})
}

// newest refuses a job that another one of its item has followed; those that it began
// itself do not count.
func (s *jobStore) newest(ctx context.Context, j vault.Job) error {
	var later []vault.Job
	for l, err := range s.store.Jobs.All(ctx, vault.Query{Item: string(j.Item)}) { // newest first
		if err != nil {
			return err
		}
		if l.ID == j.ID {
			break
		}
		later = append(later, l)
	}
	return job.Newest(j, later)
}

// Save implements job.Store.
func (s *jobStore) Save(ctx context.Context, j *vault.Job) error {
	return s.durably(func() error { return s.store.Jobs.Update(ctx, j) })
}

// whole does all of something, or nothing.
func (s *jobStore) whole(ctx context.Context, do func(context.Context) error) error {
	return s.durably(func() error { return s.store.Tx(ctx, do) })
}

// End implements job.Store.
func (s *jobStore) End(ctx context.Context, j *vault.Job) error {
	err := s.whole(ctx, func(ctx context.Context) error {
		stored, err := s.store.Jobs.Get(ctx, j.ID)
		if err != nil {
			return err
		}
		if stored.State.Ended() {
			j.Meta = stored.Meta
			return nil
		}
		if err := s.store.Jobs.Update(ctx, j); err != nil {
			return err
		}
		unended, err := s.unended(ctx, j.Item)
		if err != nil {
			return err
		}
		if j.State == vault.JobCancelled && j.Started.IsZero() {
			return s.undo(ctx, *j, unended)
		}
		then := failed
		if j.State == vault.JobSucceeded {
			then = succeeded
		}
		return s.took(ctx, *j, unended, then)
	})
	if err == nil && j.Item != "" {
		s.ended(j.Item)
	}
	return err
}

// undo takes back what the begin of a job made of its item, for the job was cancelled
// before it did anything: an item that came into being with it goes with it.
func (s *jobStore) undo(ctx context.Context, j vault.Job, unended []vault.Job) error {
	if j.Item == "" {
		return nil
	}
	asked, t, known, err := transitionOf(j)
	if err != nil {
		return err
	}
	if asked.New != nil {
		return s.unmake(ctx, *asked.New)
	}
	_, err = s.store.Items.Change(ctx, string(j.Item), func(it *vault.Item) error {
		it.Job = job.Holder(unended)
		if known && t.Test.Begun != "" {
			it.Test.State = asked.Facts.Test
		}
		if known && t.Begun == vault.Disabling {
			it.State = asked.Facts.State
		}
		return nil
	})
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	return err
}

// unmake removes an item that nothing was done for, and lets its machine go.
func (s *jobStore) unmake(ctx context.Context, it vault.Item) error {
	_, err := s.store.Machines.Change(ctx, it.Machine, func(m *vault.Machine) error {
		if m.Item == it.ID {
			m.Item = ""
		}
		return nil
	})
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		return err
	}
	return s.store.Items.Delete(ctx, string(it.ID))
}

// phase says which of a transition's phases an item enters.
type phase int

const (
	begun phase = iota
	succeeded
	failed
)

func pick[T any](p lifecycle.Phases[T], at phase) T {
	return [...]T{p.Begun, p.Next, p.Failed}[at]
}

// took makes of an item what a job's begin or end does.
func (s *jobStore) took(ctx context.Context, j vault.Job, unended []vault.Job, at phase) error {
	if j.Item == "" {
		return nil
	}
	asked, t, known, err := transitionOf(j)
	if err != nil {
		return err
	}
	_, err = s.store.Items.Change(ctx, string(j.Item), func(it *vault.Item) error {
		it.Job = job.Holder(unended)
		if !known {
			return nil
		}
		if test := pick(t.Test, at); test != "" {
			it.Test.State = test
		}
		if t.Begun == vault.Disabling {
			disabling(it, at, asked.Facts.State)
		}
		return nil
	})
	if homeward.KindOf(err) == homeward.NotFound { // disabled
		return nil
	}
	return err
}

// disabling is the state that only a job knows. One that failed before it changed
// anything leaves the item what it was: it may have to be failed over.
func disabling(it *vault.Item, at phase, was vault.State) {
	switch {
	case at == begun:
		it.State = vault.Disabling
	case at != failed || it.State != vault.Disabling || it.Record == nil || it.Record.State == recovery.Unprotected:
	case was == vault.Migrated:
		it.State = was
	default:
		it.State = stateOf(it.Record.State)
	}
}

// transitionOf is what a job does to its item; false: nothing that the lifecycle knows.
func transitionOf(j vault.Job) (assignment, lifecycle.Transition, bool, error) {
	if j.Action == "" {
		return assignment{}, lifecycle.Transition{}, false, nil
	}
	asked, err := assignmentOf(j)
	if err != nil {
		return asked, lifecycle.Transition{}, false, err
	}
	t, refusal := lifecycle.Decide(asked.Facts, j.Action)
	return asked, t, refusal == nil, nil
}

// Load implements job.Store.
func (s *jobStore) Load(ctx context.Context, id string) (vault.Job, error) {
	return s.store.Jobs.Get(ctx, id)
}

// Unended implements job.Store.
func (s *jobStore) Unended(ctx context.Context) ([]vault.Job, error) { return s.unended(ctx, "") }

// unended are those of an item, or all; oldest first.
func (s *jobStore) unended(ctx context.Context, item homeward.ItemID) (all []vault.Job, err error) {
	for _, state := range []vault.JobState{vault.JobNotStarted, vault.JobRunning, vault.JobPaused, vault.JobCancelling} {
		for j, err := range s.store.Jobs.All(ctx, vault.Query{Item: string(item), State: string(state)}) {
			if err != nil {
				return nil, err
			}
			all = append(all, j)
		}
	}
	sortByBirth(all)
	return all, nil
}

// ByKey implements job.Store.
func (s *jobStore) ByKey(ctx context.Context, key string) (vault.Job, error) {
	return s.store.JobByKey(ctx, key)
}

// Enter implements job.Store.
func (s *jobStore) Enter(ctx context.Context, a vault.Artefact) error {
	err := s.store.Artefacts.Insert(ctx, &a)
	if homeward.KindOf(err) == homeward.Exists {
		return nil
	}
	return err
}

// Gone implements job.Store.
func (s *jobStore) Gone(ctx context.Context, id string, at time.Time) error {
	_, err := s.store.Artefacts.Change(ctx, id, func(a *vault.Artefact) error {
		if a.Gone.IsZero() {
			a.Gone = at
		}
		return nil
	})
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	return err
}
