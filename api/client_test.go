package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

func TestClient_Options(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	must(t, durable.WriteFile(durable.OS(), empty, []byte("nothing"), 0o600))
	for name, o := range map[string]ClientOptions{
		"URL":         {},
		"in clear":    {URL: "http://vault:8440"},
		"no host":     {URL: "https://"},
		"user":        {URL: "https://me:pw@vault"},
		"no path":     {URL: "unix://"},
		"token":       {URL: "https://vault", Token: "two\nlines"},
		"fingerprint": {URL: "https://vault", Fingerprint: "abc"},
		"empty CA":    {URL: "https://vault", CA: empty},
	} {
		if _, err := NewClient(o); homeward.KindOf(err) != homeward.Invalid || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewClient(ClientOptions{URL: "https://vault", CA: empty + ".none"}); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("no CA: %v", err)
	}
}

// TestClient_Pins: a vault is who it is by its authority or fingerprint, and a node
// with a certificate of the same authority is not the vault.
func TestClient_Pins(t *testing.T) {
	f, _ := memory(t)
	status := func(change func(*ClientOptions)) error {
		_, err := atOnce(f.client(vault.Reader, change)).Status(t.Context())
		return err
	}
	leaf := sha256.Sum256(f.Server.tls.Certificates[0].Certificate[0])
	for name, pin := range map[string]string{"plain": hex.EncodeToString(leaf[:]), "bytes": hexPairs(leaf[:])} {
		if err := status(func(o *ClientOptions) { o.CA, o.Fingerprint = "", pin }); err != nil {
			t.Errorf("%s fingerprint: %v", name, err)
		}
	}
	_, otherCA := identity(t, pki.Vault)
	for name, change := range map[string]func(*ClientOptions){
		"other fingerprint": func(o *ClientOptions) { o.CA, o.Fingerprint = "", strings.Repeat("0", 64) },
		"other authority":   func(o *ClientOptions) { o.CA = otherCA },
		"of the system":     func(o *ClientOptions) { o.CA = "" },
	} {
		if err := status(change); homeward.KindOf(err) != homeward.Unauthentic || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	conf, ca := identity(t, pki.Agent)
	m := serve(t, &failing{}, func(o *ServerOptions) { o.TLS = conf })
	if _, err := m.client(vault.Reader, func(o *ClientOptions) { o.CA = ca }).Status(t.Context()); homeward.KindOf(err) != homeward.Unauthentic {
		t.Errorf("an agent passes for the vault: %v", err)
	}
}

// TestClient_PinnedAuthority: the fingerprint of the authority is enough when the
// vault sends its certificate along.
func TestClient_PinnedAuthority(t *testing.T) {
	conf, ca := identity(t, pki.Vault)
	root := certificateOf(t, ca)
	conf.Certificates[0].Certificate = append(conf.Certificates[0].Certificate[:1:1], root)
	f := serve(t, &failing{}, func(o *ServerOptions) { o.TLS = conf })
	pin := sha256.Sum256(root)
	_, err := f.client(vault.Reader, func(o *ClientOptions) { o.CA, o.Fingerprint = "", hex.EncodeToString(pin[:]) }).Site(t.Context(), "home")
	must(t, err)
}

func hexPairs(b []byte) string {
	pairs := make([]string, len(b))
	for i := range b {
		pairs[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.ToUpper(strings.Join(pairs, ":"))
}

// TestClient_Retries: reads are made again while the vault is unavailable, changes
// never.
func TestClient_Retries(t *testing.T) {
	v := &failing{err: homeward.Errorf("read", homeward.Unavailable, "store", "wait", "gone for a minute")}
	c := atOnce(serve(t, v).client(vault.Administrator))
	_, err := c.Site(t.Context(), "home")
	if homeward.KindOf(err) != homeward.Unavailable || v.calls != attempts {
		t.Errorf("%d attempts at a read: %v", v.calls, err)
	}
	v.calls = 0
	_, err = c.PutSite(t.Context(), vault.SiteRequest{Name: "home"})
	if homeward.KindOf(err) != homeward.Unavailable || v.calls != 1 {
		t.Errorf("%d attempts at a change: %v", v.calls, err)
	}
	v.set(homeward.Errorf("read", homeward.NotFound, "site", "look", "none"))
	v.calls = 0
	if _, err = c.Site(t.Context(), "home"); v.calls != 1 {
		t.Errorf("%d attempts at what is not there: %v", v.calls, err)
	}
}

func TestClient_Unreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l.Close()
	c, err := NewClient(ClientOptions{URL: "https://" + l.Addr().String(), Token: "x"})
	must(t, err)
	if _, err := atOnce(c).Status(t.Context()); homeward.KindOf(err) != homeward.Unavailable || homeward.RemedyOf(err) == "" {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); homeward.KindOf(err) != homeward.Canceled {
		t.Errorf("given up: %v", err)
	}
	o := &odd{entered: make(chan struct{}, 9), release: make(chan struct{})}
	slow := serve(t, o).client(vault.Reader, func(o *ClientOptions) { o.Timeout = 50 * time.Millisecond })
	if _, err := slow.Site(t.Context(), "home"); homeward.KindOf(err) != homeward.Timeout {
		t.Errorf("no answer in time: %v", err)
	}
}

// TestClient_NotAVault: answers of something else are errors that say so.
func TestClient_NotAVault(t *testing.T) {
	var answer http.HandlerFunc
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer s.Close()
	pin := sha256.Sum256(s.Certificate().Raw)
	c, err := NewClient(ClientOptions{URL: s.URL, Fingerprint: hex.EncodeToString(pin[:])})
	must(t, err)
	defer c.Close()
	for name, a := range map[string]http.HandlerFunc{
		"page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.invalid", http.StatusFound)
		},
		"proxy":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
		"cut off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		answer = a
		if _, err := atOnce(c).Status(t.Context()); err == nil || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.DeleteSite(t.Context(), "x"); name != "page" && err == nil {
			t.Errorf("%s: a site is said to be deleted", name)
		}
	}
}

func FuzzRevisionOf(f *testing.F) {
	f.Add(`"7"`)
	f.Add(`W/"7"`)
	f.Fuzz(func(t *testing.T, header string) {
		n, err := revisionOf(header)
		if err == nil && n != 0 && etag(n) != header {
			if again, err := revisionOf(etag(n)); err != nil || again != n {
				t.Errorf("%q is %d, which is %q", header, n, etag(n))
			}
		}
		if err != nil && homeward.KindOf(err) != homeward.Invalid {
			t.Error(err)
		}
	})
}
