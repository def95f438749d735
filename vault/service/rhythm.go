package service

import (
	"context"
	"sync"
	"time"
)

// Rhythm is how often the vault looks. Zero: the defaults.
type Rhythm struct {
	Inventory time.Duration // a site's inventory, and at once when it connects or is lost; 30 s
	Monitor   time.Duration // an item's nodes; 2 s, less often with many items
	Readiness time.Duration // the standing scores; 30 s
	Expiry    time.Duration // test failovers that have run out, disks that may go; 10 s
}

func (r Rhythm) withDefaults() Rhythm {
	for _, d := range []struct {
		at   *time.Duration
		then time.Duration
	}{{&r.Inventory, 30 * time.Second}, {&r.Monitor, 2 * time.Second}, {&r.Readiness, 30 * time.Second}, {&r.Expiry, 10 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.then
		}
	}
	return r
}

// every does something at once and then in an interval, until ctx ends. What goes
// wrong is told to trouble, and is tried again the next time.
func every(ctx context.Context, interval time.Duration, trouble func(error), do func(context.Context) error) {
	everyOr(ctx, interval, nil, trouble, do)
}

// everyOr is every, and also at once when somebody wakes it.
func everyOr(ctx context.Context, interval time.Duration, woken bell, trouble func(error), do func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			trouble(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-woken:
		}
	}
}

// bell wakes who waits at it; rung while nobody does, it wakes the next one, once.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// locks are mutexes by name; the zero value is ready.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// hold waits for a lock, or for the end of ctx.
func (l *locks) hold(ctx context.Context, name string) (release func(), err error) {
	for {
		l.mu.Lock()
		if l.held == nil {
			l.held = map[string]chan struct{}{}
		}
		busy := l.held[name]
		if busy == nil {
			free := make(chan struct{})
			l.held[name] = free
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.held, name)
				close(free)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
