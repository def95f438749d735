package mastertarget

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// item is one replicated item at this master target.
type item struct {
	*env
	id homeward.ItemID
	place
	away  error // its volume is not there: nothing but the fence is usable; never changes
	fence *fence
	pins  *pins

	// turn is held by whoever moves the replica, its position or its state: apply,
	// Prepare, FailOver and the rest. thinning is held while segments are merged;
	// who drops the newest segments takes it too, after turn (see quiet).
	turn     chan struct{}
	thinning sync.Mutex

	// saving serialises changes of the record file.
	saving sync.Mutex

	mu      sync.Mutex // guards what follows; never held during I/O
	rec     record     // zero State: never prepared, or forgotten
	tip     tip
	replica *replica // nil: not open
	fault   error    // why the replica must be reopened before anything is applied
	paused  error    // why the last delta could not be applied, though nothing is broken
	changed chan struct{}
	views   map[string]*view
	alarms  map[string]time.Time // since when, by code
	promo   *promotion
	moved   progress           // of a roll-back
	hasten  context.CancelFunc // ends the merge that is running
	left    bool               // another item has taken its place, on another volume
}

func newItem(e *env, id homeward.ItemID, at place) *item {
	return &item{
		env: e, id: id, place: at, pins: &pins{},
		turn: make(chan struct{}, 1), changed: make(chan struct{}),
		views: map[string]*view{}, alarms: map[string]time.Time{},
	}
}

func (it *item) path(name string) string { return filepath.Join(it.dir, name) }

// isAway tells that the item's volume is not there, so that nothing of it can be read.
func (it *item) isAway() bool { return it.away != nil }

// free is the free bytes of the item's volume.
func (it *item) free() (int64, error) { return it.Free(it.on) }

func (it *item) subject() string { return "item " + string(it.id) }

// take waits for the turn; give must follow.
func (it *item) take(ctx context.Context, op string) error {
	select {
	case it.turn <- struct{}{}:
		it.mu.Lock()
		defer it.mu.Unlock()
		if it.left {
			it.give()
			return errMoved(op, it.id)
		}
		return nil
	case <-ctx.Done():
		return homeward.Errorf(op, homeward.KindOf(ctx.Err()), it.subject(), "try again",
			"something else is being done with the item: %w", ctx.Err())
	}
}

func (it *item) give() { <-it.turn }

// quiet ends a merge that is running and keeps new ones from beginning until
// it.thinning is unlocked.
func (it *item) quiet() {
	it.mu.Lock()
	hasten := it.hasten
	it.mu.Unlock()
	if hasten != nil {
		hasten()
	}
	it.thinning.Lock()
}

// holds reports whether a boundary must stay in the chain, for now.
func (it *item) holds(boundary uint64) bool {
	st := it.state()
	return st.FailOver != nil && st.FailOver.Tip.Boundary == boundary || len(it.pins.on(boundary)) > 0
}

// change runs do with mu held and wakes whoever waits for a change.
func (it *item) change(do func()) {
	it.mu.Lock()
	defer it.mu.Unlock()
	do()
	close(it.changed)
	it.changed = make(chan struct{})
}

// state is what most calls look at first.
type state struct {
	record
	tip     tip
	replica *replica
	fault   error
	paused  error
	changed <-chan struct{}
}

func (it *item) state() state {
	it.mu.Lock()
	defer it.mu.Unlock()
	return state{it.rec, it.tip, it.replica, it.fault, it.paused, it.changed}
}

// update changes the record, durably first.
func (it *item) update(op string, do func(*record)) error {
	it.saving.Lock()
	defer it.saving.Unlock()
	next := it.state().record
	do(&next)
	if err := durable.WriteJSON(it.FS, it.path("item"), next); err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	it.change(func() { it.rec = next })
	return nil
}

// fail puts the item into the state in which nothing is applied before it is
// reopened: what the disks hold is not known, only that the chain can mend it.
func (it *item) fail(op string, err error) error {
	err = homeward.Errorf(op, homeward.KindOf(err), it.subject(),
		"mend or replace the medium, then prepare the item again as before, or restart the master target",
		"stopped, because the replica may hold half a step: %w", err)
	it.change(func() { it.fault = err })
	return err
}

// open returns the open replica.
func (it *item) open(op string) (state, error) {
	st := it.state()
	switch {
	case st.State == "" && st.fault == nil:
		return st, it.unknown(op)
	case st.replica == nil && st.fault == nil:
		return st, homeward.Errorf(op, homeward.Unavailable, it.subject(), "open it again", "the master target is closed")
	case st.replica == nil:
		return st, homeward.Errorf(op, homeward.KindOf(st.fault), it.subject(),
			"mend what it names, then prepare the item again as before, or restart the master target",
			"the replica is not open: %w", st.fault)
	}
	return st, nil
}

func (it *item) unknown(op string) error {
	return homeward.Errorf(op, homeward.NotFound, it.subject(), "prepare it first", "no such item here")
}
