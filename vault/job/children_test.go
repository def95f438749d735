package job_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// family: a parent whose first task begins a child on its own item, and whose
// second does what the test says.
func family(child *until, second func(context.Context, *job.Run) error) []job.Definition {
	return []job.Definition{
		plain("Parent", task("begin", func(ctx context.Context, r *job.Run) error {
			_, err := r.Begin(ctx, vault.Job{Scenario: "Child", Item: r.Job().Item})
			return err
		}), task("second", second)),
		plain("Child", task("sync", child.do)),
	}
}

func childOf(t *testing.T, store *memory, parent string) (children []vault.Job) {
	t.Helper()
	for _, j := range store.all() {
		if j.Parent == parent {
			children = append(children, j)
		}
	}
	if len(children) == 0 {
		t.Fatal("there is no child")
	}
	return children
}

func TestChildTakesTheItemOver(t *testing.T) {
	store, u, second := newMemory(), newUntil(), newUntil()
	e := engine(t, job.Options{Store: store, Definitions: family(u, second.do)})
	parent := start(t, e, vault.Job{Scenario: "Parent", Item: "web01", Caller: "ann"}).ID
	<-second.began
	child := childOf(t, store, parent)[0]
	if child.State != vault.JobNotStarted || store.holder("web01") != parent || child.Caller != "ann" {
		t.Errorf("beside its parent the child is %s, of %q; the item is held by %q", child.State, child.Caller, store.holder("web01"))
	}
	close(second.goOn)
	j := wait(t, e, parent, vault.JobSucceeded)
	if j.Tasks[0].Job != child.ID || len(j.Tasks[0].Children) != 1 || j.Tasks[0].Children[0].Job != child.ID {
		t.Errorf("the task does not name its child: %+v", j.Tasks[0])
	}
	<-u.began
	if h := store.holder("web01"); h != child.ID {
		t.Errorf("the item is held by %q", h)
	}
	if _, err := e.Start(bounded(t), vault.Job{Scenario: "Child", Item: "web01"}); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("another job beside the child: %v", err)
	}
	close(u.goOn)
	wait(t, e, child.ID, vault.JobSucceeded)
	if h := store.holder("web01"); h != "" {
		t.Errorf("the item is held by %q", h)
	}
	store.check(t)
}

func TestChildOfAFailedParent(t *testing.T) {
	store, u := newMemory(), newUntil()
	close(u.goOn)
	var fail atomic.Bool
	fail.Store(true)
	e := engine(t, job.Options{Store: store, Definitions: family(u, func(context.Context, *job.Run) error {
		if fail.Load() {
			return homeward.Errorf("do", homeward.IO, "disk", "replace it", "broken")
		}
		return nil
	})})
	parent := start(t, e, vault.Job{Scenario: "Parent", Item: "web01"}).ID
	wait(t, e, parent, vault.JobFailed)
	first := childOf(t, store, parent)[0]
	j := wait(t, e, first.ID, vault.JobCancelled)
	if !j.Started.IsZero() || j.Tasks[0].Why == "" || store.holder("web01") != "" {
		t.Errorf("the child is %+v, the item held by %q", j, store.holder("web01"))
	}
	fail.Store(false)
	must(t, e, parent, vault.JobRetry, "") // its first task stays done, and yet what it began must come back
	again := wait(t, e, parent, vault.JobSucceeded)
	children := childOf(t, store, parent)
	if len(children) != 2 || again.Tasks[0].Job != children[1].ID || again.Tasks[0].Attempts != 1 {
		t.Fatalf("%d children, the task is %+v", len(children), again.Tasks[0])
	}
	wait(t, e, children[1].ID, vault.JobSucceeded)
	store.check(t)
}

func TestWaitingChildCanBeCancelled(t *testing.T) {
	store, u, second := newMemory(), newUntil(), newUntil()
	e := engine(t, job.Options{Store: store, Definitions: family(u, second.do)})
	parent := start(t, e, vault.Job{Scenario: "Parent", Item: "web01"}).ID
	<-second.began
	child := childOf(t, store, parent)[0]
	must(t, e, child.ID, vault.JobCancel, "")
	wait(t, e, child.ID, vault.JobCancelled)
	if h := store.holder("web01"); h != parent {
		t.Errorf("the item is held by %q", h)
	}
	close(second.goOn)
	wait(t, e, parent, vault.JobSucceeded)
	if h := store.holder("web01"); h != "" {
		t.Errorf("the item is held by %q", h)
	}
	store.check(t)
}

func TestArtefactsAreStruckOut(t *testing.T) {
	store := newMemory()
	e := engine(t, job.Options{Store: store, Definitions: []job.Definition{plain("S", task("a", func(ctx context.Context, r *job.Run) error {
		for range 2 { // the second time changes nothing
			if err := r.Artefact(ctx, vault.Artefact{Kind: "view", Where: "mt1", Subject: "web01-test", Rule: "with-test"}); err != nil {
				return err
			}
		}
		return r.Artefact(ctx, vault.Artefact{ID: "mine", Kind: "pin", Where: "mt1", Subject: "p"})
	}), task("b", func(ctx context.Context, r *job.Run) error { return r.Gone(ctx, "mine") }))}})
	j := wait(t, e, start(t, e, vault.Job{Scenario: "S"}).ID, vault.JobSucceeded)
	if len(j.Artefacts) != 2 || len(store.artefacts) != 2 || j.Artefacts[0].Job != j.ID || j.Artefacts[0].Made.IsZero() || !j.Artefacts[0].Gone.IsZero() || j.Artefacts[1].Gone.IsZero() || store.artefacts["mine"].Gone.IsZero() {
		t.Errorf("the ledger: %+v, %+v", j.Artefacts, store.artefacts)
	}
}
