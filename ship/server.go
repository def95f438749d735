package ship

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/homeward-dr/homeward"
)

// NewServer is an HTTP/1.1 server for h whose every wait has a deadline: 10 s
// for a handshake and for a request's header (at most 16 KiB), two minutes for a
// connection's next request. Bodies and answers have those of NewHandler; another
// handler on the same server sets its own (http.ResponseController).
//
// tlsConfig nil: plain TCP, for tests. Else it is used with TLS 1.3 or newer.
func NewServer(h http.Handler, tlsConfig *tls.Config, log *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	s := &http.Server{
		Handler:           h,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if tlsConfig != nil {
		s.TLSConfig = tlsConfig.Clone()
		s.TLSConfig.MinVersion = tls.VersionTLS13
	}
	return s
}

// Serve serves on l until ctx ends, then lets running requests finish for at
// most five seconds, cuts the rest off and returns nil. l is closed.
func Serve(ctx context.Context, s *http.Server, l net.Listener) error {
	done := make(chan error, 1)
	go func() {
		if s.TLSConfig != nil {
			done <- s.ServeTLS(l, "", "")
			return
		}
		done <- s.Serve(l)
	}()
	select {
	case err := <-done:
		return homeward.Errorf("serve", homeward.Unavailable, l.Addr().String(), "look at the cause and start again", "%w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.Close()
	}
	if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return homeward.Wrap(err, "stop serving", l.Addr().String())
}
