package nbd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
)

const (
	// maxWorkers is the most requests of one connection that are carried out at a time.
	maxWorkers = 32
	// inlineMax is the largest read or write that is carried out while its worker
	// keeps the turn: to a quick disk (a page cache) a switch of goroutines costs
	// more than the parallelism brings.
	inlineMax = 2 << 20
	// overlapFrom is the size of a request from which it is handed over all the same
	// when the next one is there already: then copying one's bytes beside the other's is
	// worth a switch.
	overlapFrom = 256 << 10
	// A disk is quick when such a request takes less than quickBase and a nanosecond
	// for each byte. If two in a row take longer (one may have met a busy processor),
	// the next requests are handed over, to be carried out side by side: four times as
	// many each time the disk is still slow, from 4*handedMin to handedMax, before it
	// is tried inline again.
	quickBase = 60 * time.Microsecond
	handedMin = 4
	handedMax = 4096
	// heldFor is how long a reply is kept back at most.
	heldFor = 20 * time.Millisecond
)

// session is the transmission phase of one connection. Its workers take turns:
// the one that has the turn reads a request, passes the turn on and carries the
// request out, so no request waits for a hop between goroutines. Small requests
// to a quick disk do not even pass the turn on.
type session struct {
	server     *Server
	export     *served
	peer       string
	raw        net.Conn
	in         *inbox
	out        *outbox
	flags      uint16
	structured bool
	contexts   []metaContext
	ctx        context.Context // ends when the session is cut
	cancel     context.CancelFunc

	finishing atomic.Bool // no further request is to be read
	reading   pulse       // within a request whose rest has not arrived
	waiting   atomic.Int32
	workers   atomic.Int32
	running   sync.WaitGroup

	late  *time.Timer // runs while a reply is kept back
	armed atomic.Bool // late runs

	turn    sync.Mutex // guards in and what follows
	kept    int        // replies that may be kept back
	burst   int        // requests read since one was last waited for
	before  int        // in the burst before
	ended   bool
	err     error // why, nil when in good order
	handed  int   // requests left to be handed over
	penalty int   // how many were when the disk was last found slow
	strikes int   // slow requests in a row
}

func newSession(n *negotiation, e *served) *session {
	s := &session{
		server: n.server, export: e, peer: n.peer(), raw: n.raw, in: n.in, out: newOutbox(n.conn),
		flags: n.flags(e), structured: n.structured,
	}
	if n.contextsOf == e.Name {
		s.contexts = n.contexts
	}
	s.in.stall = &s.reading
	s.in.onWait(s.release)
	s.late = time.NewTimer(time.Hour)
	s.late.Stop()
	s.ctx, s.cancel = context.WithCancel(n.server.ctx)
	return s
}

// run serves until the client leaves, the session is finished or cut, or the
// client breaks the protocol; then no request of it is on the disk any more.
func (s *session) run() error {
	// The handshake's deadline ends here; a finish since then stays in force.
	defer s.cancel()
	if err := s.readDeadline(time.Time{}); err != nil {
		return s.broken("start transmission", err)
	}
	if err := s.raw.SetWriteDeadline(time.Time{}); err != nil {
		return s.broken("start transmission", err)
	}
	var watching sync.WaitGroup
	watching.Go(s.watch)
	watching.Go(s.expedite)
	s.follow()
	s.running.Wait()
	s.cancel()
	watching.Wait()
	return s.err
}

// finish stops reading requests; those read are carried out and answered.
func (s *session) finish() {
	s.finishing.Store(true)
	_ = s.raw.SetReadDeadline(time.Unix(1, 0)) // fails only when the connection is closed already
}

// cut ends the session without another word.
func (s *session) cut() {
	s.cancel()
	_ = s.raw.Close()
}

// watch cuts a client that neither completes a request nor takes a reply.
func (s *session) watch() {
	tick := time.NewTicker(s.server.o.StallTimeout)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		if s.reading.stalled() || s.out.pulse.stalled() {
			s.server.o.Log.Warn("NBD client stalled", "client", s.peer, "export", s.export.Name)
			s.cut()
		}
	}
}

