package agent

import (
	"context"
	"sync"
	"time"
)

// turn is the right to cut: one cut of a machine is frozen at a time, so the
// next may be made when the one before is spooled. A hold takes the turn before
// it stops the guest, so that the cut it is for is possible at once; such a lease
// ends by itself. Safe for concurrent use.
type turn struct {
	mu     sync.Mutex
	holder *lease
	freed  chan struct{} // closed when holder leaves
}

// lease is a turn taken.
type lease struct {
	until time.Time // guarded by the turn's mutex; zero: until given back
}

// take waits for the turn. A zero until keeps it until it is given back.
func (t *turn) take(ctx context.Context, until time.Time) (*lease, error) {
	for {
		l, freed, expiry := t.try(until)
		if l != nil {
			return l, nil
		}
		if err := await(ctx, freed, expiry); err != nil {
			return nil, err
		}
	}
}

// await waits for freed, for expiry unless it is zero, or for the end of ctx.
func await(ctx context.Context, freed <-chan struct{}, expiry time.Time) error {
	var late <-chan time.Time
	if !expiry.IsZero() {
		t := time.NewTimer(time.Until(expiry))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-freed:
		return nil
	case <-late:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) try(until time.Time) (mine *lease, freed <-chan struct{}, expiry time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.holder; h != nil && (h.until.IsZero() || time.Now().Before(h.until)) {
		return nil, t.freed, h.until
	}
	t.holder, t.freed = &lease{until: until}, make(chan struct{})
	return t.holder, nil, time.Time{}
}

// keep makes l last until it is given back; false: it ended already.
func (t *turn) keep(l *lease) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holder != l || !l.until.IsZero() && !time.Now().Before(l.until) {
		return false
	}
	l.until = time.Time{}
	return true
}

// give returns the turn; one that is not l's any more is left alone.
func (t *turn) give(l *lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holder == l && l != nil {
		t.holder = nil
		close(t.freed)
	}
}
