package capture

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const gateShards = 16

// gate is what every write to any disk of the machine passes: it counts writes in
// flight so that a cut can hold new ones back and wait for the others. It is
// sharded; entering and leaving cost one uncontended mutex each and allocate
// nothing once the slots have grown to the most writes ever in flight.
type gate struct {
	shards [gateShards]gateShard
	once   sync.Mutex // one closer at a time: taken by close, given back by open
	idle   chan struct{}
}

type gateShard struct {
	mu     sync.Mutex
	closed chan struct{} // nil: open; closed when the gate opens again
	refuse error         // for good
	inside int
	slots  []slot
	free   []uint32
	_      [40]byte // keeps neighbours off one cache line
}

// slot is one write in flight.
type slot struct {
	disk         *disk
	start, count int64
	late         *late // set when a cut did not wait for it
}

// ticket is the right to submit one write. The maps and the cut are those of the
// epoch it was taken in.
type ticket struct {
	at  place
	cut *Cut
}

// place is where a write in flight is registered.
type place struct {
	shard *gateShard
	slot  uint32
}

func newGate() *gate { return &gate{idle: make(chan struct{}, 1)} }

// enter waits until the gate is open and marks the blocks in the active map: under
// the lock, so that no mark ever lands in a map that was frozen before it (I-1).
func (g *gate) enter(d *disk, start, count int64) (ticket, error) {
	s := &g.shards[uint64(start)*0x9E3779B97F4A7C15>>60]
	s.mu.Lock()
	for s.closed != nil || s.refuse != nil {
		if s.refuse != nil {
			err := s.refuse
			s.mu.Unlock()
			return ticket{}, err
		}
		reopened := s.closed
		s.mu.Unlock()
		<-reopened
		s.mu.Lock()
	}
	d.active.Load().set(start, count)
	t := ticket{at: place{shard: s}, cut: d.m.frozen.Load()}
	if n := len(s.free); n > 0 {
		t.at.slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		t.at.slot = uint32(len(s.slots))
		s.slots = append(s.slots, slot{})
	}
	s.slots[t.at.slot] = slot{disk: d, start: start, count: count}
	s.inside++
	s.mu.Unlock()
	return t, nil
}

// leave is called after the disk answered and before the guest is told.
func (g *gate) leave(t ticket) {
	s := t.at.shard
	s.mu.Lock()
	done := s.slots[t.at.slot]
	s.slots[t.at.slot] = slot{}
	s.free = append(s.free, t.at.slot)
	s.inside--
	drained := s.inside == 0 && s.closed != nil
	s.mu.Unlock()
	if done.late != nil {
		done.late.done(t.at)
	}
	if drained {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// close holds new writes back. It waits for another closer first.
func (g *gate) close() {
	g.once.Lock()
	reopened := make(chan struct{})
	select {
	case <-g.idle: // of an earlier time
	default:
	}
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		s.closed = reopened
		s.mu.Unlock()
	}
}

// drain waits until nothing is inside a closed gate: false at the deadline or at
// the end of ctx.
func (g *gate) drain(ctx context.Context, deadline <-chan time.Time) bool {
	for !g.empty() {
		select {
		case <-g.idle:
		case <-deadline:
			return g.empty()
		case <-ctx.Done():
			return g.empty()
		}
	}
	return true
}

func (g *gate) empty() bool {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		inside := s.inside
		s.mu.Unlock()
		if inside > 0 {
			return false
		}
	}
	return true
}

// overdue registers every write still inside a closed gate with l, and marks it in
// what is the active map by now: before its reply, because the reply waits for
// the lock of its shard.
func (g *gate) overdue(l *late) {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		for n := range s.slots {
			w := &s.slots[n]
			if w.disk == nil {
				continue
			}
			w.disk.active.Load().set(w.start, w.count)
			w.late = l
			l.add(place{shard: s, slot: uint32(n)}, *w)
		}
		s.mu.Unlock()
	}
}

// open lets writes in again; with refuse set they fail from now on, for good.
func (g *gate) open(refuse error) {
	var reopened chan struct{}
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		reopened, s.closed = s.closed, nil
		if refuse != nil {
			s.refuse = refuse
		}
		s.mu.Unlock()
	}
	close(reopened)
	g.once.Unlock()
}

// late are the writes a cut did not wait for: until they are through, nobody
// reads their blocks as frozen content (I-2).
type late struct {
	left    atomic.Int64
	mu      sync.Mutex
	writes  map[place]slot
	changed chan struct{} // closed at every end of one
}

func newLate() *late { return &late{writes: map[place]slot{}, changed: make(chan struct{})} }

func (l *late) add(at place, w slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes[at] = w
	l.left.Add(1)
}

func (l *late) done(at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.writes, at)
	l.left.Add(-1)
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait returns when no such write touches the blocks, or when over is closed.
func (l *late) wait(d *disk, start, count int64, over <-chan struct{}) {
	for l.left.Load() > 0 {
		l.mu.Lock()
		busy := false
		for _, w := range l.writes {
			busy = busy || w.disk == d && w.start < start+count && start < w.start+w.count
		}
		changed := l.changed
		l.mu.Unlock()
		if !busy {
			return
		}
		select {
		case <-changed:
		case <-over:
			return
		}
	}
}
