package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/danielgtaylor/huma/v2"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/wire"
)

// ServerOptions say what is served, and to whom.
type ServerOptions struct {
	Vault         vault.Vault
	Authenticator Authenticator
	TLS           *tls.Config // of Serve's listener; tokens authenticate, so no client certificate is asked for
	Version       string      // of the API, for its description; empty: "dev"
	OpenMetrics   bool        // /metrics without a token
	Limits        Limits
	Log           *slog.Logger // nil: slog.Default()
	// Ready tells why the vault cannot serve yet, or any more; nil: it always can
	// when Status answers.
	Ready func(context.Context) error
}

// Server serves the API. Safe for concurrent use.
type Server struct {
	vault    vault.Vault
	auth     Authenticator
	tls      *tls.Config
	limits   Limits
	log      *slog.Logger
	ready    func(context.Context) error
	open     bool // metrics
	mux      *http.ServeMux
	yaml     []byte
	paths    map[string]*huma.PathItem
	metrics  *metrics
	requests places
	streams  places
	closing  chan struct{}
	once     sync.Once

	asking   sync.Mutex // who asks whether the vault can serve; guards the two below
	answered time.Time
	standing ready
}

// ready is what was found out about whether the vault can serve.
type ready struct {
	readOnly bool
	err      error
}

// readyFor is how long an answer about readiness holds: anybody may ask, and finding
// out goes through the store.
const readyFor = time.Second

// NewServer registers all operations; it does not listen.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Vault == nil || o.Authenticator == nil {
		return nil, homeward.Errorf("make server", homeward.Invalid, "options", "give a vault and an authenticator", "one is missing")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	limits := o.Limits.withDefaults()
	s := &Server{
		vault: o.Vault, auth: o.Authenticator, tls: o.TLS, limits: limits, log: o.Log, ready: o.Ready, open: o.OpenMetrics,
		mux: http.NewServeMux(), requests: newPlaces(limits.Requests), streams: newPlaces(limits.Streams), closing: make(chan struct{}),
	}
	a := huma.NewAPI(config(o.Version), adapter{s.mux, o.Log})
	r := &routes{api: a, vault: o.Vault, problem: problemResponse(a), bodyTimeout: limits.Body}
	r.register()
	s.events(r)
	finish(a)
	s.paths = a.OpenAPI().Paths
	var err error
	if s.yaml, err = serveOpenAPI(s.mux, a); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(o.Vault, o.Log)
	s.mux.Handle("GET /metrics", s.metrics.handler())
	s.mux.HandleFunc("GET /healthz", s.health)
	s.mux.HandleFunc("GET /readyz", s.readiness)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		wire.WriteProblem(w, homeward.Errorf("read request", homeward.NotFound, r.Method+" "+r.URL.Path, "see /openapi.yaml for what there is", "there is no such operation"))
	})
	return s, nil
}

// OpenAPI is the description of the API, as YAML.
func (s *Server) OpenAPI() []byte { return s.yaml }

// Serve answers at remote, over TLS, and at local, a unix socket where root and the
// vault's own user are administrators without a token; either may be nil. It closes
// both, and returns when ctx ends and what was under way is finished, or was given
// up after five seconds. It can be called once.
func (s *Server) Serve(ctx context.Context, remote, local net.Listener) error {
	const grace = 5 * time.Second
	if remote != nil && s.tls == nil {
		return homeward.Errorf("serve", homeward.Invalid, "TLS", "give the vault's certificate", "tokens do not travel in the clear")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.metrics.follow(ctx); return nil })
	serve := func(l net.Listener, server *http.Server, run func(net.Listener) error) {
		group.Go(func() error {
			if err := run(l); !errors.Is(err, http.ErrServerClosed) {
				return homeward.Errorf("serve", homeward.IO, l.Addr().String(), "look at the log of the system", "%w", err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			s.once.Do(func() { close(s.closing) })
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			if server.Shutdown(last) != nil {
				return server.Close()
			}
			return nil
		})
	}
	if remote != nil {
		server := s.server()
		server.TLSConfig = s.tls.Clone()
		server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		}
		// Places are for callers: strangers have the lobby, which makes room by itself.
		serve(pki.NewLobby(bounded(remote, s.limits.Connections+pki.MaxLobby)), server, func(l net.Listener) error { return server.ServeTLS(l, "", "") })
	}
	if local != nil {
		server := s.server()
		server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			if b, ok := conn.(*boundedConn); ok {
				conn = b.Conn
			}
			return withPeer(ctx, conn)
		}
		serve(bounded(local, s.limits.Connections), server, server.Serve)
	}
	return group.Wait()
}

func (s *Server) server() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.Header,
		ReadTimeout:       s.limits.Header + s.limits.Body,
		WriteTimeout:      s.limits.Request + s.limits.Header,
		IdleTimeout:       s.limits.Idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what strangers do wrong
	}
}

// health says that the process answers.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	wire.WriteDocument(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readiness says that the vault can serve.
func (s *Server) readiness(w http.ResponseWriter, r *http.Request) {
	now := s.isReady(r.Context())
	if err := now.err; err != nil {
		wire.WriteProblem(w, homeward.Errorf("check readiness", homeward.Unavailable, "vault", "look at the log of the vault", "it cannot serve now (%s)", homeward.KindOf(err)))
		return
	}
	wire.WriteDocument(w, http.StatusOK, map[string]any{"status": "ok", "read_only": now.readOnly})
}

// isReady asks once for all who want to know at the same time; whether one of them
// goes away is nothing to the others.
func (s *Server) isReady(ctx context.Context) ready {
	s.asking.Lock()
	defer s.asking.Unlock()
	if time.Since(s.answered) < readyFor {
		return s.standing
	}
	ctx, cancel := context.WithTimeout(vault.WithCaller(context.WithoutCancel(ctx), itself), 5*time.Second)
	defer cancel()
	status, err := s.vault.Status(ctx)
	if err == nil && s.ready != nil {
		err = s.ready(ctx)
	}
	if err != nil {
		s.log.Warn("not ready", "err", err)
	}
	s.answered, s.standing = time.Now(), ready{status.ReadOnly, err}
	return s.standing
}

// itself asks for the server's own needs.
var itself = vault.Caller{Name: "api", Access: vault.Reader, From: "itself"}
