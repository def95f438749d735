package job

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Store keeps jobs, and who holds which item. Each call is one transaction, and
// durable when it returns nil; a call that errs may have taken effect or not. Only
// the engine writes jobs. Calls that are given a *vault.Job set its Meta. Safe for
// concurrent use.
//
// An item is held by the unended jobs on it, as Holder tells: whoever implements
// Store keeps Item.Job at that in the same transactions (Begin, Reopen, End), so
// that the item and its jobs never disagree. Begin is also where the item's state
// becomes what the lifecycle says a begun job makes of it, and End where it becomes
// what an ended one does; a child that waits for its parent (Waits) changes nothing
// of the item before it runs.
type Store interface {
	// Begin inserts a job and takes its item; Admit says who may.
	Begin(ctx context.Context, j *vault.Job) error
	// Reopen takes the item again for an ended job, and stores it as it now is.
	// Conflict if Admit or Newest refuses.
	Reopen(ctx context.Context, j *vault.Job) error
	// Save stores an unended job.
	Save(ctx context.Context, j *vault.Job) error
	// End stores a job's final state and releases the item, or hands it over to the
	// child that has waited for it. The same again changes nothing.
	End(ctx context.Context, j *vault.Job) error
	Load(ctx context.Context, id string) (vault.Job, error) // NotFound
	// Unended are all jobs that have not ended, oldest first.
	Unended(ctx context.Context) ([]vault.Job, error)
	// ByKey is the newest job with that key; NotFound.
	ByKey(ctx context.Context, key string) (vault.Job, error)
	// Enter adds an artefact to the ledger; the same id again changes nothing.
	Enter(ctx context.Context, a vault.Artefact) error
	// Gone says that an artefact is no longer there; an unknown id changes nothing.
	Gone(ctx context.Context, id string, at time.Time) error
}

// Admit decides whether a job may begin, given the unended jobs of its item: one at
// a time, and below it the child that takes over from it. Conflict names the
// running job.
func Admit(j vault.Job, unended []vault.Job) error {
	if j.Item == "" {
		return nil
	}
	above := map[string]bool{}
	for next := j.Parent; next != "" && !above[next]; {
		above[next] = true
		for _, u := range unended {
			if u.ID == next {
				next = u.Parent
				break
			}
		}
	}
	for _, u := range unended {
		if u.ID != j.ID && u.Item == j.Item && !above[u.ID] {
			return homeward.Errorf("begin job", homeward.Conflict, "item "+string(j.Item), "wait until it has ended, or cancel it",
				"job %s (%s) works on the item", u.ID, u.Title)
		}
	}
	return nil
}

// Newest decides whether an ended job may go on, given the jobs of its item that
// began after it: an item that went on without it is another one by now. Its own
// children do not count.
func Newest(j vault.Job, later []vault.Job) error {
	mine := map[string]bool{j.ID: true}
	for range later { // in whatever order they come
		for _, l := range later {
			mine[l.ID] = mine[l.ID] || l.Parent != "" && mine[l.Parent]
		}
	}
	for _, l := range later {
		if l.Item == j.Item && j.Item != "" && !mine[l.ID] {
			return homeward.Errorf("retry job", homeward.Conflict, "job "+j.ID, "start the action anew", "job %s (%s) of the item is newer", l.ID, l.Title)
		}
	}
	return nil
}

// Holder is the id of the job that holds an item, given the item's unended jobs:
// the one whose parent is not among them. Empty: nobody.
func Holder(unended []vault.Job) string {
	ids := map[string]bool{}
	for _, u := range unended {
		ids[u.ID] = true
	}
	for _, u := range unended {
		if !ids[u.Parent] {
			return u.ID
		}
	}
	return ""
}

// Waits reports whether a job has to wait for its parent to end: two never work on
// one item at a time.
func Waits(child, parent vault.Job) bool {
	return child.Parent == parent.ID && child.Item != "" && child.Item == parent.Item && !parent.State.Ended()
}
