package ship

import (
	"context"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

// Patience is how long a sink waits for the predecessor of a delta, the body
// unread meanwhile, before it answers Conflict.
const Patience = 10 * time.Second

const recentTurns = 64 // deltas of an item that are still known when they come again

// Line puts the deltas of one item in order: the rules of homeward.Sink about
// generations, duplicates, gaps and concurrent puts, for every sink alike. It
// holds no content and does no I/O. Safe for concurrent use.
type Line struct {
	item     homeward.ItemID
	patience time.Duration

	mu         sync.Mutex
	generation homeward.Generation
	tip        homeward.Position
	known      bool                // false: the first delta that comes says where the item stands
	taken      []homeward.Position // the last of them, oldest first
	turn       *Turn               // of whom it is now; nil: nobody's
	changed    chan struct{}       // closed and replaced at every change
}

// NewLine makes a line that is not known to stand anywhere, under the zero
// generation; see Reset and Fence. patience 0: Patience.
func NewLine(item homeward.ItemID, patience time.Duration) *Line {
	if patience <= 0 {
		patience = Patience
	}
	return &Line{item: item, patience: patience, changed: make(chan struct{})}
}

// Turn is the right of one delta to be taken next, from Enter until Done.
type Turn struct {
	line *Line
	// Taken is set when the delta was taken before: Put answers with it and reads
	// no more of the body; there is nothing to do, and Done does nothing.
	Taken homeward.Position
}

// Enter waits until the delta with this header is next. At most one turn is out
// at a time; the caller must end it with Done.
//
// Errors: Invalid for a header that is not of this item's forward deltas, Fenced,
// Conflict with a *homeward.PositionError, Busy when another delta holds the turn
// for too long, or the context's.
func (l *Line) Enter(ctx context.Context, h delta.Header) (*Turn, error) {
	if err := l.check(h); err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	for {
		t, wait, err := l.try(h, patience.Err() != nil)
		if t != nil || err != nil {
			return t, err
		}
		select {
		case <-wait:
		case <-patience.Done():
			if ctx.Err() != nil {
				return nil, homeward.Wrap(context.Cause(ctx), "put delta", "item "+string(l.item))
			}
		}
	}
}

func (l *Line) check(h delta.Header) error {
	bad := func(remedy, format string, args ...any) error {
		return homeward.Errorf("put delta", homeward.Invalid, "item "+string(l.item), remedy, format, args...)
	}
	switch {
	case h.Item != l.item:
		return bad("put it under its own item", "the delta is of item %s", h.Item)
	case h.Kind != delta.Forward:
		return bad("put the deltas an agent made", "the delta is an undo")
	case h.Follows.Generation != h.To.Generation || h.Follows.Sequence >= h.To.Sequence:
		return bad("cut again", "it leads from %v to %v", h.Follows, h.To)
	}
	return nil
}

// try gives the turn or an error, or else what to wait for; with last set, it
// does not ask to wait any more.
func (l *Line) try(h delta.Header, last bool) (*Turn, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.admit(h.To.Generation); err != nil {
		return nil, nil, err
	}
	for _, p := range l.taken {
		if p.Generation == h.To.Generation && p.Sequence == h.To.Sequence && p.Cut == h.To.Cut {
			return &Turn{Taken: p}, nil, nil
		}
	}
	next := !l.known || h.Follows == l.tip
	switch {
	case next && l.turn == nil:
		l.turn = &Turn{line: l}
		return l.turn, nil, nil
	case !last && (next || h.Follows.Sequence > l.tip.Sequence):
		return nil, l.changed, nil
	case next:
		return nil, nil, homeward.Errorf("put delta", homeward.Busy, "item "+string(l.item), "retry",
			"another delta that follows the same position is still being received")
	}
	return nil, nil, homeward.Errorf("put delta", homeward.Conflict, "item "+string(l.item),
		"go on from the true position", "the delta follows %v, the item %w", h.Follows, &homeward.PositionError{True: l.tip})
}

func (l *Line) admit(g homeward.Generation) error {
	if l.generation.Fences(g) {
		return FencedBy(l.item, l.generation)
	}
	if g != l.generation {
		return homeward.Errorf("put delta", homeward.Conflict, "item "+string(l.item), "prepare this role for the new generation first",
			"the delta is of generation %d, here %d is in force: it %w", g.Number, l.generation.Number, &homeward.PositionError{True: l.tip})
	}
	return nil
}

// FencedBy is the refusal of whoever acts for an older generation of item.
func FencedBy(item homeward.ItemID, inForce homeward.Generation) error {
	return homeward.Errorf("check generation", homeward.Fenced, "item "+string(item),
		"stop replicating from here: the item was failed over, failed back or rolled back", "%w", &homeward.FencedError{InForce: inForce})
}

// Valid reports whether the turn is still out: not ended, nor made void by Fence
// or Reset.
func (t *Turn) Valid() bool {
	if t.line == nil {
		return false
	}
	t.line.mu.Lock()
	defer t.line.mu.Unlock()
	return t.line.turn == t
}

// Done ends the turn: with the position of the delta that was taken, or with
// the zero one when it was not. It reports false, and changes nothing, when the
// line was reset meanwhile or the delta was taken before: then nothing may be taken.
func (t *Turn) Done(to homeward.Position) bool {
	if t.line == nil {
		return false
	}
	l := t.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn != t {
		return false
	}
	l.turn = nil
	if !to.IsZero() {
		l.tip, l.known = to, true
		if len(l.taken) == recentTurns {
			l.taken = append(l.taken[:0], l.taken[1:]...)
		}
		l.taken = append(l.taken, to)
	}
	l.notify()
	return true
}

// Fence raises the generation; the turn that is out is void when its delta is
// of an older one. Fenced when g is older than the one in force.
func (l *Line) Fence(g homeward.Generation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.generation.Fences(g) {
		return FencedBy(l.item, l.generation)
	}
	if g != l.generation {
		l.generation, l.turn = g, nil
		l.notify()
	}
	return nil
}

// Reset says where the item stands; known false: nobody knows. Positions later
// than tip are forgotten, and the turn that is out is void.
func (l *Line) Reset(tip homeward.Position, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tip, l.known, l.turn = tip, known, nil
	kept := l.taken[:0]
	for _, p := range l.taken {
		if p.Generation == tip.Generation && p.Sequence <= tip.Sequence {
			kept = append(kept, p)
		}
	}
	l.taken = kept
	l.notify()
}

// Recall adds deltas that were taken before, oldest first, as a sink knows them
// when it opens: they are recognised when they come again.
func (l *Line) Recall(taken ...homeward.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = append(l.taken, taken...)
	l.taken = append([]homeward.Position(nil), l.taken[max(0, len(l.taken)-recentTurns):]...)
}

// Where is what the line knows now.
func (l *Line) Where() (g homeward.Generation, tip homeward.Position, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation, l.tip, l.known
}

func (l *Line) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Covers reports whether a copy that stands at have holds everything up to want.
func Covers(have, want homeward.Position) bool {
	return have == want || have.Generation == want.Generation && have.Sequence > want.Sequence
}
