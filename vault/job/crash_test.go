package job_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// world is what jobs have effects on. Like the store, it outlives the engine.
type world struct {
	t     interface{ Errorf(string, ...any) }
	store *memory
	die   func(what string, after bool) error

	mu      sync.Mutex
	effects []string // "job/task", as they took place
}

func (w *world) has(effect string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.effects {
		if e == effect {
			return true
		}
	}
	return false
}

// effect has it take place, and checks that the store was told before.
func (w *world) effect(r *job.Run, name string) error {
	if err := w.die(name, false); err != nil {
		return err
	}
	stored := w.store.stored(r.Job().ID)
	before := true
	for _, t := range stored.Tasks {
		switch {
		case t.Name == name && (t.State != vault.TaskRunning || t.Attempts == 0):
			w.t.Errorf("%s takes place while it is stored as %s", name, t.State)
		case t.Name == name:
			before = false
		case before && t.State != vault.TaskSucceeded && t.State != vault.TaskSkipped:
			w.t.Errorf("%s takes place while %s before it is stored as %s", name, t.Name, t.State)
		}
	}
	w.mu.Lock()
	w.effects = append(w.effects, stored.Scenario+"/"+name)
	w.mu.Unlock()
	return w.die(name, true)
}

// look checks every stored form: a task is marked only after its effect.
func (w *world) look(j vault.Job) {
	for _, t := range j.Tasks {
		if t.State == vault.TaskSucceeded && !w.has(j.Scenario+"/"+t.Name) {
			w.t.Errorf("%s/%s is stored as succeeded before its effect", j.Scenario, t.Name)
		}
	}
}

func (w *world) task(name string, probed bool, more func(context.Context, *job.Run) error) job.TaskDef {
	def := job.TaskDef{Name: name, Do: func(ctx context.Context, r *job.Run) error {
		if more != nil {
			if err := more(ctx, r); err != nil {
				return err
			}
		}
		return w.effect(r, name)
	}}
	if probed {
		def.Done = func(_ context.Context, r *job.Run) (bool, error) { return w.has(r.Job().Scenario + "/" + name), nil }
	}
	return def
}

// definitions: a parent that makes an artefact, leaves a child on its own item and
// begins one on another; both of which have tasks of their own.
func (w *world) definitions() []job.Definition {
	machine := func(ctx context.Context, r *job.Run) error {
		a := vault.Artefact{Kind: "machine", Where: "away", Subject: "web01", Rule: "with-item"}
		if err := r.Artefact(ctx, a); err != nil {
			return err
		}
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		if len(w.store.artefacts) != 1 {
			w.t.Errorf("%d artefacts are entered before one is made", len(w.store.artefacts))
		}
		return nil
	}
	children := func(ctx context.Context, r *job.Run) error {
		if _, err := r.Begin(ctx, vault.Job{Scenario: "Sync", Item: r.Job().Item}); err != nil {
			return err
		}
		_, err := r.Begin(ctx, vault.Job{Scenario: "Other", Item: "db01"})
		return err
	}
	sync := func(ctx context.Context, r *job.Run) error {
		if parent := w.store.stored(r.Job().Parent); parent.State != vault.JobSucceeded {
			w.t.Errorf("the child works while its parent is %s", parent.State)
		}
		if h := w.store.holder("web01"); h != r.Job().ID {
			w.t.Errorf("the child works while %q holds the item", h)
		}
		return nil
	}
	return []job.Definition{
		plain("Parent", w.task("a", false, nil), w.task("b", true, machine), w.task("c", false, children), w.task("d", true, nil)),
		plain("Sync", w.task("x", true, sync), w.task("y", false, sync)),
		plain("Other", w.task("o", false, nil)),
	}
}

// killer ends the engine's life at the n-th event: a call of the store, or an effect.
type killer struct {
	mu   sync.Mutex
	left int
	dead chan struct{}
}

var errKilled = homeward.Errorf("live", homeward.Unavailable, "engine", "", "killed")

func newKiller(n int) *killer { return &killer{left: n, dead: make(chan struct{})} }

func (k *killer) event(string, bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left--
	if k.left == 0 {
		close(k.dead)
	}
	if k.left <= 0 {
		return errKilled
	}
	return nil
}

