package service

import (
	"context"
	"sync"

	"github.com/homeward-dr/homeward"
)

// ownership sees to it that one goroutine at a time works on an item's record. Who
// only waits there, as for the first recovery point, which may take days, can be
// interrupted by who has something to do, and goes on afterwards. The zero value is
// ready.
type ownership struct {
	mu    sync.Mutex
	items map[homeward.ItemID]*owned
}

// owned is an item that somebody owns, or wants to.
type owned struct {
	users     int                // who own it or wait
	busy      bool               // it has an owner
	interrupt context.CancelFunc // of an owner who may be interrupted
	urgent    int                // who wait and may not be kept waiting
	changed   chan struct{}      // closed and replaced when one of these changes
}

func (w *owned) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// claim waits until the item is free, and interrupts an owner who may be.
func (o *ownership) claim(ctx context.Context, id homeward.ItemID) (release func(), err error) {
	_, release, err = o.take(ctx, id, false)
	return release, err
}

// claimPatiently is claim by one who may be interrupted: the context it answers
// ends then.
func (o *ownership) claimPatiently(ctx context.Context, id homeward.ItemID) (context.Context, func(), error) {
	return o.take(ctx, id, true)
}

func (o *ownership) take(ctx context.Context, id homeward.ItemID, patient bool) (context.Context, func(), error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.enter(id)
	if !patient {
		w.urgent++
		defer func() { w.urgent--; w.change() }()
	}
	for w.busy || patient && w.urgent > 0 {
		if !patient && w.interrupt != nil {
			w.interrupt()
		}
		changed := w.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		o.mu.Lock()
		if ctx.Err() != nil {
			o.leave(id, w)
			return ctx, nil, ctx.Err()
		}
	}
	owner, cancel := ctx, context.CancelFunc(func() {})
	if patient {
		owner, cancel = context.WithCancel(ctx)
		w.interrupt = cancel
	}
	w.busy = true
	return owner, func() { cancel(); o.release(id, w) }, nil
}

func (o *ownership) release(id homeward.ItemID, w *owned) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.busy, w.interrupt = false, nil
	w.change()
	o.leave(id, w)
}

// tryClaim is claimPatiently of an item that nobody owns or waits for: who has
// something to do with it ends the context that it answers.
func (o *ownership) tryClaim(ctx context.Context, id homeward.ItemID) (owner context.Context, release func(), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.items[id] != nil {
		return ctx, nil, false
	}
	w := o.enter(id)
	owner, cancel := context.WithCancel(ctx)
	w.busy, w.interrupt = true, cancel
	return owner, func() { cancel(); o.release(id, w) }, true
}

func (o *ownership) enter(id homeward.ItemID) *owned {
	if o.items == nil {
		o.items = map[homeward.ItemID]*owned{}
	}
	if o.items[id] == nil {
		o.items[id] = &owned{changed: make(chan struct{})}
	}
	o.items[id].users++
	return o.items[id]
}

func (o *ownership) leave(id homeward.ItemID, w *owned) {
	if w.users--; w.users == 0 {
		delete(o.items, id)
	}
}
