package processserver

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/ship"
)

// unspooledWait is how long a delta that the spool's disk did not take is held
// for the target to apply it.
const unspooledWait = time.Minute

// Put is homeward.Sink's. The delta is checked as it comes in (not its content:
// that the target does), written to the spool, and forwarded, all at once. The
// answer is Applied when the target applied it shortly after it was whole, else
// not Applied as soon as it and all before it are durable here. When the disk of
// the spool fails, the answer waits for the target.
//
// Errors beside those of the contract: Busy when the item's share of the spool is
// full, before the body is read where that can be told; NoSpace when neither the
// spool's disk nor the target took the delta; Timeout when the body trickles in.
func (s *Server) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	none := homeward.Ack{}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return none, err
	}
	defer end()
	r, err := s.routed(item)
	if err != nil {
		return none, err
	}
	if err := s.budget.room(r, body); err != nil {
		return none, err
	}
	e, taken, err := s.receive(ctx, r, body)
	if err != nil {
		return none, err
	}
	if e == nil {
		return r.acknowledgeTaken(ctx, taken)
	}
	return r.acknowledge(ctx, e)
}

// receive takes a delta in, up to its last byte; a zero entry: it was taken before.
func (s *Server) receive(ctx context.Context, r *route, from io.Reader) (*entry, homeward.Position, error) {
	none := homeward.Position{}
	release, err := r.acquireReceive(ctx)
	if err != nil {
		return nil, none, err
	}
	defer release()
	intake := &intake{route: r}
	dec, err := delta.NewDecoder(io.TeeReader(s.hasten(from, r.item), intake), delta.Limits{MaxStored: homeward.MaxDelta})
	if err != nil {
		return nil, none, err
	}
	r.catchUp(ctx, dec.Header())
	turn, err := r.line.Enter(ctx, dec.Header())
	if err != nil {
		return nil, none, err
	}
	if !turn.Taken.IsZero() {
		return nil, turn.Taken, nil
	}
	defer turn.Done(none) // when something fails on the way
	e, err := r.enqueue(dec.Header(), turn)
	if err != nil {
		return nil, none, err
	}
	err = intake.into(e)
	for err == nil {
		_, err = dec.Next()
	}
	if errors.Is(err, io.EOF) {
		err = r.received(e, turn, dec.Header().Position(dec.Trailer()), dec.Trailer().Mark)
	}
	if err != nil {
		return nil, none, r.abandon(e, err)
	}
	return e, none, nil
}

// catchUp asks the target when a delta does not follow what is known here and
// nothing is on its way: deltas may have gone by another process server.
func (r *route) catchUp(ctx context.Context, h delta.Header) {
	r.refresh(ctx, func() bool {
		g, tip, known := r.line.Where()
		return h.Follows.Generation != g || known && (h.Follows == tip || h.Follows.Sequence <= tip.Sequence)
	})
}

// enqueue begins an entry at the end of the queue.
func (r *route) enqueue(h delta.Header, turn *ship.Turn) (*entry, error) {
	s := r.server
	r.mu.Lock()
	defer r.mu.Unlock()
	if !turn.Valid() {
		return nil, r.moved()
	}
	e := &entry{follows: h.Follows, to: h.To, bulk: r.open, path: filepath.Join(r.dir(), spoolName(h.To, s.attempts.Add(1)))}
	e.body = newBody(s.cfg.FS, e.path, s.reserveMemory, s.giveMemory)
	r.queue = append(r.queue, e)
	r.notify()
	return e, nil
}

// moved is the answer when a delta lost its place while it came in.
func (r *route) moved() error {
	return homeward.Errorf("put delta", homeward.Busy, "item "+string(r.item), "retry", "the item's queue changed meanwhile")
}

// received takes in that a delta is whole.
func (r *route) received(e *entry, turn *ship.Turn, to homeward.Position, mark homeward.Mark) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.gone {
		return e.err
	}
	if !turn.Done(to) {
		return r.moved()
	}
	e.position, e.mark, r.open = to, mark, mark.Kind == homeward.MarkNone
	e.body.finish(nil)
	r.notify()
	return nil
}

// abandon ends the receiving of an entry and returns why: err, or what took it
// out of the queue before.
func (r *route) abandon(e *entry, err error) error {
	err = r.withdraw(e, err)
	e.body.finish(err)
	r.releaseBody(e)
	return err
}

// withdraw takes an entry that nobody was told of out of the queue, with all that
// follow it, and returns why: err, or what took it out before.
func (r *route) withdraw(e *entry, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.gone && e.err != nil {
		return e.err
	}
	for i := range r.queue {
		if r.queue[i] == e {
			r.dropFrom(i, err)
			r.restLine()
			break
		}
	}
	return err
}

