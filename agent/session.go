package agent

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/capture"
)

const (
	maxCuts     = 4                // unapplied ones of an item
	standWait   = 10 * time.Second // of one question for what is applied
	standMargin = 10 * time.Second // on top of it, until the question counts as lost
)

// errSpoolLost ends a session: what was acknowledged as spooled may be gone.
var errSpoolLost = errors.New("the next hop lost its spool")

// session ships cuts for as long as nothing surprising happens: the sink keeps
// its spool and takes every delta after the one before. Anything else ends it;
// then every cut that is not applied is given up, its blocks are active again,
// and the next session asks where the sink stands.
type session struct {
	leg         *leg
	packer      *packer
	puts        *errgroup.Group
	incarnation homeward.ID
	queue       chan *cutting // cut, to be packed, in order; never full: see slots
	slots       chan struct{} // one in it for each cut that is neither applied nor given up

	settling sync.Mutex // cuts become applied in order

	mu          sync.Mutex
	outstanding []*cutting // in order
	over        bool       // run has given up what was outstanding
	acked       homeward.Position
	sent        []homeward.Position // and not applied, in order; at most maxPending
	reached     homeward.Position   // where it began, or the last it sent that is applied
	progressed  bool                // something was acknowledged
	news        chan struct{}       // one in it when acked changed
}

func (l *leg) newSession(tip homeward.Position, incarnation homeward.ID) *session {
	s := &session{leg: l, incarnation: incarnation, queue: make(chan *cutting, maxCuts), slots: make(chan struct{}, maxCuts),
		acked: tip, reached: tip, news: make(chan struct{}, 1)}
	s.packer = &packer{leg: l, tip: tip, buffers: newBuffers(), send: s.send, read: make([]byte, readBlocks*homeward.BlockSize)}
	return s
}

// run returns why the session ended, after everything it started.
func (s *session) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	s.puts = g
	g.Go(func() error { return s.cutLoop(ctx) })
	g.Go(func() error { return s.packLoop(ctx) })
	g.Go(func() error { return s.watch(ctx) })
	err := g.Wait()
	s.mu.Lock()
	left := slices.Clone(s.outstanding)
	s.over = true
	s.mu.Unlock()
	for _, c := range left {
		err = errors.Join(err, s.giveUp(c))
	}
	return err
}

// enqueue takes a cut made with the turn and a slot. A session that is over gives
// it up instead and says so: a group's cut may come that late.
func (s *session) enqueue(c *cutting) error {
	s.mu.Lock()
	s.outstanding = append(s.outstanding, c)
	over := s.over
	s.mu.Unlock()
	if over {
		return errors.Join(errGivenUp, s.giveUp(c))
	}
	s.queue <- c
	return nil
}

