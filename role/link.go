package role

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/wire"
)

// link is the role's side of one connection, from dialling to its end.
type link struct {
	options    Options
	controller string // the address to dial
	calls      gate

	// Written by calls, read when no call runs any more, or with mu.
	mu        sync.Mutex
	greeted   bool
	dismissed error // what the controller's Goodbye said, or why it was refused
}

// run returns why the connection ended; no call runs any more then.
func (l *link) run(ctx context.Context) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler:     l.handler(),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				cancel()
			}
		},
		// The connection is encrypted below what the server sees of it.
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{SendPingTimeout: l.options.Ping, PingTimeout: l.options.Ping},
		ErrorLog:  slog.NewLogLogger(l.options.Log.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(&single{conn: conn, done: ctx.Done()}) // says only that its listener closed
	}()
	<-ctx.Done()
	_ = server.Close()
	<-served
	l.calls.close()
	if l.dismissed != nil {
		return l.dismissed
	}
	return pki.Explain(conn.fate(), "serve controller", l.controller)
}

func (l *link) dial(ctx context.Context) (*witness, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	d := tls.Dialer{Config: l.options.TLS}
	conn, err := d.DialContext(ctx, "tcp", l.controller)
	if err != nil {
		return nil, pki.Explain(err, "dial controller", l.controller)
	}
	return &witness{Conn: conn}, nil
}

// handler serves the role's contract, and greeting and parting beside it. Before
// it was greeted by a controller it accepts, the role does nothing for it.
func (l *link) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/"+helloPath, l.hello)
	mux.Handle("POST /v1/"+goodbyePath, method(l.goodbye))
	if l.options.Member != nil {
		mux.Handle("/v1/member/", l.welcomed(MemberHandler(l.options.Member)))
	}
	mux.Handle("/", l.welcomed(l.options.Handler))
	return l.calls.guard(survive(l.options.Log, mux))
}

// welcomed lets calls pass once the controller has been greeted.
func (l *link) welcomed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		greeted := l.greeted
		l.mu.Unlock()
		if !greeted {
			wire.WriteProblem(w, homeward.Errorf("call", homeward.Conflict, r.URL.Path,
				"say hello first, and stop when it is refused", "this controller was not greeted"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// hello greets the controller. The connection to one that is refused ends: the
// role does not count on its going.
func (l *link) hello(w http.ResponseWriter, r *http.Request) {
	var welcome Welcome
	if err := readRequest(w, r, &welcome); err != nil { // of a newer controller, which may try with less
		wire.WriteProblem(w, err)
		return
	}
	if err := l.accept(welcome); err != nil {
		w.Header().Set("Connection", "close") // in order, after the answer
		wire.WriteProblem(w, err)
		return
	}
	wire.WriteDocument(w, http.StatusOK, l.options.Hello)
}

func (l *link) accept(w Welcome) error {
	who := "controller " + l.controller
	err := understands(w.Protocol, who)
	if err == nil && l.options.Epoch != nil {
		err = l.options.Epoch.meet(w.Epoch, who)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.greeted, l.dismissed = false, err
		return err
	}
	l.greeted = true
	l.options.Log.Info("connected to the controller", "controller", l.controller, "version", w.Version, "epoch", w.Epoch)
	return nil
}

func (l *link) goodbye(_ context.Context, g Goodbye) (homeward.Done, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dismissed == nil {
		l.dismissed = homeward.Errorf("serve controller", homeward.Conflict, l.controller, g.Remedy, "it said goodbye: %s", g.Reason)
	}
	return homeward.Done{}, nil
}

// gate lets calls in until it is closed, and closes when the last one has left.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		if g.closed {
			g.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		g.inside.Add(1)
		g.mu.Unlock()
		defer g.inside.Done()
		h.ServeHTTP(w, r)
	})
}

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}

// witness is a connection that remembers the first error of reading, which is
// where TLS 1.3 tells a client that it was refused.
type witness struct {
	net.Conn
	mu  sync.Mutex
	err error
}

func (w *witness) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *witness) fate() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return net.ErrClosed
	}
	return w.err
}

// single is a listener that accepts the one connection there is.
type single struct {
	conn net.Conn
	done <-chan struct{}
	once sync.Once
}

func (s *single) Accept() (net.Conn, error) {
	var conn net.Conn
	s.once.Do(func() { conn = s.conn })
	if conn != nil {
		return conn, nil
	}
	<-s.done
	return nil, net.ErrClosed
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }
