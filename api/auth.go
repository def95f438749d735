package api

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Authenticator knows the API tokens. Unauthentic for a secret that is unknown,
// expired or deleted; Unavailable and others when that cannot be found out.
type Authenticator interface {
	Authenticate(ctx context.Context, secret string) (vault.Caller, error)
}

// LocalCaller is the name of the break-glass administrator: whoever speaks to the
// unix socket as root, or as the user that the vault runs as.
const LocalCaller = "local"

const maxSecret = 1024 // bytes

type peerKey struct{}

// connKey is of the connection that a request came over, from afar.
type connKey struct{}

// withPeer keeps whether the other end of a unix socket is the local administrator.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peerUID(conn)
	if err != nil || (uid != 0 && uid != os.Geteuid()) {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// caller is who asks. A token counts more than the socket it came through.
func (s *Server) caller(r *http.Request) (vault.Caller, error) {
	const op = "authenticate"
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	header := r.Header.Get("Authorization")
	uid, local := r.Context().Value(peerKey{}).(int)
	switch {
	case header == "" && local:
		return vault.Caller{Name: LocalCaller, Access: vault.Administrator, From: "uid " + strconv.Itoa(uid)}, nil
	case header == "":
		return vault.Caller{}, homeward.Errorf(op, homeward.Unauthentic, "Authorization", "send 'Authorization: Bearer <secret>': 'homeward token create' makes a token", "no API token was sent")
	}
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" || len(secret) > maxSecret {
		return vault.Caller{}, homeward.Errorf(op, homeward.Unauthentic, "Authorization", "send 'Authorization: Bearer <secret>'", "it is no bearer token")
	}
	caller, err := s.auth.Authenticate(r.Context(), secret)
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok && err == nil {
		pki.Seat(conn)
	}
	caller.From = from
	return caller, err
}
