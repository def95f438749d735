package role

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPing is short enough to wait for, long enough for a busy machine.
const testPing = 2 * time.Second

var (
	agent1 = pki.Peer{Role: pki.Agent, Name: "agent-1"}
	quiet  = slog.New(slog.DiscardHandler)
)

// installation is an authority, a hub that listens, and roles that dial it.
type installation struct {
	t         *testing.T
	authority *pki.Authority
	hub       *Hub
	addr      string
	options   HubOptions // of the next hub that starts: what a test set
	roles     sync.WaitGroup
	stopHub   func()
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	a, err := pki.CreateAuthority(durable.OS(), filepath.Join(t.TempDir(), "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{t: t, authority: a, addr: "127.0.0.1:0"}
	in.startHub()
	t.Cleanup(func() { in.roles.Wait() }) // registered first: runs after every role was stopped
	t.Cleanup(func() { in.stopHub() })
	return in
}

// startHub listens, on the same address as before if there was one.
func (in *installation) startHub() {
	in.t.Helper()
	ln, err := net.Listen("tcp", in.addr)
	if err != nil {
		in.t.Fatal(err)
	}
	in.addr = ln.Addr().String()
	in.options.TLS = in.identity(pki.Peer{Role: pki.Vault, Name: "vault"}).ServerTLS(pki.Roles()...)
	in.options.Version, in.options.Log, in.options.Ping = "test", quiet, testPing
	in.hub = NewHub(in.options)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.hub.Serve(ctx, ln) }()
	in.stopHub = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			in.t.Errorf("hub: %v", err)
		}
	})
}

func (in *installation) identity(p pki.Peer) *pki.Identity {
	in.t.Helper()
	return issueBy(in.t, in.authority, p)
}

func issueBy(t *testing.T, a *pki.Authority, p pki.Peer) *pki.Identity {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "identity")
	if err := a.Issue(pki.Request{Peer: p}, dir); err != nil {
		t.Fatal(err)
	}
	id, err := pki.LoadIdentity(durable.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// dialling is the options of a role that is who it says.
func (in *installation) dialling(p pki.Peer, h http.Handler) Options {
	in.t.Helper()
	return Options{
		Controllers: []string{in.addr}, TLS: in.identity(p).ClientTLS(pki.Vault), Hello: Hello{Peer: p, Version: "test"},
		Handler: h, Log: quiet, Ping: testPing, MaxBackoff: 50 * time.Millisecond,
	}
}

// start runs a role until stop is called or the test ends.
func (in *installation) start(o Options) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	in.roles.Go(func() {
		defer close(done)
		if err := Serve(ctx, o); err != nil {
			in.t.Errorf("role: %v", err)
		}
	})
	in.t.Cleanup(cancel)
	return func() { cancel(); <-done }
}

func (in *installation) wait(name string) *Node {
	in.t.Helper()
	n, err := in.hub.Wait(within(in.t), name)
	if err != nil {
		in.t.Fatal(err)
	}
	return n
}

// within bounds how long a test waits for what must come.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// next is the next event about a node being connected, or lost.
func next(t *testing.T, events <-chan Event, connected bool) Event {
	t.Helper()
	ctx := within(t)
	for {
		select {
		case e := <-events:
			if e.Connected == connected {
				return e
			}
		case <-ctx.Done():
			t.Fatalf("no event with connected=%v", connected)
		}
	}
}

func wantKind(t *testing.T, err error, kind homeward.Kind) {
	t.Helper()
	if err == nil || homeward.KindOf(err) != kind {
		t.Fatalf("got %v (kind %s), want kind %s", err, homeward.KindOf(err), kind)
	}
}
