package job

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// keyLife is how long an idempotency key answers the job it made.
const keyLife = 24 * time.Hour

// Options of an Engine.
type Options struct {
	Store       Store
	Definitions []Definition
	Log         *slog.Logger     // nil: nothing is logged
	Now         func() time.Time // nil: time.Now
	// Limits are what a job shares with others while it runs; nil: nothing.
	Limits func(context.Context, vault.Job) ([]Limit, error)
	// Rank says who goes first of those that wait for their turn: the smaller; nil: who
	// came first. It is asked when a job is placed, and by Reorder. A job whose limits or
	// rank cannot be told waits until they can.
	Rank  func(context.Context, vault.Job) (int, error)
	Max   int // jobs that run at once; 0: 32
	Queue int // jobs that run or wait for their turn; more are refused as Busy. 0: 1000

	// Tries and the waits between them, for errors that may pass by themselves; 0: 8
	// tries, at first after 500 ms, each wait twice as long, at most 30 s: two minutes.
	// The same waits hold for a store that does not answer, without end.
	Tries   int
	First   time.Duration
	Longest time.Duration
	Every   time.Duration // progress is stored this often; 0: 1 s
}

// Engine runs jobs. Safe for concurrent use. It has two goroutines for each job
// that runs, one for each that waits for its turn, and one of its own.
type Engine struct {
	store       Store
	definitions map[string]Definition
	log         *slog.Logger
	now         func() time.Time
	limits      func(context.Context, vault.Job) ([]Limit, error)
	rank        func(context.Context, vault.Job) (int, error)
	turns       *turns
	most        int
	tries       int
	first       time.Duration
	longest     time.Duration
	every       time.Duration

	base    context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup
	gate    chan struct{} // holds one: whoever decides which jobs run
	doubt   chan struct{} // something may be stored that the engine does not know of

	mu      sync.Mutex
	lives   map[string]*live
	changed chan struct{} // closed, and another one made, when a job leaves or comes
}

// New makes an engine that runs nothing yet: Resume first. Close it.
func New(o Options) *Engine {
	e := &Engine{store: o.Store, definitions: map[string]Definition{}, log: o.Log, now: o.Now, limits: o.Limits, rank: o.Rank,
		most: or(o.Queue, 1000), tries: or(o.Tries, 8), first: or(o.First, 500*time.Millisecond), longest: or(o.Longest, 30*time.Second), every: or(o.Every, time.Second),
		turns: newTurns(or(o.Max, 32)), gate: make(chan struct{}, 1), doubt: make(chan struct{}, 1), lives: map[string]*live{}, changed: make(chan struct{})}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.limits == nil {
		e.limits = func(context.Context, vault.Job) ([]Limit, error) { return nil, nil }
	}
	if e.rank == nil {
		e.rank = func(context.Context, vault.Job) (int, error) { return 0, nil }
	}
	for _, d := range o.Definitions {
		e.definitions[d.Scenario] = d
	}
	e.base, e.stop = context.WithCancel(context.Background())
	e.running.Go(e.sweep)
	return e
}

func or[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Close stops all jobs as a kill would, and waits until nothing of them runs any
// more; the next engine's Resume goes on with them.
func (e *Engine) Close() {
	e.mu.Lock() // nothing is scheduled after this
	e.stop()
	e.mu.Unlock()
	e.running.Wait()
}

// Start stores a job with its plan and lets it run. The same again by Key, within
// a day, answers the job that it made; Conflict if the key was used for something
// else, or if another job works on the item. After an error that is no refusal
// (Unavailable, a lost answer) the job may yet run: ask again with the same Key.
func (e *Engine) Start(ctx context.Context, j vault.Job) (vault.Job, error) {
	if err := e.enter(ctx); err != nil {
		return vault.Job{}, err
	}
	defer e.leave()
	started, _, err := e.start(ctx, j)
	return started, err
}

// start also tells whether the job was there already. The caller is in the gate.
func (e *Engine) start(ctx context.Context, j vault.Job) (started vault.Job, known bool, err error) {
	if j.Key != "" {
		old, err := e.store.ByKey(ctx, j.Key)
		switch {
		case homeward.KindOf(err) == homeward.NotFound, err == nil && !old.Created.IsZero() && e.now().Sub(old.Created) > keyLife:
		case err != nil:
			return vault.Job{}, false, homeward.Wrap(err, "start job", "key "+j.Key)
		case !same(old, j):
			return vault.Job{}, false, homeward.Errorf("start job", homeward.Conflict, "key "+j.Key, "use another idempotency key", "it was used for job %s (%s), which is something else", old.ID, old.Title)
		default:
			if !old.State.Ended() { // its begin may have lost its answer
				e.unsure(e.place(ctx, old))
			}
			return e.Live(old), true, nil
		}
	}
	j.ID, j.State, j.Actions = homeward.NewID().String(), vault.JobNotStarted, []vault.JobAction{vault.JobCancel}
	if j.Title == "" {
		j.Title = e.definitions[j.Scenario].Title
	}
	defs, err := e.plan(ctx, j)
	if err != nil {
		return vault.Job{}, false, err
	}
	j.Tasks = rows(defs, nil)
	if n := e.count(); n >= e.most {
		return vault.Job{}, false, homeward.Errorf("start job", homeward.Busy, "item "+string(j.Item), "try again when some have ended", "%d jobs run or wait already", n)
	}
	if err := e.store.Begin(ctx, &j); err != nil {
		e.unsure(err)
		return vault.Job{}, false, homeward.Wrap(err, "start job", "item "+string(j.Item))
	}
	started = clone(j)
	e.unsure(e.place(ctx, j)) // it is stored: if it cannot be placed now, the sweep does it
	return started, false, nil
}

// same reports whether two requests with one key ask for the same.
func same(a, b vault.Job) bool {
	if a.Scenario != b.Scenario || a.Item != b.Item || a.Action != b.Action || a.Parent != b.Parent {
		return false
	}
	if bytes.Equal(a.Input, b.Input) {
		return true
	}
	var x, y any
	return json.Unmarshal(a.Input, &x) == nil && json.Unmarshal(b.Input, &y) == nil && reflect.DeepEqual(x, y)
}

// Resume goes on with every job that has not ended. It may be called again.
func (e *Engine) Resume(ctx context.Context) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.leave()
	unended, err := e.store.Unended(ctx)
	if err != nil {
		return homeward.Wrap(err, "resume jobs", "")
	}
	// Those that had begun keep their turn, and so does what others left to a child.
	slices.SortStableFunc(unended, func(a, b vault.Job) int { return waited(a) - waited(b) })
	for _, j := range unended {
		if err := e.place(ctx, j); err != nil {
			return homeward.Wrap(err, "resume job", j.ID)
		}
	}
	return nil
}

