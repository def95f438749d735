package lab

import (
	"context"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/site/local"
	"github.com/homeward-dr/homeward/site/local/records"
)

// Console follows what a machine says: what it found when it started and which
// records it was told are durable, with the time each line arrived. Methods may be
// called concurrently.
type Console struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every line
	found   *records.Found
	readyAt time.Time
	acked   uint64
	history []ack // newest last, bounded
	other   []string
}

type ack struct {
	seq uint64
	at  time.Time
}

const (
	maxHistory = 200_000
	maxOther   = 200 // lines that are no records
)

// Listen follows a console file from an offset on, until Stop; the end of ctx does
// not end it, for a guest outlives the step that boots it.
func Listen(ctx context.Context, console string, from int64) *Console {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &Console{cancel: cancel, changed: make(chan struct{})}
	c.done.Go(func() {
		_, err := local.Follow(ctx, console, from, func(line string) bool { c.line(line); return false })
		if err != nil && ctx.Err() == nil {
			c.line("console cannot be read: " + err.Error())
		}
	})
	return c
}

func (c *Console) line(s string) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := records.ParseAck(s); ok {
		c.acked = n
		c.history = append(c.history, ack{n, now})
		if len(c.history) > maxHistory {
			c.history = c.history[maxHistory/2:]
		}
		if c.readyAt.IsZero() {
			c.readyAt = now
		}
	} else if f, ok := records.ParseVerify(s); ok {
		c.found = &f
	} else if len(c.other) < maxOther {
		c.other = append(c.other, s)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// until waits for a condition on what was heard.
func (c *Console) until(ctx context.Context, what string, ok func(*Console) bool) error {
	for {
		c.mu.Lock()
		done, changed := ok(c), c.changed
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return homeward.Errorf("wait for guest", homeward.KindOf(ctx.Err()), what, "read the guest's console", "%w", ctx.Err())
		}
	}
}

// Running waits until the guest has verified its disks and made a record durable.
func (c *Console) Running(ctx context.Context) (records.Found, error) {
	err := c.until(ctx, "its first durable record", func(c *Console) bool { return c.found != nil && !c.readyAt.IsZero() })
	if err != nil {
		return records.Found{}, err
	}
	return *c.found, nil
}

// Until waits until record seq has been announced as durable.
func (c *Console) Until(ctx context.Context, seq uint64) error {
	return c.until(ctx, "more records", func(c *Console) bool { return c.acked >= seq })
}

// Last is the newest record announced.
func (c *Console) Last() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

// Since is how long before t the first record after seq was announced: the age of
// what a recovery up to seq lost. Zero: nothing was announced after it.
func (c *Console) Since(seq uint64, t time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.history {
		if a.seq > seq {
			return t.Sub(a.at)
		}
	}
	return 0
}

// AckedBy is the newest record that had been announced at t.
func (c *Console) AckedBy(t time.Time) (seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.history {
		if a.at.After(t) {
			break
		}
		seq = a.seq
	}
	return seq
}

// Pause is the longest time between two records announced since t.
func (c *Console) Pause(t time.Time) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.history); i++ {
		if a := c.history[i]; a.at.After(t) {
			longest = max(longest, a.at.Sub(c.history[i-1].at))
		}
	}
	return longest
}

// Other are the first lines that announced no record.
func (c *Console) Other() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.other...)
}

// Stop ends following.
func (c *Console) Stop() {
	c.cancel()
	c.done.Wait()
}
