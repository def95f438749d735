package processserver

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/ship"
)

// record is what a route is, as kept on disk.
type record struct {
	Item        homeward.ItemID     `json:"item"`
	Generation  homeward.Generation `json:"generation"`
	Target      string              `json:"target,omitempty"` // empty: not routed; the generation is remembered
	Agent       string              `json:"agent,omitempty"`  // the only sender of deltas; empty: any
	Compression string              `json:"compression,omitempty"`
	Share       int64               `json:"share,omitempty"`
	Weight      int                 `json:"weight,omitempty"`      // 0: homeward.DefaultWeight
	PlainBytes  int64               `json:"plain_bytes,omitempty"` // as of the last change or orderly end
	WireBytes   int64               `json:"wire_bytes,omitempty"`
}

// route is one item: its queue of spooled deltas and how far the target is.
//
// Invariant: the queue is a chain, each delta following the one before it; its
// durable entries come first, as files; everything before it is applied.
type route struct {
	server   *Server
	item     homeward.ItemID
	line     *ship.Line
	receives *semaphore.Weighted

	mu       sync.Mutex // guards what follows; budget and line may be called under it
	record   record
	up       *uplink
	queue    []*entry
	applied  homeward.Position // as the target last said
	known    bool              // it has said so since the route was opened or changed
	applyAt  time.Time         // mark time of the newest applied bootable mark
	asked    time.Time         // when it was last asked or answered by itself
	news     int               // counts answers of the target
	asking   bool
	open     bool      // the newest delta that came in leaves its set open
	fault    error     // of the last send or question; nil when it went well
	faults   int       // in a row
	faulty   time.Time // since when
	retryAt  time.Time
	removals int   // of files of applied deltas
	settled  int   // of them durable
	plain    int64 // of deltas applied, as received
	wire     int64
	changed  chan struct{} // closed and replaced at every change
}

func newRoute(s *Server, rec record) *route {
	r := &route{server: s, item: rec.Item, receives: semaphore.NewWeighted(maxOfItem), record: rec,
		plain: rec.PlainBytes, wire: rec.WireBytes, changed: make(chan struct{})}
	r.line = ship.NewLine(rec.Item, s.cfg.Patience)
	return r
}

func (r *route) dir() string  { return filepath.Join(r.server.cfg.Dir, "items", string(r.item)) }
func (r *route) file() string { return filepath.Join(r.dir(), "route.json") }

// store makes rec durable and, when that went well, the route's record. r.mu is held.
func (r *route) store(rec record) error {
	rec.PlainBytes, rec.WireBytes = r.plain, r.wire
	if err := durable.WriteJSON(r.server.cfg.FS, r.file(), rec); err != nil {
		return homeward.Wrap(err, "store route", "item "+string(r.item))
	}
	r.record = rec
	return nil
}

// notify wakes whoever waits for a change. r.mu is held.
func (r *route) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// raise puts a newer generation in force, durably. r.mu is held.
func (r *route) raise(g homeward.Generation) error {
	if r.record.Generation.Fences(g) {
		return ship.FencedBy(r.item, r.record.Generation)
	}
	if g == r.record.Generation {
		return nil
	}
	rec := r.record
	rec.Generation = g
	if err := r.store(rec); err != nil {
		return err
	}
	r.supersede(g)
	return nil
}

// supersede drops all that is of another generation than g, which the record has
// now. r.mu is held.
func (r *route) supersede(g homeward.Generation) {
	if err := r.line.Fence(g); err != nil { // the line never knows a newer one than the record
		r.server.cfg.Log.Error("generations disagree", "item", r.item, "error", err)
	}
	r.dropFrom(0, ship.FencedBy(r.item, g))
	r.open = false
	r.forgetTarget()
}

// forgetTarget makes the target be asked again where it stands. r.mu is held.
func (r *route) forgetTarget() {
	r.known, r.applied, r.asked = false, homeward.Position{}, time.Time{}
	r.fault, r.faults, r.retryAt = nil, 0, time.Time{}
	r.restLine()
	r.notify()
}

