package processserver

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

// burst is what an idle bucket saves up: so much time's worth of bytes.
const burst = 100 * time.Millisecond

// bucket spreads bytes over time. It has no clock of its own. Safe for
// concurrent use.
type bucket struct {
	mu   sync.Mutex
	paid time.Time // up to when what was taken is paid for
}

// take takes n bytes at the time now, under a cap of rate bytes a second, and
// returns how long it is until they are paid for. Who takes more waits longer, in
// the order of taking. rate 0: no wait.
func (b *bucket) take(now time.Time, n int, rate int64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rate <= 0 {
		b.paid = now
		return 0
	}
	if oldest := now.Add(-burst); b.paid.Before(oldest) {
		b.paid = oldest
	}
	b.paid = b.paid.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return max(0, b.paid.Sub(now))
}

// lane is a way with a cap: each time that what went is paid for, who waits goes next by
// weight. Safe for concurrent use.
type lane struct {
	queue  *fair
	bucket bucket
}

func newLane() *lane { return &lane{queue: newFair(1)} }

// pass waits until n bytes of a route may go under a cap; 0: nobody waits.
func (l *lane) pass(ctx context.Context, of *route, n int, weight float64, rate int64) error {
	now := of.server.cfg.Now
	if rate <= 0 {
		l.bucket.take(now(), n, 0)
		return nil
	}
	leave, err := l.queue.acquire(ctx, of, 1, float64(n)/weight)
	if err != nil {
		return err
	}
	// Who goes now is back with its next bytes, and compared with the others, by the time
	// these are paid for.
	if d := l.bucket.take(now(), n, rate); d > 0 {
		time.AfterFunc(d, leave)
	} else {
		leave()
	}
	return nil
}

// pacer lets the bytes of one send go, by the caps and the weight of the moment. One
// user.
type pacer struct {
	route *route
	entry *entry
	up    *uplink

	weight    float64 // as of the newest chunk, as are the caps
	mine, all int64   // of the way to the target, and of all ways together; 0: none
}

// chunk is how many bytes are handed on at once: a fraction of a second of the cap, and
// of a light route a fraction of that. It comes as often as a heavy one, with less.
func (p *pacer) chunk() int {
	p.weight = p.route.weightOf(p.entry)
	p.mine, p.all = p.route.server.caps(p.up)
	return chunkFor(tighter(p.mine, p.all), p.weight)
}

func chunkFor(limit int64, weight float64) int {
	if limit <= 0 {
		return maxChunk
	}
	return int(min(max(float64(limit)/20*weight/homeward.MaxWeight, 1<<10), maxChunk))
}

const maxChunk = 64 << 10

// pass waits until n bytes of the chunk may go.
func (p *pacer) pass(ctx context.Context, n int) error {
	err := p.route.server.all.pass(ctx, p.route, n, p.weight, p.all)
	if err == nil {
		err = p.up.lane.pass(ctx, p.route, n, p.weight, p.mine)
	}
	return err
}

// went takes in that n bytes went: the next turn of the route for a slot is the later.
func (p *pacer) went(n int) {
	p.up.slots.charge(p.route, float64(n)/p.weight)
	p.route.server.sends.charge(p.route, float64(n)/p.weight)
	p.route.mu.Lock()
	defer p.route.mu.Unlock()
	p.route.wire += int64(n)
}

// tighter is the smaller of two caps, of which 0 is none.
func tighter(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// weightOf is what an entry's bytes weigh now. Those that go on with a larger set (a
// first copy, a resync, what piled up in an outage) weigh less than what soon closes a
// recovery point of another item.
func (r *route) weightOf(e *entry) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := float64(cmp.Or(r.record.Weight, homeward.DefaultWeight))
	if e.bulk {
		return w / bulkDiscount
	}
	return w
}

const bulkDiscount = 4
