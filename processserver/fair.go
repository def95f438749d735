package processserver

import (
	"context"
	"slices"
	"sync"

	"github.com/homeward-dr/homeward"
)

// fair gives out a number of permits in the order of start-time fair queueing
// (Goyal, Vin and Cheng, 1996): routes that always wait for one get service in
// proportion to their weights, and what one does not use goes to the others.
//
// Each route has a tag, which rises by what it was served divided by its weight. Who
// waits with the lowest tag goes next. Whoever was idle begins, but for a lag, at the
// tag of the turn that was given last: nothing is saved up, and no one pays for an hour
// in which nobody else wanted anything. The lag is for who only fetches its next bytes,
// and is not idle. Nobody starves: between two turns of a route each other one is served
// at most what its weight is to that route's, and one turn more; one that was idle, for
// the lag besides.
//
// It has no clock. It remembers a tag for each route that ever came. Safe for
// concurrent use.
type fair struct {
	mu      sync.Mutex
	free    int
	virtual float64            // the tag of the turn that was given last
	tags    map[*route]float64 // where the next turn of a route begins
	waiting []*turn            // as they came
}

// turn is a route's place in the queue, or its permits.
type turn struct {
	of      *route
	permits int
	start   float64
	ready   chan struct{} // closed when it has its permits
}

// lag is two chunks of an item, whatever it weighs: chunks are as large as weights.
const lag = 2 * maxChunk / homeward.MaxWeight

func newFair(permits int) *fair { return &fair{free: permits, tags: map[*route]float64{}} }

// acquire waits for permits (at most as many as there are) and charges the route a
// cost, which is its service divided by its weight. release gives the permits back.
func (f *fair) acquire(ctx context.Context, of *route, permits int, cost float64) (release func(), err error) {
	t := f.join(of, permits, cost)
	select {
	case <-t.ready:
	case <-ctx.Done():
		f.forgo(t)
		return nil, context.Cause(ctx)
	}
	return func() { f.leave(t) }, nil
}

// join queues up; the turn is ready at once if nobody is before it.
func (f *fair) join(of *route, permits int, cost float64) *turn {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &turn{of: of, permits: permits, start: max(f.virtual-lag, f.tags[of]), ready: make(chan struct{})}
	f.tags[of] = t.start + cost
	f.waiting = append(f.waiting, t)
	f.admit()
	return t
}

// charge makes a route pay for service whose size was not known before.
func (f *fair) charge(of *route, cost float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tags[of] += cost
}

func (f *fair) leave(t *turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free += t.permits
	f.admit()
}

// forgo gives up a turn, whether it has come or not.
func (f *fair) forgo(t *turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.waiting, t); i >= 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
	} else {
		f.free += t.permits
	}
	f.admit()
}

// admit gives turns. Who needs more permits than are free keeps those behind it from
// taking them. f.mu is held.
func (f *fair) admit() {
	for len(f.waiting) > 0 {
		next := 0
		for i, t := range f.waiting {
			if t.start < f.waiting[next].start {
				next = i
			}
		}
		t := f.waiting[next]
		if t.permits > f.free {
			return
		}
		f.waiting = slices.Delete(f.waiting, next, next+1)
		f.free -= t.permits
		f.virtual = max(f.virtual, t.start)
		close(t.ready)
	}
}
