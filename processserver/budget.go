package processserver

import (
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

// budget divides the bytes of the spool among the routes.
//
// The rule: every route has a share, stated or an equal part of what the stated
// ones leave. While the spool has room, a route may use more than its share. When
// it has none, a route that is within its share takes the room back from those
// that are over theirs, whoever is over most first: partials that nobody was told
// of before anything acknowledged, newest first. A route over its share waits.
//
// What was acknowledged as spooled and is taken back costs its agent a new cut;
// Standing says so at once.
type budget struct {
	limit int64

	mu     sync.Mutex
	used   map[*route]int64
	stated map[*route]int64 // shares; 0: an equal part
	total  int64
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, used: map[*route]int64{}, stated: map[*route]int64{}}
}

// enter gives a route a share; 0: an equal part.
func (b *budget) enter(r *route, share int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stated[r] = share
}

// leave takes the share away; what the route uses stays counted until given back.
func (b *budget) leave(r *route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.stated, r)
}

// share is what r may always use. b.mu is held.
func (b *budget) share(r *route) int64 {
	stated, ok := b.stated[r]
	if !ok || stated > 0 {
		return stated
	}
	left, parts := b.limit, int64(0)
	for _, s := range b.stated {
		left -= s
		if s == 0 {
			parts++
		}
	}
	return max(0, left/parts)
}

// add counts n more bytes for r whatever the bound: they are there already.
func (b *budget) add(r *route, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used[r] += n
	b.total += n
}

// give gives n bytes back.
func (b *budget) give(r *route, n int64) {
	b.add(r, -n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used[r] == 0 {
		delete(b.used, r)
	}
}

func (b *budget) shareOf(r *route) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.share(r)
}

func (b *budget) usedBy(r *route) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used[r]
}

// room refuses a delta that will not fit as things are, as far as its body tells
// how long it is.
func (b *budget) room(r *route, body io.Reader) error {
	n := int64(1)
	if l, ok := body.(interface{ Len() int }); ok {
		n = max(n, int64(l.Len()))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.total+n <= b.limit || b.used[r]+n <= b.share(r) {
		return nil
	}
	return full(r)
}

func full(r *route) error {
	return homeward.Errorf("spool delta", homeward.Busy, "item "+string(r.item),
		"wait for the link to the target, or give the process server a larger spool",
		"its share of the spool is full: %w", &wire.RetryError{After: 2 * time.Second})
}

// take takes n bytes for r, or errs with Busy. The caller holds no route's lock.
func (b *budget) take(r *route, n int64) error {
	for {
		if b.fits(r, n) {
			return nil
		}
		over := b.borrowers(r, n)
		if len(over) == 0 {
			return full(r)
		}
		if !slices.ContainsFunc(over, (*route).evictPartial) && !slices.ContainsFunc(over, (*route).evictNewest) {
			return homeward.Errorf("spool delta", homeward.Busy, "item "+string(r.item), "retry",
				"the spool is full of deltas that are being acknowledged: %w", &wire.RetryError{After: time.Second})
		}
	}
}

func (b *budget) fits(r *route, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.total+n > b.limit {
		return false
	}
	b.used[r] += n
	b.total += n
	return true
}

// borrowers are the routes over their share, most first, when r would be within
// its own with n more bytes; else none.
func (b *budget) borrowers(r *route, n int64) []*route {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used[r]+n > b.share(r) {
		return nil
	}
	excess := map[*route]int64{}
	for o, used := range b.used {
		if more := used - b.share(o); o != r && more > 0 {
			excess[o] = more
		}
	}
	return slices.SortedFunc(maps.Keys(excess), func(x, y *route) int { return int(excess[y] - excess[x]) })
}
