package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

// ServerOptions configure a Server; the zero value serves in the clear.
type ServerOptions struct {
	// TLS is offered to clients that ask for it; nil: none. Set ClientAuth and
	// ClientCAs in it to demand client certificates.
	TLS *tls.Config
	// RequireTLS refuses everything before TLS. It needs TLS.
	RequireTLS bool
	// Watch is told of every connection whose TLS handshake is over, and may close it; stop
	// is called when it is closed. nil: nobody.
	Watch func(*tls.Conn) (stop func())
	// MaxInFlightBytes bounds the payload bytes of all requests in progress, of all
	// clients together; default and minimum 64 MiB (two requests of MaxRequest).
	MaxInFlightBytes int64
	// MaxRequests bounds the requests in progress, of all clients together; default 1024.
	MaxRequests int
	// MaxConnections bounds the connections; further ones are closed at once.
	// Default 256.
	MaxConnections int
	// HandshakeTimeout bounds the time from accept to the first request; default 30 s.
	HandshakeTimeout time.Duration
	// StallTimeout bounds how long a client may take to accept a reply or to
	// complete a request it has begun to send; default 60 s.
	StallTimeout time.Duration
	// Log gets what ends a connection; nil: nobody.
	Log *slog.Logger
}

func (o ServerOptions) withDefaults() ServerOptions {
	o.MaxInFlightBytes = max(o.MaxInFlightBytes, 2*MaxRequest)
	if o.MaxRequests <= 0 {
		o.MaxRequests = 1024
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 256
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = 30 * time.Second
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server exports disks. All methods may be called concurrently.
type Server struct {
	o       ServerOptions
	budget  *budget
	buffers buffers
	tasks   sync.Pool // of *task

	mu        sync.Mutex
	closed    bool
	exports   map[string]*served
	burnt     map[string]*served // withdrawn; never served again
	listeners map[net.Listener]struct{}
	conns     map[net.Conn]struct{}
	running   sync.WaitGroup  // one per connection
	ctx       context.Context // ends when clients are cut at Close
	cut       context.CancelFunc
}

// NewServer makes a server without exports. It must be closed.
func NewServer(o ServerOptions) *Server {
	s := &Server{
		o:         o.withDefaults(),
		exports:   map[string]*served{},
		burnt:     map[string]*served{},
		listeners: map[net.Listener]struct{}{},
		conns:     map[net.Conn]struct{}{},
	}
	s.budget = newBudget(s.o.MaxRequests, s.o.MaxInFlightBytes)
	s.ctx, s.cut = context.WithCancel(context.Background())
	return s
}

// Add serves e from now on.
//
// Errors: homeward.Invalid for a field that is wrong, homeward.Exists for a name
// in use, homeward.Fenced for a name that was withdrawn, homeward.Unavailable
// after Close.
func (s *Server) Add(e Export) error {
	if err := e.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return homeward.Errorf("add export", homeward.Unavailable, e.Name, "start a new server", "the server is closed")
	case s.burnt[e.Name] != nil:
		return homeward.Errorf("add export", homeward.Fenced, e.Name, "use a name that carries the new generation", "the name was withdrawn")
	case s.exports[e.Name] != nil:
		return homeward.Errorf("add export", homeward.Exists, e.Name, "withdraw it first, or use another name", "the name is in use")
	}
	s.exports[e.Name] = newServed(e)
	return nil
}

// lookup finds an export by the name a client gave.
func (s *Server) lookup(name string) (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.exports[name]; e != nil {
		return e, nil
	}
	return nil, errUnknownExport(name)
}

// list returns the exports by name.
func (s *Server) list() []*served {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.exports), func(a, b *served) int { return strings.Compare(a.Name, b.Name) })
}

// Clients is how many clients are connected to an export now; 0 where there is none.
func (s *Server) Clients(name string) int {
	s.mu.Lock()
	e := s.exports[name]
	s.mu.Unlock()
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sessions)
}

// Serve accepts connections on l until ctx ends, l is closed, or Close; then it
// closes l. Connections live on until Close.
//
// Errors: homeward.Unavailable when l fails; nil when it was told to end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = l.Close()
		return homeward.Errorf("serve NBD", homeward.Unavailable, l.Addr().String(), "start a new server", "the server is closed")
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() {
		stop()
		_ = l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				continue
			}
			return homeward.Errorf("serve NBD", homeward.Unavailable, l.Addr().String(), "check the limit of open files", "accept: %w", err)
		}
		s.accept(conn)
	}
}

