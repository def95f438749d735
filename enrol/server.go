package enrol

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/wire"
)

// Lifetimes of tokens.
const (
	DefaultTokenLifetime = time.Hour
	MaxTokenLifetime     = 7 * 24 * time.Hour
)

// atOnce is how many requests are worked on at a time; the next is told to retry.
const atOnce = 32

// Table is what the server needs of a store.Table; keys are the ids of
// tokens and the names of nodes.
type Table[T any] interface {
	Get(ctx context.Context, key string) (T, error) // NotFound
	Insert(ctx context.Context, v *T) error         // Exists
	Change(ctx context.Context, key string, do func(*T) error) (T, error)
}

// Options are for NewServer.
type Options struct {
	Enrolments Table[store.Enrolment]
	Nodes      Table[vault.Node]
	// Tx makes all changes under the inner context, or none.
	Tx        func(ctx context.Context, do func(context.Context) error) error
	Authority *pki.Authority
	Identity  *pki.Identity // the vault's own
	// Addresses are where nodes reach the vault; told with every answer.
	Addresses []vault.Address
	// Lifetime of certificates; 0: pki.DefaultLifetime.
	Lifetime time.Duration
	// Changed is told of a node that was entered or renewed; may be nil.
	Changed func(ctx context.Context, name string)
	// Audit writes down what was asked for, and what became of it; may be nil.
	Audit func(ctx context.Context, e vault.AuditEntry) error
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger
}

// Server is the vault's end. Safe for concurrent use.
type Server struct {
	o     Options
	limit *limiter
	slots chan struct{}
}

// NewServer checks the options.
func NewServer(o Options) (*Server, error) {
	if o.Enrolments == nil || o.Nodes == nil || o.Tx == nil || o.Authority == nil || o.Identity == nil || o.Log == nil {
		return nil, homeward.Errorf("make enrolment server", homeward.Invalid, "options", "give Enrolments, Nodes, Tx, Authority, Identity and Log", "one of them is missing")
	}
	if err := ValidateAddresses(o.Addresses); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{o: o, limit: newLimiter(o.Now), slots: make(chan struct{}, atOnce)}, nil
}

// TLS is what its listener uses, and no other one.
func (s *Server) TLS() *tls.Config {
	config := s.o.Identity.EnrolmentTLS()
	config.NextProtos = []string{http1} // offered beside Protocol, which is for Split alone
	return config
}

// Serve answers nodes on ln, which is not encrypted yet, until ctx ends; then it
// closes ln, lets what it is answering end, and returns nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       20 * time.Second,
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	server.SetKeepAlivesEnabled(false) // a node asks once in weeks
	served := make(chan error, 1)
	go func() { served <- server.Serve(tls.NewListener(ln, s.TLS())) }()
	select {
	case err := <-served:
		return homeward.Errorf("serve enrolment", homeward.IO, ln.Addr().String(), "start it again", "%w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if stopped := <-served; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, stopped)
	}
	return err
}

// Handler serves the two paths. Its requests must have come through TLS.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+nodePath, serve(s, s.enrol))
	mux.Handle("POST "+renewPath, serve(s, s.renew))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		wire.WriteProblem(w, homeward.Errorf("call", homeward.NotFound, r.Method+" "+r.URL.Path,
			"enrolment and renewal alone are served here", "no such path"))
	})
	return mux
}

// caller is who sent a request.
type caller struct {
	from string               // address without port
	tls  *tls.ConnectionState // nil: none
}

func serve[Req any](s *Server, do func(context.Context, caller, Req) (Answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := admit(s, w, r, do)
		if err != nil {
			wire.WriteProblem(w, err)
			return
		}
		wire.WriteDocument(w, http.StatusOK, answer)
	})
}

func admit[Req any](s *Server, w http.ResponseWriter, r *http.Request, do func(context.Context, caller, Req) (Answer, error)) (Answer, error) {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	if err := s.limit.check(from); err != nil {
		return Answer{}, err
	}
	var req Req
	if err := decode(http.MaxBytesReader(w, r.Body, MaxBody), &req); err != nil {
		return Answer{}, err
	}
	// A place is for work: who only sends slowly has none.
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return Answer{}, homeward.Errorf("enrol", homeward.Busy, "", "retry after a while", "too many nodes enrol at once")
	}
	answer, err := do(r.Context(), caller{from, r.TLS}, req)
	if homeward.KindOf(err) == homeward.Unauthentic {
		s.limit.failed(from)
	}
	return answer, err
}

// CreateToken makes a token; its Secret is in this answer alone. Errors: Invalid
// names the field.
func (s *Server) CreateToken(ctx context.Context, r vault.EnrolmentRequest) (vault.EnrolmentToken, error) {
	bad := func(field, remedy, format string, args ...any) (vault.EnrolmentToken, error) {
		return vault.EnrolmentToken{}, homeward.Errorf("create enrolment token", homeward.Invalid, field, remedy, format, args...)
	}
	if r.Lifetime == 0 {
		r.Lifetime = DefaultTokenLifetime
	}
	name := r.Node
	if name == "" {
		name = "any"
	}
	switch err := (pki.Peer{Role: r.Role, Name: name}).Validate(); {
	case err != nil:
		return vault.EnrolmentToken{}, err
	case r.Role == pki.Vault:
		return bad("role", "give agent, process-server, master-target or configuration-server", "a vault is not enrolled")
	case homeward.ItemID(r.Site).Validate() != nil:
		return bad("site", "give the name of the node's site", "not the name of a site: %q", r.Site)
	case r.Lifetime < 0 || r.Lifetime > MaxTokenLifetime:
		return bad("lifetime", "give at most seven days", "%v", r.Lifetime)
	}
	token := newToken(s.o.Authority.Fingerprint())
	e := store.Enrolment{Hash: token.hash(), EnrolmentToken: vault.EnrolmentToken{
		ID: token.ID, Role: r.Role, Site: r.Site, Node: r.Node, Expires: s.o.Now().Add(r.Lifetime).UTC(),
	}}
	if err := s.o.Enrolments.Insert(ctx, &e); err != nil {
		return vault.EnrolmentToken{}, homeward.Wrap(err, "create enrolment token", token.ID)
	}
	made := e.EnrolmentToken
	made.Secret = token.Reveal()
	return made, nil
}

// audit writes an entry about a node's request. That it cannot be written does not
// undo what was done: it is logged.
func (s *Server) audit(ctx context.Context, who caller, action, subject, detail string, err error) {
	if s.o.Audit == nil {
		return
	}
	e := vault.AuditEntry{At: s.o.Now().UTC(), Caller: "node", From: who.from, Action: action, Subject: subject, Detail: detail, Outcome: "accepted"}
	if err != nil {
		e.Outcome = string(homeward.KindOf(err))
	}
	if err := s.o.Audit(ctx, e); err != nil {
		s.o.Log.Error("an audit entry could not be written", "action", action, "subject", subject, "error", err)
	}
}

func (s *Server) changed(ctx context.Context, name string) {
	if s.o.Changed != nil {
		s.o.Changed(ctx, name)
	}
}