func (s *session) readDeadline(t time.Time) error {
	err := s.raw.SetReadDeadline(t)
	if s.finishing.Load() {
		return s.raw.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}

// follow sees to it that somebody takes the turn when it is passed on.
func (s *session) follow() {
	if s.waiting.Load() > 0 || s.workers.Load() >= maxWorkers {
		return
	}
	s.workers.Add(1)
	s.running.Go(s.work)
}

// work is one worker: it lives until the session ends.
func (s *session) work() {
	for {
		s.waiting.Add(1)
		s.turn.Lock()
		s.waiting.Add(-1)
		t := s.next()
		for t != nil && s.quick(t) {
			s.doQuick(t)
			t = s.next()
		}
		if t == nil {
			s.turn.Unlock()
			s.out.flush()
			return
		}
		s.follow()
		s.kept = 0
		s.turn.Unlock()
		s.out.flush()
		t.do()
		t.answer(false)
	}
}

// quick reports whether t is to be carried out with the turn kept.
func (s *session) quick(t *task) bool {
	if s.handed > 0 {
		s.handed--
		return false
	}
	if t.n >= overlapFrom && s.in.buffered() > 0 {
		return false
	}
	return (t.cmd == cmdRead || t.cmd == cmdWrite) && t.n <= inlineMax && t.flags&reqFUA == 0
}

func (s *session) doQuick(t *task) {
	quick := quickBase + time.Duration(t.n)
	if s.kept > 0 && s.armed.CompareAndSwap(false, true) {
		s.late.Reset(heldFor)
	}
	begun := time.Now()
	t.do()
	if time.Since(begun) < quick {
		s.penalty, s.strikes = 0, 0
	} else if s.strikes++; s.strikes > 1 {
		s.penalty = min(4*max(s.penalty, handedMin), handedMax)
		s.handed = s.penalty
	}
	// Replies are kept back until there is nothing to read, or half of a burst is
	// answered: with that the peer goes on while the other half is done.
	s.kept++
	more := 2*s.kept < max(s.burst, s.before)
	if !more {
		s.kept = 0
	}
	t.answer(more)
}

// release writes what is kept back, because nothing is there to be read; with the
// turn. It reports whether the peer is likely to send more at once.
func (s *session) release() (soon bool) {
	s.kept, s.before, s.burst = 0, s.burst, 0
	s.out.flush()
	return s.before > 1
}

// expedite writes replies that were kept back for a request that takes long: the
// peer may be waiting for just them.
func (s *session) expedite() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.late.C:
			s.armed.Store(false)
			s.out.flush()
		}
	}
}

// next reads a request, its payload included; nil when the session ends. Called
// with the turn.
func (s *session) next() *task {
	if s.ended {
		return nil
	}
	t, err := s.read()
	s.burst++
	if t == nil {
		s.ended = true
		if err != nil && !s.finishing.Load() && s.ctx.Err() == nil {
			s.err = err
		}
	}
	return t
}

// read is next without its bookkeeping. No task and no error: the client left.
func (s *session) read() (*task, error) {
	p, err := s.in.head(requestSize)
	if err != nil {
		return nil, quiet(s.broken("read request", err), err)
	}
	req, ok := parseRequest(p)
	if !ok {
		return nil, homeward.Errorf("read request", homeward.Invalid, s.peer, "connect with an NBD client", "wrong magic")
	}
	if req.cmd == cmdDisconnect {
		return nil, nil
	}
	size := 0 // of the buffer it needs
	if (req.cmd == cmdRead || req.cmd == cmdWrite) && req.n <= MaxRequest {
		size = int(req.n)
	}
	if err := s.reserve(size); err != nil {
		return nil, s.broken("wait for room", err)
	}
	t := s.server.task(s, req, size)
	if req.cmd != cmdWrite {
		return t, nil
	}
	if t.buf != nil {
		err = s.in.payload(t.buf.payload(size))
	} else {
		err = s.in.discard(int(req.n))
	}
	if err != nil {
		t.sent()
		return nil, s.broken("read payload", err)
	}
	return t, nil
}

// reserve takes room for one request of size bytes from the server's budget.
func (s *session) reserve(size int) error {
	if s.server.budget.tryTake(size) {
		return nil
	}
	s.release() // what is kept back holds room itself
	return s.server.budget.take(s.ctx, size)
}

func (s *session) broken(op string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) {
		return homeward.Errorf(op, homeward.Unavailable, s.peer, "", "connection ended: %w", err)
	}
	return homeward.Errorf(op, homeward.Unavailable, s.peer, "", "%w", err)
}

// pulse tells from outside whether somebody is stuck: it is odd while something
// is awaited from the peer, and moves with every bit of progress.
type pulse struct {
	n    atomic.Uint64
	seen uint64 // by the last stalled; of its caller alone
}

func (p *pulse) beat() { p.n.Add(1) }

// stalled reports whether nothing has moved since the last call though something
// was awaited.
func (p *pulse) stalled() bool {
	v := p.n.Load()
	stuck := v&1 == 1 && v == p.seen
	p.seen = v
	return stuck
}