func (r *route) releaseBody(e *entry) {
	r.mu.Lock()
	b := e.body
	e.body = nil
	r.mu.Unlock()
	if err := b.release(); err != nil {
		r.server.cfg.Log.Warn("cannot close a spooled delta", "item", r.item, "file", e.path, "error", err)
	}
}

// acknowledge answers the put of a delta that was received.
func (r *route) acknowledge(ctx context.Context, e *entry) (homeward.Ack, error) {
	defer r.releaseBody(e)
	// In order, so that a crash leaves no file whose predecessor was never durable.
	if err := r.wait(ctx, func() bool { return e.gone || r.firstPending() == e }); err != nil {
		return homeward.Ack{}, r.withdraw(e, homeward.Wrap(err, "put delta", "item "+string(r.item)))
	}
	spooled := r.commit(e)
	if spooled != nil {
		return r.acknowledgeUnspooled(ctx, e, spooled)
	}
	grace, cancel := context.WithTimeout(ctx, r.server.cfg.Grace)
	defer cancel()
	err := r.wait(grace, func() bool { return e.gone || e.passed || r.fault != nil || !r.near(e) })
	if ctx.Err() != nil {
		return homeward.Ack{}, homeward.Wrap(err, "put delta", "item "+string(r.item))
	}
	return r.answer(e)
}

// near: among the entries that are sent first. r.mu is held.
func (r *route) near(e *entry) bool {
	return slices.Contains(r.queue[:min(len(r.queue), window)], e)
}

// firstPending is the first entry that is not durable. r.mu is held.
func (r *route) firstPending() *entry {
	for _, e := range r.queue {
		if !e.durable {
			return e
		}
	}
	return nil
}

// commit makes an entry durable in the spool.
func (r *route) commit(e *entry) error {
	r.mu.Lock()
	gone, removals := e.gone, r.removals
	r.mu.Unlock()
	if gone {
		return nil
	}
	err := e.body.commit()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.settled = max(r.settled, removals) // by the sync of the directory
	}
	switch {
	case err != nil:
		r.server.cfg.Log.Warn("the spool's disk does not take a delta", "item", r.item, "error", err)
	case e.gone: // the file came after its entry went
		r.discard(e, e.applied)
	default:
		e.durable = true
		r.notify()
	}
	return err
}

// acknowledgeUnspooled waits for the target, because nothing else keeps the delta.
func (r *route) acknowledgeUnspooled(ctx context.Context, e *entry, spooled error) (homeward.Ack, error) {
	limited, cancel := context.WithTimeout(ctx, unspooledWait)
	defer cancel()
	if err := r.wait(limited, func() bool { return e.gone || r.fault != nil && !e.sending && !e.passed }); err != nil && ctx.Err() != nil {
		return homeward.Ack{}, r.withdraw(e, homeward.Wrap(err, "put delta", "item "+string(r.item)))
	}
	r.mu.Lock()
	applied := e.applied
	fault := r.fault
	r.mu.Unlock()
	if applied {
		return r.answer(e)
	}
	return homeward.Ack{}, r.withdraw(e, homeward.Errorf("spool delta", homeward.NoSpace, "item "+string(r.item),
		"look at the spool's disk", "the spool did not take it and the target has not applied it: %w", errors.Join(spooled, fault)))
}

// answer is the acknowledgement of an entry that is durable or gone.
func (r *route) answer(e *entry) (homeward.Ack, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.gone && !e.applied {
		return homeward.Ack{}, e.err
	}
	return homeward.Ack{Position: e.position, Applied: e.applied, Incarnation: r.server.incarnation}, nil
}

// acknowledgeTaken answers the put of a delta that was taken before.
func (r *route) acknowledgeTaken(ctx context.Context, p homeward.Position) (homeward.Ack, error) {
	var found *entry
	var applied bool
	find := func() bool {
		found = nil
		applied = r.known && ship.Covers(r.applied, p)
		for _, e := range r.queue {
			if e.position == p {
				found = e
			}
		}
		return applied || found == nil || found.durable
	}
	if err := r.wait(ctx, find); err != nil {
		return homeward.Ack{}, homeward.Wrap(err, "put delta", "item "+string(r.item))
	}
	if !applied && found == nil {
		return homeward.Ack{}, r.moved()
	}
	return homeward.Ack{Position: p, Applied: applied, Incarnation: r.server.incarnation}, nil
}