func (s *session) packLoop(ctx context.Context) error {
	for {
		select {
		case c := <-s.queue:
			s.leg.fault("pack")
			err := s.packer.pack(ctx, c)
			if errors.Is(err, capture.ErrDemoted) {
				s.leg.demoted(c)
				err = s.giveUp(c)
			}
			if err == nil {
				err = s.packed(c)
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send makes the parcel's position durable and starts to put it.
func (s *session) send(ctx context.Context, p *parcel) error {
	for room := s.leg.chain.room(); room != nil; room = s.leg.chain.room() {
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := s.leg.chain.admit(p.position, s.leg.meter.traffic()); err != nil {
		return err
	}
	s.leg.fault("admitted")
	s.mu.Lock()
	s.sent = append(s.sent, p.position)
	p.cut.unacked++
	p.cut.final = p.position
	s.mu.Unlock()
	s.puts.Go(func() error { return s.put(ctx, p) })
	return nil
}

// put returns once p is acknowledged. Whatever may pass by itself is tried again
// with the same bytes.
func (s *session) put(ctx context.Context, p *parcel) error {
	l := s.leg
	for retry := (&backoff{}); ; {
		l.fault("put")
		attempt, cancel := context.WithTimeout(ctx, l.tuning.PutTimeout)
		l.meter.wire(int64(p.body.Len()))
		ack, err := l.sink.Put(attempt, l.id, bytes.NewReader(p.body.Bytes()))
		cancel()
		if err == nil && ack.Position != p.position { // it does not count (I-7)
			err = homeward.Errorf("put delta", homeward.Unavailable, p.position.String(), "check the next hop",
				"acknowledged as %s", ack.Position)
		}
		if err == nil {
			l.fault("acked")
			l.alarms.clear(alarmAway)
			s.packer.buffers.give(p.body, retry.next == 0)
			return s.acknowledge(p, ack)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if early := homeward.KindOf(err) == homeward.Conflict && !s.followsAcked(p); !early {
			if !homeward.Retryable(err) {
				return err
			}
			l.alarms.raiseError(alarmAway, err)
		}
		if !retry.wait(ctx) {
			return ctx.Err()
		}
	}
}

// followsAcked reports whether the delta before p is acknowledged. While it is
// not, a refusal of p because of its position says only that p came too early.
func (s *session) followsAcked(p *parcel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked.Sequence+1 >= p.position.Sequence
}

// acknowledge counts an acknowledgement whose position matches.
func (s *session) acknowledge(p *parcel, ack homeward.Ack) error {
	if ack.Incarnation != s.incarnation {
		return errSpoolLost
	}
	s.leg.meter.ack(p.bytes)
	s.mu.Lock()
	c := p.cut
	c.unacked--
	if p.position.Sequence > s.acked.Sequence {
		s.acked = p.position
	}
	s.progressed = true
	ended, spooled := c.ended, c.packed && c.unacked == 0
	s.mu.Unlock()
	if !ended && !c.whole {
		for _, b := range p.blocks {
			c.cut.Shipped(b.disk, b.run.Start, b.run.Count)
		}
	}
	if spooled && !ended {
		if err := s.spool(c); err != nil {
			return err
		}
	}
	if ack.Applied {
		return s.apply(p.position)
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
	return nil
}

// packed notes that all deltas of c are under way.
func (s *session) packed(c *cutting) error {
	s.mu.Lock()
	c.packed = true
	spooled := c.unacked == 0 && !c.ended
	s.mu.Unlock()
	if spooled {
		return s.spool(c)
	}
	return nil
}

// spool lets the frozen content of c go, and with it the turn to cut; a frozen
// whole cut keeps both until it is unfrozen.
func (s *session) spool(c *cutting) error {
	if !c.whole {
		if err := c.cut.Spooled(); err != nil && !errors.Is(err, capture.ErrDemoted) {
			return homeward.Wrap(err, "release cut", c.cut.ID.String())
		}
		s.leg.turn.give(c.lease)
	}
	s.leg.fault("spooled")
	close(c.spooled)
	s.leg.ended(c)
	return s.settle()
}

// apply counts that the replica stands at p. Beyond where the session began only
// what it sent counts: the chain also knows attempts given up before, and one may
// arrive yet by way of a hop that still had it. It holds other content than the
// cuts of this session that have its sequence.
func (s *session) apply(p homeward.Position) error {
	s.mu.Lock()
	news, known := false, false
	i := slices.Index(s.sent, p)
	if i >= 0 || p.Sequence <= s.reached.Sequence {
		news, known = s.leg.chain.advance(p)
	}
	if i >= 0 {
		s.sent = slices.Delete(s.sent, 0, i+1)
		s.reached, s.progressed = p, true
		if p.Sequence > s.acked.Sequence { // its acknowledgement is on the way
			s.acked = p
		}
	}
	s.mu.Unlock()
	if !known {
		return homeward.Errorf("follow replica", homeward.Conflict, string(s.leg.id), "",
			"unexpected position: %w", &homeward.PositionError{True: p})
	}
	if !news {
		return nil
	}
	s.leg.fault("applied")
	return s.settle()
}

// settle ends the cuts that are acknowledged and applied: their blocks leave the map.
func (s *session) settle() error {
	s.settling.Lock()
	defer s.settling.Unlock()
	for c := s.takeApplied(); c != nil; c = s.takeApplied() {
		if !c.whole {
			s.leg.release(c)
		}
		s.leg.applied(c)
		<-s.slots
		close(c.applied)
		close(c.gone)
	}
	return nil
}

// release clears the blocks of a cut from the capture's map, once they are at the
// replica or in another durable map. Where that fails they stay: too much is
// shipped later, nothing is lost.
func (l *leg) release(c *cutting) bool {
	err := c.cut.Spooled()
	if err == nil {
		err = c.cut.Applied()
	}
	switch {
	case err == nil:
		l.alarms.clear(alarmCapture)
	case !errors.Is(err, capture.ErrDemoted):
		l.alarms.raiseError(alarmCapture, err)
	}
	return err == nil
}

// drained is nil while no cut is on its way; else it is closed when the newest
// one is applied or given up.
func (s *session) drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.outstanding) == 0 {
		return nil
	}
	return s.outstanding[len(s.outstanding)-1].gone
}

// takeApplied removes the oldest outstanding cut if it is spooled and the replica
// has reached its end.
func (s *session) takeApplied() *cutting {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.outstanding) == 0 {
		return nil
	}
	c := s.outstanding[0]
	select {
	case <-c.spooled:
	default:
		return nil
	}
	if c.final.Sequence > s.reached.Sequence {
		return nil
	}
	c.ended = true
	s.outstanding = s.outstanding[1:]
	return c
}

// giveUp ends a cut that will not become applied as one: its blocks go back into
// the active map.
func (s *session) giveUp(c *cutting) error {
	s.mu.Lock()
	ended := c.ended
	c.ended = true
	s.outstanding = slices.DeleteFunc(s.outstanding, func(o *cutting) bool { return o == c })
	s.mu.Unlock()
	if ended {
		return nil
	}
	err := c.cut.Demote()
	if errors.Is(err, capture.ErrDemoted) || errors.Is(err, capture.ErrReleased) {
		err = nil // it was demoted already, or is spooled: then the next session's Reship has its blocks
	}
	s.leg.turn.give(c.lease)
	<-s.slots
	close(c.failed)
	close(c.gone)
	return homeward.Wrap(err, "give up cut", c.cut.ID.String())
}

// watch asks for what is applied, as long as the session lasts.
func (s *session) watch(ctx context.Context) error {
	for retry := (&backoff{}); ; {
		l := s.leg
		applied, pending := l.chain.stands()
		s.mu.Lock()
		acked := s.acked
		s.mu.Unlock()
		if acked.Sequence <= applied.Sequence || len(pending) == 0 { // nothing to wait for
			select {
			case <-s.news:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		standing, err := l.standing(ctx, pending[0], standWait)
		if err == nil {
			retry.reset()
			err = s.heard(standing, acked)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !homeward.Retryable(err) {
			return err
		}
		if err != nil {
			l.alarms.raiseError(alarmAway, err)
			retry.wait(ctx)
		}
	}
}

// heard judges what the sink says about itself, when it was asked after it had
// acknowledged all up to acked. One that now has less has lost it, or went back
// with its replica to an older state: only asking anew tells.
func (s *session) heard(st homeward.Standing, acked homeward.Position) error {
	l := s.leg
	if err := l.inForce(st); err != nil {
		return err
	}
	if st.Incarnation != s.incarnation {
		return errSpoolLost
	}
	l.hear(st)
	if st.Known && st.Spooled.Generation == l.generation && st.Spooled.Sequence < acked.Sequence {
		return errSpoolLost
	}
	if !st.Known || st.Applied.IsZero() {
		return nil
	}
	return s.apply(st.Applied)
}