// restLine lets the line stand where the queue ends. r.mu is held.
func (r *route) restLine() {
	for i := len(r.queue) - 1; i >= 0; i-- {
		if !r.queue[i].position.IsZero() {
			r.line.Reset(r.queue[i].position, true)
			return
		}
	}
	if len(r.queue) > 0 {
		r.line.Reset(r.queue[0].follows, true)
		return
	}
	r.line.Reset(r.applied, r.known && r.applied.Generation == r.record.Generation)
}

// remove takes entry i out of the queue: applied, or else because of err. r.mu is held.
func (r *route) remove(i int, applied bool, err error) {
	e := r.queue[i]
	r.queue = append(r.queue[:i:i], r.queue[i+1:]...)
	e.gone, e.applied, e.err = true, applied, err
	if e.cancel != nil && !applied {
		e.cancel()
	}
	if applied && len(r.queue) == 0 {
		r.settleRemovals()
	}
	if e.durable {
		r.discard(e, applied)
	}
	r.server.budget.give(r, e.size)
	r.notify()
}

// discard removes the file of an entry. One that was given up must stay away, for
// another chain takes its place. The removal of one that was applied is not made
// durable at once: if a crash undoes it, what is newest in the spool still tells
// where the queue ended, or the target knows the delta.
func (r *route) discard(e *entry, applied bool) {
	var err error
	if applied {
		err = r.server.cfg.FS.Remove(e.path)
		r.removals++
	} else {
		err = durable.Remove(r.server.cfg.FS, e.path)
	}
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		r.server.cfg.Log.Warn("cannot remove a spooled delta", "item", r.item, "file", e.path, "error", err)
	}
}

// settleRemovals makes removals durable before the last file of a queue goes:
// else a crash could bring back an older one alone, as if it were the newest.
func (r *route) settleRemovals() {
	if r.removals == r.settled {
		return
	}
	if err := r.server.cfg.FS.SyncDir(r.dir()); err != nil {
		r.server.cfg.Log.Warn("cannot make removals from the spool durable", "item", r.item, "error", err)
		return
	}
	r.settled = r.removals
}

// dropFrom gives up the entries from i on, newest first. r.mu is held.
func (r *route) dropFrom(i int, err error) {
	for len(r.queue) > i {
		r.remove(len(r.queue)-1, false, err)
	}
}

// observe takes in that the target stands at p: what leads there is applied.
// That it fits the queue was checked. r.mu is held.
func (r *route) observe(p homeward.Position, at time.Time) {
	r.news++
	r.asked = r.server.cfg.Now()
	r.applied, r.known = p, true
	last := -1
	for i, e := range r.queue {
		if e.position == p {
			last = i
		}
	}
	for ; last >= 0; last-- {
		e := r.queue[0]
		r.plain += e.size
		if e.mark.Kind.Bootable() {
			at = e.mark.At
		}
		r.remove(0, true, nil)
	}
	if at.After(r.applyAt) {
		r.applyAt = at
	}
	_, tip, known := r.line.Where()
	if len(r.queue) == 0 && (!known || tip != p) && p.Generation == r.record.Generation {
		r.line.Reset(p, true)
	}
	r.notify()
}

// evictPartial gives up the newest entry if nobody was told of it.
func (r *route) evictPartial() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.queue); n > 0 && !r.queue[n-1].durable {
		r.evictLast()
		return true
	}
	return false
}

// evictNewest gives up the newest entry.
func (r *route) evictNewest() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return false
	}
	r.evictLast()
	return true
}

func (r *route) evictLast() {
	r.remove(len(r.queue)-1, false, homeward.Errorf("spool delta", homeward.Busy, "item "+string(r.item),
		"wait for the link to the target, or give the process server a larger spool",
		"the room was taken back for an item within its share"))
	r.restLine()
}

// wait waits until done, called under r.mu, says so; or for ctx.
func (r *route) wait(ctx context.Context, done func() bool) error {
	for {
		r.mu.Lock()
		ok, changed := done(), r.changed
		r.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