// live runs the engine until all jobs have ended or it is killed; ended tells which.
func live(t interface{ Fatalf(string, ...any) }, w *world, k *killer, begin vault.Job) (ended bool) {
	w.store.around, w.die = k.event, k.event
	e := newEngine(job.Options{Store: w.store, Definitions: w.definitions(), Max: 2, Tries: 3})
	defer e.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() {
		select {
		case <-k.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	killed := func() bool {
		select {
		case <-k.dead:
			return true
		default:
			return false
		}
	}
	check := func(what string, err error) bool {
		if err != nil && !killed() {
			t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	}
	if !check("resume", e.Resume(ctx)) {
		return false
	}
	if _, err := e.Start(ctx, begin); !check("start", err) {
		return false
	}
	for range 3 { // children begin while others are waited for
		for _, j := range w.store.all() {
			if _, err := e.Wait(ctx, j.ID); !check("wait", err) {
				return false
			}
		}
	}
	return !killed()
}

// whole checks what must hold once everything has ended.
func (w *world) whole() {
	want := map[string]bool{"Parent": true, "Sync": true, "Other": true}
	for _, j := range w.store.all() {
		if !want[j.Scenario] {
			w.t.Errorf("job %s began twice, or should not be", j.Scenario)
		}
		delete(want, j.Scenario)
		if j.State != vault.JobSucceeded {
			w.t.Errorf("%s is %s: %+v", j.Scenario, j.State, j.Error)
		}
	}
	if len(want) != 0 {
		w.t.Errorf("never began: %v", want)
	}
	first := map[string]int{}
	for i, e := range w.effects {
		if _, seen := first[e]; !seen {
			first[e] = i
		}
	}
	for _, order := range []string{"Parent/a Parent/b Parent/c Parent/d Sync/x Sync/y", "Parent/b Other/o"} {
		last := -1
		for e := range strings.FieldsSeq(order) {
			at, seen := first[e]
			if !seen || at <= last {
				w.t.Errorf("%s is missing or out of order: %v", e, w.effects)
			}
			last = at
		}
	}
	for item, holder := range w.store.held {
		if holder != "" {
			w.t.Errorf("%s is still held by %s", item, holder)
		}
	}
	w.store.check(w.t)
}

// TestKilledAtEveryEvent kills the engine once at each store call and effect, before
// and after it, and lets the next engine end what it left.
func TestKilledAtEveryEvent(t *testing.T) {
	for n := 1; ; n++ {
		w := &world{t: t, store: newMemory()}
		w.store.saved = w.look
		begin := vault.Job{Scenario: "Parent", Item: "web01", Key: "once"}
		survived := live(t, w, newKiller(n), begin)
		if !live(t, w, newKiller(1<<40), begin) {
			t.Fatal("the second life was cut short")
		}
		w.whole()
		if t.Failed() {
			t.Fatalf("killed at event %d", n)
		}
		if survived {
			if n < 40 {
				t.Fatalf("only %d events were met", n)
			}
			t.Logf("%d events", n-1)
			return
		}
	}
}

// TestKilledAgainAndAgain kills it at random events, life after life.
func TestKilledAgainAndAgain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{t: rt, store: newMemory()}
		w.store.saved = w.look
		begin := vault.Job{Scenario: "Parent", Item: "web01", Key: "once"}
		for range rapid.IntRange(1, 12).Draw(rt, "lives") {
			live(rt, w, newKiller(rapid.IntRange(1, 60).Draw(rt, "event")), begin)
		}
		if !live(rt, w, newKiller(1<<40), begin) {
			rt.Fatalf("the last life was cut short")
		}
		w.whole()
		if d := len(w.effects); d > 12*13 {
			rt.Errorf("%d effects", d)
		}
	})
}

// TestProbeSparesTheEffect: what was done before the kill is not done again.
func TestProbeSparesTheEffect(t *testing.T) {
	w := &world{t: t, store: newMemory()}
	killed, once := make(chan struct{}), sync.Once{}
	w.die = func(what string, after bool) (err error) {
		if what == "b" && after {
			once.Do(func() { close(killed); err = errKilled })
		}
		return err
	}
	e := newEngine(job.Options{Store: w.store, Definitions: w.definitions(), Tries: 1 << 20})
	j := start(t, e, vault.Job{Scenario: "Parent", Item: "web01"})
	<-killed
	e.Close()
	second := newEngine(job.Options{Store: w.store, Definitions: w.definitions()})
	defer second.Close()
	if err := second.Resume(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, second, j.ID, vault.JobSucceeded)
	second.Close()
	if n := strings.Count(fmt.Sprint(w.effects), "Parent/b"); n != 1 {
		t.Errorf("b took place %d times: %v", n, w.effects)
	}
}