// accept starts the one goroutine that owns conn.
func (s *Server) accept(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.o.MaxConnections {
		_ = conn.Close()
		s.o.Log.Warn("NBD client turned away", "client", conn.RemoteAddr().String(), "connections", len(s.conns))
		return
	}
	s.conns[conn] = struct{}{}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		err := s.converse(conn)
		_ = conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		if err != nil {
			s.o.Log.Info("NBD client gone", "client", conn.RemoteAddr().String(), "err", err)
		}
	}()
}

// converse runs one connection from the greeting to its end.
func (s *Server) converse(raw net.Conn) error {
	tune(raw)
	if err := raw.SetDeadline(time.Now().Add(s.o.HandshakeTimeout)); err != nil {
		return homeward.Errorf("greet", homeward.Unavailable, "", "", "set deadline: %w", err)
	}
	n := &negotiation{server: s, conn: raw, raw: raw, unwatch: func() {}}
	sess, err := n.run()
	defer func() { n.unwatch() }()
	if sess == nil {
		return err
	}
	defer sess.export.detach(sess)
	return sess.run()
}

// sendBuffer is how much a unix socket may hold of what its peer has not taken yet,
// so that a peer that takes a megabyte in small pieces does not wake us for each.
const sendBuffer = 1 << 20

// tune fits the socket to the work. None of it is fatal: without it a dead client
// is found when it is written to, and large reads cost more switches.
func tune(conn net.Conn) {
	if over, is := conn.(interface{ NetConn() net.Conn }); is {
		conn = over.NetConn()
	}
	switch c := conn.(type) {
	case *net.UnixConn:
		_ = c.SetWriteBuffer(sendBuffer)
	case *net.TCPConn:
		// Finds out within half a minute that the machine at the other end is gone, so
		// that an exclusive export becomes free again.
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3})
		_ = c.SetNoDelay(true)
	}
}

// grace is how long a graceful end waits for clients that take their time to
// accept the answers to what they asked before.
const grace = 5 * time.Second

// Withdraw ends an export for good and burns its name. When it returns nil, no
// request of any client touches the disk, none ever will, and the connections
// are cut. With immediate set, requests not yet begun are dropped; else those
// already read are carried out and answered, as far as clients accept the
// answers within a few seconds.
//
// ctx bounds the wait. If it ends first the error is homeward.Timeout: the name
// is burnt and nothing new reaches the disk, but a request begun before may still
// be on it: call Withdraw again before the disk is given to anybody else. Calling
// it again is no error. homeward.NotFound: the name never was served here.
func (s *Server) Withdraw(ctx context.Context, name string, immediate bool) error {
	s.mu.Lock()
	e := s.exports[name]
	if e == nil {
		e = s.burnt[name]
	}
	if e == nil {
		s.mu.Unlock()
		return homeward.Wrap(errUnknownExport(name), "withdraw", name)
	}
	delete(s.exports, name)
	s.burnt[name] = e
	s.mu.Unlock()

	e.end(ctx, immediate)
	for _, done := range [...]chan struct{}{e.gate.drained, e.empty} {
		select {
		case <-done:
		case <-ctx.Done():
			return homeward.Errorf("withdraw", homeward.Timeout, name,
				"wait for the disk to answer, then withdraw it again", "requests are still on the disk: %w", ctx.Err())
		}
	}
	return nil
}

// end makes sessions finish, or cuts them, and shuts the gate.
func (e *served) end(ctx context.Context, immediate bool) {
	e.close()
	if !immediate {
		e.each((*session).finish)
		patience := time.NewTimer(grace)
		defer patience.Stop()
		select {
		case <-e.empty:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	e.gate.shut()
	e.each((*session).cut)
}

// Close stops accepting, lets clients' requests in progress end and be answered
// until ctx ends, cuts the connections, and waits for all of them. It does not
// burn names. A ctx that is done already closes at once; a request that is on a
// disk is always waited for.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	open := make([]*served, 0, len(s.exports))
	for _, e := range s.exports {
		open = append(open, e)
	}
	s.mu.Unlock()

	var ending sync.WaitGroup
	for _, e := range open {
		ending.Go(func() { e.end(ctx, ctx.Err() != nil) })
	}
	ending.Wait()
	s.mu.Lock()
	s.cut()
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}
