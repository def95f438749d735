package fleet

import (
	"context"
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// stand is a fleet over a real store, with simulated nodes and a clock that the
// test moves. Nothing runs by itself: step does what Run would do in a tick.
type stand struct {
	t         testing.TB
	store     *store.Store
	dir       string // of the authority
	authority *pki.Authority
	identity  *pki.Identity
	hub       *role.Hub
	fleet     *Fleet
	pairs     []Pair

	mu    sync.Mutex
	time  time.Time
	nodes map[string]*simulated
}

// simulated is a node.
type simulated struct {
	s       *stand
	mu      sync.Mutex
	away    bool
	old     bool // knows no heartbeats
	skew    time.Duration
	report  homeward.HealthReport
	asked   []homeward.HealthRequest
	probed  []homeward.ProbeRequest
	reaches bool
}

func (n *simulated) Health(_ context.Context, r homeward.HealthRequest) (homeward.HealthReport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return homeward.HealthReport{}, homeward.Errorf("call", homeward.Unavailable, "node", "wait", "it is not connected")
	}
	if n.old {
		return homeward.HealthReport{}, homeward.Errorf("call", homeward.Unsupported, "node", "update it", "no such call")
	}
	n.asked = append(n.asked, r)
	report := n.report
	report.At = n.s.now().Add(n.skew)
	if !r.Generations {
		report.Generations = nil
	}
	return report, nil
}

func (n *simulated) Probe(_ context.Context, r homeward.ProbeRequest) (homeward.ProbeReport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return homeward.ProbeReport{}, homeward.Errorf("call", homeward.Unavailable, "node", "wait", "it is not connected")
	}
	n.probed = append(n.probed, r)
	return homeward.ProbeReport{Reachable: n.reaches, RTT: time.Millisecond, Rate: 1e8}, nil
}

// set changes a node under its lock.
func (n *simulated) set(do func(*simulated)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do(n)
}

func newStand(t testing.TB) *stand {
	t.Helper()
	s := &stand{t: t, nodes: map[string]*simulated{}, time: time.Now().Truncate(time.Second)}
	var err error
	s.dir = filepath.Join(t.TempDir(), "ca")
	if s.authority, err = pki.CreateAuthority(durable.OS(), s.dir, "test"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "vault")
	if err := s.authority.Issue(pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "v1"}}, dir); err != nil {
		t.Fatal(err)
	}
	if s.identity, err = pki.LoadIdentity(durable.OS(), dir); err != nil {
		t.Fatal(err)
	}
	if s.store, err = store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "vault.db"), Log: quiet, Now: s.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	s.open()
	return s
}

// open makes the fleet, again as after a restart of the vault.
func (s *stand) open() {
	s.t.Helper()
	s.hub = role.NewHub(role.HubOptions{TLS: &tls.Config{}, Log: quiet})
	var err error
	s.fleet, err = Open(s.t.Context(), Options{Store: s.store, Hub: s.hub, Authority: s.authority, Identity: s.identity, Log: quiet, Now: s.now,
		Pairs:  func(context.Context) ([]Pair, error) { return s.pairs, nil },
		Member: func(n *role.Node) homeward.Member { return s.simulated(n.Name()) }})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) simulated(name string) *simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes[name] == nil {
		s.nodes[name] = &simulated{s: s, reaches: true}
	}
	return s.nodes[name]
}

func (s *stand) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.time
}

// enrol enters a node as package enrol does.
func (s *stand) enrol(name string, r pki.Role, site string) *simulated {
	s.t.Helper()
	now := s.now()
	n := vault.Node{Name: name, Role: r, Site: site, State: vault.NodeRegistering, Enrolled: now,
		Certificates: []pki.Issued{{Serial: "a1" + hexOf(name), From: now, Until: now.Add(pki.DefaultLifetime)}},
		Addresses:    []vault.Address{{Host: name + ":1", Purpose: vault.Production}, {Host: name + ":2", Purpose: vault.Failback}}}
	if err := s.store.Nodes.Insert(s.t.Context(), &n); err != nil {
		s.t.Fatal(err)
	}
	if err := s.fleet.Learn(s.t.Context(), name); err != nil {
		s.t.Fatal(err)
	}
	return s.simulated(name)
}

func hexOf(name string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range []byte(name) {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

func (s *stand) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.time = s.time.Add(d)
}

// step lets d pass and then does what Run does, to its end.
func (s *stand) step(d time.Duration) {
	s.t.Helper()
	s.pass(d)
	s.fleet.dispatch(s.t.Context())
	s.fleet.probe(s.t.Context())
	s.fleet.work.Wait()
	if err := s.fleet.flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) row(name string) vault.Node {
	s.t.Helper()
	n, err := s.store.Nodes.Get(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// open alerts, as "subject: code".
func (s *stand) alerts() []string {
	s.t.Helper()
	var all []string
	for a, err := range s.store.Alerts.All(s.t.Context(), vault.Query{State: store.AlertRaised}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if a.Text == "" || a.Remedy == "" || a.Raised.IsZero() {
			s.t.Errorf("alert %+v", a)
		}
		all = append(all, a.Subject+": "+a.Code)
	}
	slices.Sort(all)
	return all
}

func (s *stand) wantAlerts(want ...string) {
	s.t.Helper()
	if got := s.alerts(); !slices.Equal(got, want) {
		s.t.Errorf("open alerts %q, want %q", got, want)
	}
}

func wantKind(t *testing.T, err error, kind homeward.Kind) {
	t.Helper()
	if err == nil || homeward.KindOf(err) != kind {
		t.Fatalf("got %v (kind %s), want kind %s", err, homeward.KindOf(err), kind)
	}
	if homeward.RemedyOf(err) == "" {
		t.Errorf("%v: no remedy", err)
	}
}
