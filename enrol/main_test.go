package enrol

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	quiet  = slog.New(slog.DiscardHandler)
	agent1 = pki.Peer{Role: pki.Agent, Name: "agent-1"}
)

// memory is a store in memory: transactions take turns and roll back.
type memory struct {
	mu         sync.Mutex
	enrolments rows[store.Enrolment]
	nodes      rows[vault.Node]
}

type inTx struct{}

func newMemory() *memory {
	m := &memory{}
	m.enrolments = rows[store.Enrolment]{m, func(e *store.Enrolment) string { return e.ID }, map[string]store.Enrolment{}}
	m.nodes = rows[vault.Node]{m, func(n *vault.Node) string { return n.Name }, map[string]vault.Node{}}
	return m
}

func (m *memory) tx(ctx context.Context, do func(context.Context) error) error {
	if ctx.Value(inTx{}) != nil {
		return do(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, n := maps.Clone(m.enrolments.all), maps.Clone(m.nodes.all)
	err := do(context.WithValue(ctx, inTx{}, true))
	if err != nil {
		m.enrolments.all, m.nodes.all = e, n
	}
	return err
}

type rows[T any] struct {
	m   *memory
	key func(*T) string
	all map[string]T
}

func (r *rows[T]) Get(ctx context.Context, key string) (v T, err error) {
	err = r.m.tx(ctx, func(context.Context) error {
		var known bool
		if v, known = r.all[key]; !known {
			return homeward.Errorf("get", homeward.NotFound, key, "check it", "no such row")
		}
		return nil
	})
	return v, err
}

func (r *rows[T]) Insert(ctx context.Context, v *T) error {
	return r.m.tx(ctx, func(context.Context) error {
		if _, known := r.all[r.key(v)]; known {
			return homeward.Errorf("insert", homeward.Exists, r.key(v), "change it", "is there")
		}
		r.all[r.key(v)] = *v
		return nil
	})
}

func (r *rows[T]) Change(ctx context.Context, key string, do func(*T) error) (v T, err error) {
	err = r.m.tx(ctx, func(ctx context.Context) error {
		if v, err = r.Get(ctx, key); err != nil {
			return err
		}
		if err := do(&v); err != nil {
			return err
		}
		r.all[key] = v
		return nil
	})
	return v, err
}

// clock can be set.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// installation is a vault's enrolment server on a real socket.
type installation struct {
	t         *testing.T
	store     *memory
	clock     *clock
	caDir     string
	vaultDir  string
	authority *pki.Authority
	vault     *pki.Identity
	server    *Server
	addr      string
	mu        sync.Mutex
	audits    []vault.AuditEntry
	changed   []string
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	in := &installation{t: t, store: newMemory(), clock: &clock{}}
	in.caDir, in.vaultDir = filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "vault")
	var err error
	if in.authority, err = pki.CreateAuthority(durable.OS(), in.caDir, "test"); err != nil {
		t.Fatal(err)
	}
	if err := in.authority.Issue(pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "v1"}}, in.vaultDir); err != nil {
		t.Fatal(err)
	}
	in.vault = in.load(in.vaultDir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in.addr = ln.Addr().String()
	in.server, err = NewServer(Options{
		Enrolments: &in.store.enrolments, Nodes: &in.store.nodes, Tx: in.store.tx,
		Authority: in.authority, Identity: in.vault, Log: quiet, Now: in.clock.now,
		Addresses: []vault.Address{{Host: "back.example:7443", Purpose: vault.Failback}, {Host: in.addr, Purpose: vault.Production}},
		Changed: func(_ context.Context, name string) {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.changed = append(in.changed, name)
		},
		Audit: func(_ context.Context, e vault.AuditEntry) error {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.audits = append(in.audits, e)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return in
}

func (in *installation) load(dir string) *pki.Identity {
	in.t.Helper()
	id, err := pki.LoadIdentity(durable.OS(), dir)
	if err != nil {
		in.t.Fatal(err)
	}
	return id
}

func (in *installation) token(r vault.EnrolmentRequest) Token {
	in.t.Helper()
	made, err := in.server.CreateToken(in.t.Context(), r)
	if err != nil {
		in.t.Fatal(err)
	}
	token, err := ParseToken(made.Secret)
	if err != nil {
		in.t.Fatal(err)
	}
	return token
}

// request is a node that asks honestly, with a directory of its own.
func (in *installation) request(token Token, peer pki.Peer) Request {
	return Request{
		Vaults: []string{in.addr}, Token: token, Peer: peer, Version: "test",
		Dir: filepath.Join(in.t.TempDir(), "identity"), FS: durable.OS(), Log: quiet,
		Addresses: []vault.Address{{Host: "10.0.0.1:7001", Purpose: vault.Production}},
	}
}

// enrolled is a node that was let in.
func (in *installation) enrolled(peer pki.Peer) (*pki.Identity, Request) {
	in.t.Helper()
	r := in.request(in.token(vault.EnrolmentRequest{Role: peer.Role, Site: "home", Node: peer.Name}), peer)
	if err := Enrol(in.within(), r); err != nil {
		in.t.Fatal(err)
	}
	return in.load(r.Dir), r
}

func (in *installation) node(name string) vault.Node {
	in.t.Helper()
	n, err := in.store.nodes.Get(in.t.Context(), name)
	if err != nil {
		in.t.Fatal(err)
	}
	return n
}

func (in *installation) renew(id *pki.Identity, r Request) error {
	return renewOnce(in.within(), id, Renew(id, durable.OS(), r.Dir, r.Vaults))
}

func (in *installation) within() context.Context {
	ctx, cancel := context.WithTimeout(in.t.Context(), 20*time.Second)
	in.t.Cleanup(cancel)
	return ctx
}

func wantKind(t *testing.T, err error, kind homeward.Kind, words ...string) {
	t.Helper()
	if err == nil || homeward.KindOf(err) != kind {
		t.Fatalf("got %v (kind %s), want kind %s", err, homeward.KindOf(err), kind)
	}
	if homeward.RemedyOf(err) == "" {
		t.Errorf("%v: no remedy", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: does not say %q", err, w)
		}
	}
}

// errLost is an answer that got lost.
var errLost = errors.New("lost")

func tlsHandshake(conn net.Conn, config *tls.Config) error {
	defer conn.Close()
	return tls.Client(conn, config).Handshake()
}
