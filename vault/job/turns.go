package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Limit bounds how many jobs run at once that share a key: a target, a link, a host.
type Limit struct {
	Key string // as people read it: "master target mt1"
	Max int    // at least 1
	// Holds: what the job began already goes on whether it runs or not, so it counts and
	// does not wait.
	Holds bool
}

// turns lets jobs run as far as limits allow, by rank, and those of one rank in the
// order in which they came. One that has to wait for a key lets nobody behind it have
// a key of its own; so within a rank none starves.
type turns struct {
	all int // at once

	mu      sync.Mutex
	used    map[string]int
	running int
	came    uint64
	queue   []*waiter // by rank, then as they came
}

type waiter struct {
	limits []Limit
	rank   int // smaller goes first
	came   uint64
	ready  chan struct{}
}

func newTurns(all int) *turns { return &turns{all: all, used: map[string]int{}} }

// join queues up, and has its turn at once if there is one; take it in any case.
func (t *turns) join(limits []Limit, rank int) *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.came++
	w := &waiter{limits: limits, rank: rank, came: t.came, ready: make(chan struct{})}
	t.queue = append(t.queue, w)
	t.order()
	return w
}

// move gives one that waits another rank.
func (t *turns) move(w *waiter, rank int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.rank != rank {
		w.rank = rank
		t.order()
	}
}

// order sorts the queue and gives turns. t.mu is held.
func (t *turns) order() {
	slices.SortFunc(t.queue, func(a, b *waiter) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.came, b.came)) })
	t.admit()
}

// take waits for the turn, and tells once if it has to; release ends the turn.
func (t *turns) take(ctx context.Context, w *waiter, wait func(why string)) (release func(), err error) {
	select {
	case <-w.ready:
		return func() { t.release(w) }, nil
	default:
	}
	t.mu.Lock()
	why := t.lacking(w, nil)
	t.mu.Unlock()
	select {
	case <-w.ready:
		return func() { t.release(w) }, nil
	default:
	}
	if why == "" {
		why = "another job is ahead"
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
	kept := map[string]bool{} // for those ahead
	var waiting []*waiter
	for _, w := range t.queue {
		if t.lacking(w, kept) != "" {
			waiting = append(waiting, w)
			for _, l := range w.limits {
				kept[l.Key] = kept[l.Key] || !l.Holds
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
		if l.Holds {
			continue
		}
		if n := t.used[l.Key]; n >= max(l.Max, 1) {
			return fmt.Sprintf("%d of at most %d run at %s", n, max(l.Max, 1), l.Key)
		}
		if kept[l.Key] {
			return "another job is ahead for " + l.Key
		}
	}
	return ""
}
