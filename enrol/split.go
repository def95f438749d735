package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward/pki"
)

const (
	sniffTimeout = 10 * time.Second
	maxSniffing  = pki.MaxLobby // connections whose first bytes are waited for at a time
	maxHello     = 64 << 10
	acceptPause  = 100 * time.Millisecond // when there are too many connections
)

// Split shares one port between enrolment and everything else (the role protocol):
// connections that offer Protocol come out of the first listener, all others out
// of the second. Close each of them; ln is closed with the last, or when it fails.
// A connection that does not say within ten seconds what it wants is closed; at
// most 256 may be about to say it, or to prove who they are (pki.Lobby).
func Split(ln net.Listener) (enrolment, rest net.Listener) {
	s := &splitter{ln: pki.NewLobby(ln), slots: make(chan struct{}, maxSniffing)}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	a := &branch{s: s, conns: make(chan net.Conn), closed: make(chan struct{})}
	b := &branch{s: s, conns: make(chan net.Conn), closed: make(chan struct{})}
	s.open = 2
	s.done.Go(func() { s.accept(a, b) })
	return a, b
}

type splitter struct {
	ln     net.Listener
	slots  chan struct{}
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   sync.WaitGroup

	mu   sync.Mutex
	open int // branches that were not closed
}

func (s *splitter) accept(enrolment, rest *branch) {
	for {
		conn, err := s.ln.Accept()
		if exhausted(err) { // whoever opens many connections must not end the vault
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		if err != nil {
			s.cancel(err)
			return
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			_ = conn.Close()
			return
		}
		s.done.Go(func() {
			defer func() { <-s.slots }()
			wants, replay, err := sniff(s.ctx, conn)
			if err != nil {
				_ = conn.Close() // it is no TLS client, or went away: nobody to tell
				return
			}
			to := rest
			if slices.Contains(wants, Protocol) {
				to = enrolment
			}
			to.deliver(replay)
		})
	}
}

// exhausted reports that a connection could not be accepted for want of something that
// comes back.
func exhausted(err error) bool {
	for _, want := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// branch is one of the two listeners.
type branch struct {
	s      *splitter
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (b *branch) deliver(conn net.Conn) {
	select {
	case b.conns <- conn:
	case <-b.closed:
		_ = conn.Close()
	case <-b.s.ctx.Done():
		_ = conn.Close()
	}
}

func (b *branch) Accept() (net.Conn, error) {
	select {
	case conn := <-b.conns:
		return conn, nil
	case <-b.closed:
		return nil, net.ErrClosed
	case <-b.s.ctx.Done():
		return nil, context.Cause(b.s.ctx)
	}
}

func (b *branch) Addr() net.Addr { return b.s.ln.Addr() }

// Close waits for the goroutines when it closes the second branch.
func (b *branch) Close() error {
	b.once.Do(func() {
		close(b.closed)
		b.s.mu.Lock()
		b.s.open--
		last := b.s.open == 0
		b.s.mu.Unlock()
		if last {
			b.s.cancel(net.ErrClosed)
			_ = b.s.ln.Close()
			b.s.done.Wait()
		}
	})
	return nil
}

var errHeard = errors.New("heard what the client wants")

// sniff reads a client's first message, and gives back a connection that will
// read it again.
func sniff(ctx context.Context, conn net.Conn) (protocols []string, replay net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, sniffTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	ear := &listening{Conn: conn}
	err = tls.Server(ear, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		protocols = h.SupportedProtos
		return nil, errHeard
	}}).Handshake()
	if !stop() { // the deadline has passed, or is being set right now
		return nil, nil, context.Cause(ctx)
	}
	if !errors.Is(err, errHeard) {
		return nil, nil, err
	}
	return protocols, &replaying{Conn: conn, first: bytes.NewReader(ear.heard.Bytes())}, nil
}

// listening keeps what is read, and says nothing.
type listening struct {
	net.Conn
	heard bytes.Buffer
}

func (l *listening) Read(p []byte) (int, error) {
	if l.heard.Len() >= maxHello {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := l.Conn.Read(p)
	l.heard.Write(p[:n])
	return n, err
}

func (l *listening) Write(p []byte) (int, error) { return len(p), nil }

// replaying reads the first bytes again, then the connection.
type replaying struct {
	net.Conn
	first *bytes.Reader
}

// NetConn is the connection below.
func (r *replaying) NetConn() net.Conn { return r.Conn }

func (r *replaying) Read(p []byte) (int, error) {
	if r.first.Len() > 0 {
		return r.first.Read(p)
	}
	return r.Conn.Read(p)
}
