package api

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward/api/apitest"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// face is a server that listens, and what it takes to call it.
type face struct {
	*Server
	t      *testing.T
	url    string
	ca     string // path
	socket string
	secret map[vault.Access]string
}

// identity makes an authority and a node's certificate of it.
func identity(t *testing.T, role pki.Role) (conf *tls.Config, ca string) {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.CreateAuthority(durable.OS(), filepath.Join(dir, "ca"), "test")
	must(t, err)
	must(t, authority.Issue(pki.Request{Peer: pki.Peer{Role: role, Name: "vault"}}, filepath.Join(dir, "id")))
	id, err := pki.LoadIdentity(durable.OS(), filepath.Join(dir, "id"))
	must(t, err)
	chain, err := id.ServerTLS().GetCertificate(nil)
	must(t, err)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*chain}}, filepath.Join(dir, "ca", "ca.pem")
}

// serve runs a server of v until the test ends. If v is no Authenticator, each
// access is its own secret.
func serve(t *testing.T, v vault.Vault, change ...func(*ServerOptions)) *face {
	t.Helper()
	conf, ca := identity(t, pki.Vault)
	o := ServerOptions{Vault: v, Authenticator: plainTokens{}, TLS: conf, Log: slog.New(slog.DiscardHandler)}
	f := &face{t: t, ca: ca, socket: filepath.Join(t.TempDir(), "s"), secret: map[vault.Access]string{}}
	for _, access := range accesses {
		f.secret[access] = string(access)
	}
	for _, c := range change {
		c(&o)
	}
	s, err := NewServer(o)
	must(t, err)
	remote, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	local, err := net.Listen("unix", f.socket)
	must(t, err)
	f.Server, f.url = s, "https://"+remote.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, remote, local) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return f
}

var accesses = []vault.Access{vault.Reader, vault.Operator, vault.Contributor, vault.Administrator}

// plainTokens takes the name of an access for a secret.
type plainTokens struct{}

func (plainTokens) Authenticate(_ context.Context, secret string) (vault.Caller, error) {
	for _, a := range accesses {
		if secret == string(a) {
			return vault.Caller{Name: secret, Access: a}, nil
		}
	}
	return vault.Caller{}, wrongToken()
}

// memory serves an apitest.Memory, with real tokens.
func memory(t *testing.T, change ...func(*ServerOptions)) (*face, *apitest.Memory) {
	t.Helper()
	m := apitest.NewMemory()
	t.Cleanup(m.Close)
	f := serve(t, m, append([]func(*ServerOptions){func(o *ServerOptions) { o.Authenticator = m }}, change...)...)
	admin := vault.WithCaller(t.Context(), vault.Caller{Name: "test", Access: vault.Administrator})
	for _, access := range accesses {
		token, err := m.CreateToken(admin, vault.TokenRequest{Name: string(access), Access: access})
		must(t, err)
		f.secret[access] = token.Secret
	}
	return f, m
}

// client is one with that access; "" has a token that nobody knows.
func (f *face) client(access vault.Access, change ...func(*ClientOptions)) *Client {
	f.t.Helper()
	o := ClientOptions{URL: f.url, Token: f.secret[access], CA: f.ca}
	if access == "" {
		o.Token = "hw.nobody.0"
	}
	for _, c := range change {
		c(&o)
	}
	c, err := NewClient(o)
	must(f.t, err)
	f.t.Cleanup(c.Close)
	return c
}

// raw sends a request as it is, and answers status, header and body.
func (f *face) raw(access vault.Access, method, path, body string, header ...string) (*http.Response, string) {
	f.t.Helper()
	c := f.client(access)
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.url+path, strings.NewReader(body))
	must(f.t, err)
	req.Header.Set("Authorization", "Bearer "+f.secret[access])
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	must(f.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(f.t, err)
	return resp, string(data)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// atOnce takes the waiting out of a client's retries.
func atOnce(c *Client) *Client {
	c.wait = func(ctx context.Context, _ int) error { return ctx.Err() }
	return c
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func tlsClient(conn net.Conn, conf *tls.Config) net.Conn { return tls.Client(conn, conf) }

func certificateOf(t *testing.T, path string) []byte {
	t.Helper()
	data, err := durable.ReadFile(durable.OS(), path)
	must(t, err)
	block, _ := pem.Decode(data)
	return block.Bytes
}
