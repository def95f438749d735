package job

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Limit bounds how many jobs run at once that share a key: a target, a link, a host.
type Limit struct {
	Key string // as people read it: "master target mt1"
	Max int    // at least 1
}

// turns lets jobs run as far as limits allow, in the order in which they came. One
// that has to wait for a key lets nobody who came later have a key of its own; so
// none starves.
type turns struct {
	all int // at once

	mu      sync.Mutex
	used    map[string]int
	running int
	queue   []*waiter
}

type waiter struct {
	limits []Limit
	ready  chan struct{}
}

func newTurns(all int) *turns { return &turns{all: all, used: map[string]int{}} }

// take waits for a turn, and tells once if it has to; release ends the turn.
func (t *turns) take(ctx context.Context, limits []Limit, wait func(why string)) (release func(), err error) {
	w := &waiter{limits: limits, ready: make(chan struct{})}
	t.mu.Lock()
	t.queue = append(t.queue, w)
	t.admit()
	why := t.lacking(w, nil)
	t.mu.Unlock()
	select {
	case <-w.ready:
		return func() { t.release(w) }, nil
	default:
	}
	if why == "" {
		why = "another job came first"
	}
	wait("waits for its turn: " + why)
	select {
	case <-w.ready:
		return func() { t.release(w) }, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(t.queue, w)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
		t.admit()
	}
	t.mu.Unlock()
	if i < 0 { // the turn came at the same moment
		t.release(w)
	}
	return nil, ctx.Err()
}

func (t *turns) release(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	for _, l := range w.limits {
		if t.used[l.Key]--; t.used[l.Key] == 0 {
			delete(t.used, l.Key)
		}
	}
	t.admit()
}

// admit gives turns to whoever may have one.
func (t *turns) admit() {
	kept := map[string]bool{} // for those who came earlier
	var waiting []*waiter
	for _, w := range t.queue {
		if t.lacking(w, kept) != "" {
			waiting = append(waiting, w)
			for _, l := range w.limits {
				kept[l.Key] = true
			}
			continue
		}
		t.running++
		for _, l := range w.limits {
			t.used[l.Key]++
		}
		close(w.ready)
	}
	t.queue = waiting
}

// lacking says what a waiter has to wait for; empty: nothing.
func (t *turns) lacking(w *waiter, kept map[string]bool) string {
	if t.running >= t.all {
		return fmt.Sprintf("%d jobs run, the most there may be", t.running)
	}
	for _, l := range w.limits {
		if n := t.used[l.Key]; n >= max(l.Max, 1) {
			return fmt.Sprintf("%d of at most %d run at %s", n, max(l.Max, 1), l.Key)
		}
		if kept[l.Key] {
			return "another job came first for " + l.Key
		}
	}
	return ""
}
