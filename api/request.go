package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/wire"
)

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

type requestKey struct{}

// arriving is a body on its way in. Once it is all there, the deadline for it must
// not end the request: the server takes a read that fails for a client that left.
type arriving struct {
	io.ReadCloser
	control *http.ResponseController
}

func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = a.control.SetReadDeadline(time.Time{}) // fails only where there are no deadlines
	}
	return n, err
}

// ServeHTTP takes a request in: it gets an id, a place among those served at once,
// a bound on its body and time, and its caller; then its operation answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails: it crashes the program instead
	id := hex.EncodeToString(raw[:])
	w.Header().Set(wire.RequestHeader, id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'") // nothing here is a page
	w.Header().Set("Cache-Control", "no-store")
	out := &recorder{ResponseWriter: w}
	ctx := context.WithValue(r.Context(), requestKey{}, id)
	free := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
	if r.URL.Path != eventsPath { // bounded by streams
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.limits.Request)
		defer cancel()
	} else {
		free = true
	}
	r = r.WithContext(ctx)
	var caller vault.Caller
	defer func() {
		s.metrics.request(r, out.status, time.Since(began))
		s.log.Debug("request", "id", id, "method", r.Method, "path", r.URL.Path, "status", out.status, "caller", caller.Name, "from", r.RemoteAddr, "took", time.Since(began))
	}()
	defer s.recovered(ctx, out)
	if !free {
		if !s.requests.take() {
			wire.WriteProblem(out, homeward.Errorf("read request", homeward.Busy, "vault", "try again in a moment", "%d requests are under way", s.limits.Requests))
			return
		}
		defer s.requests.give()
	}
	caller, err := s.admit(r)
	if err != nil {
		if homeward.KindOf(err) == homeward.Unauthentic {
			w.Header().Set("WWW-Authenticate", `Bearer realm="homeward"`)
		}
		wire.WriteProblem(out, err)
		return
	}
	if r.URL.Path == eventsPath {
		asked := r
		ctx = context.WithValue(ctx, admittedKey{}, func() error { _, err := s.admit(asked); return err })
	}
	r = r.WithContext(vault.WithCaller(ctx, caller))
	// Huma refuses what is longer than maxBody; this is for what it does not read.
	body := &arriving{r.Body, http.NewResponseController(out)}
	if r.Body == http.NoBody {
		_, _ = body.Read(nil) // it is all there
	}
	r.Body = http.MaxBytesReader(out, body, maxBody+1)
	s.mux.ServeHTTP(out, r)
}

const eventsPath = "/v1/events"

// admit finds out who asks. Nobody needs to say so to learn that the server lives,
// and what it can do.
func (s *Server) admit(r *http.Request) (vault.Caller, error) {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/openapi.json", "/openapi.yaml":
		return vault.Caller{}, nil
	case "/metrics":
		if s.open {
			return vault.Caller{}, nil
		}
	}
	caller, err := s.caller(r)
	if err == nil && !caller.Access.Includes(vault.Reader) {
		err = homeward.Errorf("authenticate", homeward.Forbidden, caller.Name, "use a token of access reader or more", "it may not even read")
	}
	return caller, err
}

// recovered makes an Internal problem of a panic.
func (s *Server) recovered(ctx context.Context, out *recorder) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // somebody wants the connection closed
	}
	err := s.panicked(ctx, p)
	if out.status != 0 {
		panic(http.ErrAbortHandler) // a half answer must not look whole
	}
	wire.WriteProblem(out, err)
}

// panicked logs a panic and makes an error of it that tells nobody its text.
func (s *Server) panicked(ctx context.Context, p any) error {
	id, _ := ctx.Value(requestKey{}).(string)
	s.log.Error("panic in a request", "id", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return homeward.Errorf("answer request", homeward.Internal, "", "look for request "+id+" in the log of the vault, and report it", "a defect of the vault")
}
