package world

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// instance is a role that was opened.
type instance[R any] struct {
	role  R
	close func(ctx context.Context) error
}

// life keeps a role running, one process after the other, as a supervisor does.
type life[R any] struct {
	name string
	open func(p *Process) (instance[R], error)
	fail func(error) // told of what must not happen

	mu      sync.Mutex // guards what follows
	now     running[R] // the process that runs; p nil: none
	power   chan struct{}
	parked  chan struct{} // closed while no process runs, for want of power
	changed chan struct{}
	end     chan struct{}
	ended   sync.WaitGroup
}

func startLife[R any](name string, fail func(error), open func(*Process) (instance[R], error)) *life[R] {
	l := &life[R]{name: name, open: open, fail: fail, power: make(chan struct{}), parked: make(chan struct{}),
		changed: make(chan struct{}), end: make(chan struct{})}
	close(l.power)
	l.ended.Go(l.run)
	return l
}

// burial is how long the end of a process may take: longer is a hang.
const burial = 30 * time.Second

func (l *life[R]) run() {
	for l.waitForPower() {
		p := newProcess(l.name)
		i, err := l.open(p)
		if err != nil {
			if p.Alive() {
				l.fail(fmt.Errorf("start %s: %w", l.name, err))
			}
			select {
			case <-l.end:
				return
			case <-time.After(20 * time.Millisecond):
				continue
			}
		}
		l.set(running[R]{i.role, p})
		ended := false
		select {
		case <-p.died:
		case <-l.end:
			ended = true
		}
		l.set(running[R]{})
		ctx, cancel := context.WithTimeout(context.Background(), burial)
		if !ended {
			cancel() // a ghost has no time
		}
		done := make(chan error, 1)
		go func() { done <- i.close(ctx) }()
		select {
		case err = <-done:
		case <-time.After(burial):
			l.fail(fmt.Errorf("%s does not end", l.name))
			err = <-done
		}
		cancel()
		p.hangup.Wait()
		if ended {
			if err != nil && p.Alive() { // a fuse may have burnt down just now
				l.fail(fmt.Errorf("close %s: %w", l.name, err))
			}
			return
		}
	}
}

func (l *life[R]) set(r running[R]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = r
	close(l.changed)
	l.changed = make(chan struct{})
}

// waitForPower returns false when the world ends.
func (l *life[R]) waitForPower() bool {
	l.mu.Lock()
	power, parked := l.power, l.parked
	l.mu.Unlock()
	select {
	case <-l.end:
		return false
	case <-power:
		return true
	default:
	}
	close(parked)
	select {
	case <-l.end:
		return false
	case <-power:
		return true
	}
}

// current is the instance that runs.
func (l *life[R]) current() (running[R], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now.p == nil {
		return l.now, (&Process{name: l.name}).errDead()
	}
	return l.now, nil
}

// Process is the one the role runs in, nil while there is none.
func (l *life[R]) Process() *Process {
	r, _ := l.current()
	return r.p
}

// Await returns when a live instance runs.
func (l *life[R]) Await(ctx context.Context) (*Process, error) {
	for {
		l.mu.Lock()
		p, changed := l.now.p, l.changed
		l.mu.Unlock()
		if p != nil && p.Alive() {
			return p, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", l.name, ctx.Err())
		}
	}
}

// cutPower kills the process and lets no other start before restorePower. It
// returns when the ghost is gone.
func (l *life[R]) cutPower() {
	l.mu.Lock()
	l.power, l.parked = make(chan struct{}), make(chan struct{})
	parked := l.parked
	l.mu.Unlock()
	for {
		l.mu.Lock()
		p, changed := l.now.p, l.changed
		l.mu.Unlock()
		if p != nil {
			p.Kill()
		}
		select {
		case <-parked:
			return
		case <-changed: // one that was just starting may be up
		}
	}
}

func (l *life[R]) restorePower() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.power)
}

// stop closes the role as told to end.
func (l *life[R]) stop() {
	close(l.end)
	l.ended.Wait()
}