func waited(j vault.Job) int {
	if j.Started.IsZero() && j.Parent == "" {
		return 1
	}
	return 0
}

// sweep looks for jobs that were stored although the store did not say so.
func (e *Engine) sweep() {
	for {
		select {
		case <-e.base.Done():
			return
		case <-e.doubt:
		}
		for delay := e.first; ; delay = min(2*delay, e.longest) {
			if sleep(e.base, delay) != nil || e.Resume(e.base) == nil {
				break
			}
		}
	}
}

// unsure has the store looked through if a call that erred may have had an effect.
func (e *Engine) unsure(err error) {
	if !uncertain(err) {
		return
	}
	select {
	case e.doubt <- struct{}{}:
	default: // it is about to be
	}
}

// enter waits for the gate.
func (e *Engine) enter(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.base.Done():
		return closed()
	case e.gate <- struct{}{}:
	}
	if e.base.Err() != nil {
		e.leave()
		return closed()
	}
	return nil
}

func (e *Engine) leave() { <-e.gate }

func closed() error {
	return homeward.Errorf("run jobs", homeward.Unavailable, "vault", "try again when it has started", "the vault is stopping")
}

// schedule lets a stored job run. The caller is in the gate.
func (e *Engine) schedule(j vault.Job) error {
	limits, err := e.limits(e.base, j)
	if err != nil {
		return homeward.Wrap(err, "place job", j.ID)
	}
	rank, err := e.rank(e.base, j)
	if err != nil {
		return homeward.Wrap(err, "place job", j.ID)
	}
	l := &live{e: e, id: j.ID, item: j.Item, job: clone(j), defs: map[string]TaskDef{}, saving: make(chan struct{}, 1), gone: make(chan struct{}),
		cancelled: j.State == vault.JobCancelling}
	defs, err := e.plan(e.base, j)
	l.flawed = err
	for _, d := range defs {
		l.defs[d.Name] = d
	}
	for i, t := range l.job.Tasks { // stored by another version perhaps
		l.job.Tasks[i].Cancellable = !l.defs[t.Name].Whole
	}
	l.ctx, l.cancel = context.WithCancel(e.base)
	if l.cancelled {
		l.cancel()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lives[j.ID] != nil || e.base.Err() != nil {
		l.cancel()
		return nil
	}
	e.lives[j.ID] = l
	l.turn = e.turns.join(limits, rank) // before whoever gave way to it leaves
	e.tell()
	e.running.Go(l.run)
	return nil
}

// Reorder asks for the rank of an item's jobs again: they may go before others now, or
// after them.
func (e *Engine) Reorder(ctx context.Context, item homeward.ItemID) error {
	for _, l := range e.of(item) {
		rank, err := e.rank(ctx, l.look())
		if err != nil {
			return homeward.Wrap(err, "reorder jobs", "item "+string(item))
		}
		e.turns.move(l.turn, rank)
	}
	return nil
}

func (e *Engine) of(item homeward.ItemID) (some []*live) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.lives {
		if l.item == item {
			some = append(some, l)
		}
	}
	return some
}

// left forgets a job whose goroutine ends.
func (e *Engine) left(l *live) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.lives, l.id)
	close(l.gone)
	e.tell()
}

// tell wakes whoever waits for a change. The caller holds mu.
func (e *Engine) tell() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *Engine) live(id string) (*live, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lives[id], e.changed
}

func (e *Engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lives)
}

// Job is a job as it is now, progress included.
func (e *Engine) Job(ctx context.Context, id string) (vault.Job, error) {
	if l, _ := e.live(id); l != nil {
		return l.look(), nil
	}
	return e.store.Load(ctx, id)
}

// Live is what is newer than the stored form of a job; a job that does not run is
// answered as it was given.
func (e *Engine) Live(stored vault.Job) vault.Job {
	if l, _ := e.live(stored.ID); l != nil {
		return l.look()
	}
	return stored
}

// Wait returns when a job has ended, or waits for a person.
func (e *Engine) Wait(ctx context.Context, id string) (vault.Job, error) {
	for {
		l, changed := e.live(id)
		if l != nil {
			changed = l.gone
		} else {
			j, err := e.store.Load(ctx, id)
			if err != nil || j.State.Ended() || j.State == vault.JobPaused {
				return j, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return vault.Job{}, ctx.Err()
		case <-e.base.Done():
			return vault.Job{}, closed()
		}
	}
}
