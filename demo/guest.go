package demo

import (
	"context"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/site/local"
	"github.com/homeward-dr/homeward/site/local/records"
)

// listener follows a machine's console: what it found when it started and which
// records it was told are durable, with the time each line arrived.
type listener struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every line
	found   *records.Found
	readyAt time.Time
	acked   uint64
	ackedAt time.Time
	history []ack // newest last, bounded
	faults  []string
}

type ack struct {
	seq uint64
	at  time.Time
}

const maxHistory = 200_000

// listen follows a console from where it is now.
func listen(ctx context.Context, console string, from int64) *listener {
	ctx, cancel := context.WithCancel(ctx)
	l := &listener{cancel: cancel, changed: make(chan struct{})}
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		_, err := local.Follow(ctx, console, from, func(line string) bool { l.line(line); return false })
		if err != nil && ctx.Err() == nil {
			l.mu.Lock()
			l.faults = append(l.faults, err.Error())
			l.mu.Unlock()
		}
	}()
	return l
}

func (l *listener) line(s string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok := records.ParseAck(s); ok {
		l.acked, l.ackedAt = n, now
		l.history = append(l.history, ack{n, now})
		if len(l.history) > maxHistory {
			l.history = l.history[maxHistory/2:]
		}
		if l.readyAt.IsZero() {
			l.readyAt = now
		}
	} else if f, ok := records.ParseVerify(s); ok {
		l.found = &f
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// until waits for a condition on what was heard.
func (l *listener) until(ctx context.Context, what string, ok func(*listener) bool) error {
	for {
		l.mu.Lock()
		done, changed := ok(l), l.changed
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return homeward.Errorf("wait for guest", homeward.Timeout, what, "read the guest's console", "%w", ctx.Err())
		}
	}
}

// running waits until the guest has verified its disks and made a record durable.
func (l *listener) running(ctx context.Context) (records.Found, error) {
	err := l.until(ctx, "its first durable record", func(l *listener) bool { return l.found != nil && !l.readyAt.IsZero() })
	if err != nil {
		return records.Found{}, err
	}
	return *l.found, nil
}

// last is the newest record announced, and since when.
func (l *listener) last() (uint64, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.ackedAt
}

// since is how long before t the first record after seq was announced: the age of
// what a recovery up to seq lost. Zero: nothing was announced after it.
func (l *listener) since(seq uint64, t time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.history {
		if a.seq > seq {
			return t.Sub(a.at)
		}
	}
	return 0
}

func (l *listener) stop() {
	l.cancel()
	l.done.Wait()
}
