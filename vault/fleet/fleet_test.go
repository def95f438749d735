package fleet

import (
	"context"
	"crypto/x509"
	"os"

	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/vault"
)

// registering ends at the first heartbeat, whenever that comes, and never before;
// after fifteen minutes somebody is told.
func TestRegistering_EndsAtTheFirstHeartbeat(t *testing.T) {
	s := newStand(t)
	n := s.enrol("mt1", pki.MasterTarget, "home")
	n.set(func(n *simulated) { n.away = true })
	s.step(14 * time.Minute)
	if s.row("mt1").State != vault.NodeRegistering {
		t.Errorf("state %s", s.row("mt1").State)
	}
	s.wantAlerts()
	s.step(2 * time.Minute)
	s.step(24 * time.Hour)
	if s.row("mt1").State != vault.NodeRegistering {
		t.Errorf("a timer made it %s", s.row("mt1").State)
	}
	s.wantAlerts("node mt1: node-registering")
	n.set(func(n *simulated) { n.away = false })
	s.step(time.Minute)
	if got := s.row("mt1"); got.State != vault.NodeReady || !got.Heartbeat.Equal(s.now()) {
		t.Errorf("state %s, heartbeat %v", got.State, got.Heartbeat)
	}
	s.wantAlerts()
}

func TestDisconnected_AndBack(t *testing.T) {
	s := newStand(t)
	n := s.enrol("ps1", pki.ProcessServer, "home")
	n.report.Alarms = []homeward.Alarm{{Code: "spool-full", Text: "the spool is full", Remedy: "free some"}}
	s.step(0)
	s.wantAlerts("node ps1: spool-full")
	n.set(func(n *simulated) { n.away = true })
	s.step(15 * time.Second)
	if s.row("ps1").State != vault.NodeReady {
		t.Error("one missed heartbeat was enough")
	}
	s.step(20 * time.Second)
	if s.row("ps1").State != vault.NodeDisconnected {
		t.Errorf("state %s", s.row("ps1").State)
	}
	s.wantAlerts("node ps1: node-disconnected", "node ps1: spool-full") // what is not known stays

	// The vault restarts: what it raised is still its own, and its own absence is not
	// the node's.
	s.open()
	n.set(func(n *simulated) { n.away, n.report.Alarms = false, nil })
	s.step(time.Hour)
	s.wantAlerts()
	if s.row("ps1").State != vault.NodeReady {
		t.Errorf("state %s", s.row("ps1").State)
	}
	n.set(func(n *simulated) { n.away = true })
	s.pass(time.Hour) // the vault is not there
	s.open()
	s.step(time.Second)
	if got := s.row("ps1").State; got != vault.NodeReady {
		t.Errorf("%s at the first look after a restart", got)
	}
	s.step(35 * time.Second)
	s.wantAlerts("node ps1: node-disconnected")
}

func TestJudge(t *testing.T) {
	now := time.Now()
	well := vault.Node{Name: "a", State: vault.NodeReady, Enrolled: now.Add(-time.Hour), Heartbeat: now,
		Certificates: []pki.Issued{{From: now, Until: now.Add(30 * 24 * time.Hour)}}}
	cert := func(from, until time.Duration) func(*vault.Node) {
		return func(n *vault.Node) { n.Certificates = []pki.Issued{{From: now.Add(from), Until: now.Add(until)}} }
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		change func(*vault.Node)
		doubt  time.Duration
		want   string
	}{
		"well":               {func(*vault.Node) {}, 0, ""},
		"ahead":              {func(n *vault.Node) { n.Skew = time.Minute }, 0, "clock-skew"},
		"behind":             {func(n *vault.Node) { n.Skew = -time.Minute }, 0, "clock-skew"},
		"a slow answer":      {func(n *vault.Node) { n.Skew = 12 * time.Second }, 5 * time.Second, ""},
		"expires":            {cert(-25*day, 5*day), 0, "certificate-expiry warning"},
		"expired":            {cert(-31*day, -day), 0, "certificate-expiry critical"},
		"renews":             {cert(-20*day, 10*day), 0, ""},
		"revoked":            {func(n *vault.Node) { n.State, n.Skew = vault.NodeRevoked, time.Hour }, 0, ""},
		"alarm":              {func(n *vault.Node) { n.Health.Alarms = []homeward.Alarm{{Code: "x", Text: "y", Remedy: "z"}} }, 0, "x warning"},
		"skew while unheard": {func(n *vault.Node) { n.State, n.Skew = vault.NodeDisconnected, time.Hour }, 0, "node-disconnected critical"},
	} {
		n := well
		c.change(&n)
		var got []string
		for _, a := range judge(n, c.doubt, now) {
			got = append(got, a.Code+" "+string(a.Severity))
		}
		if text := strings.Join(got, ", "); !strings.HasPrefix(text, c.want) || c.want == "" && text != "" {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

// A node that is well costs one write a minute; one that changes is written at once.
func TestWrites_AreFew(t *testing.T) {
	s := newStand(t)
	n := s.enrol("a1", pki.Agent, "home")
	s.step(0)
	before := s.row("a1").Revision
	for range 60 { // ten minutes
		n.set(func(n *simulated) { n.skew += time.Millisecond })
		s.step(10*time.Second + time.Second)
	}
	if writes := s.row("a1").Revision - before; writes > 11 || writes < 9 {
		t.Errorf("%d writes in eleven minutes", writes)
	}
	before = s.row("a1").Revision
	n.set(func(n *simulated) { n.report.OSVersion = "next" })
	s.step(11 * time.Second)
	if got := s.row("a1"); got.Revision != before+1 || got.Health.OSVersion != "next" {
		t.Errorf("revision %d after %d, %q", got.Revision, before, got.Health.OSVersion)
	}
	n.set(func(n *simulated) { n.skew = 7 * time.Second })
	s.step(11 * time.Second)
	if got := s.fleet.Live(s.row("a1")); got.Skew != 7*time.Second || !got.Heartbeat.Equal(s.now()) {
		t.Errorf("live: skew %v, heartbeat %v", got.Skew, got.Heartbeat)
	}
}

// What heartbeats write leaves alone what others write.
func TestWrites_KeepWhatOthersWrote(t *testing.T) {
	s := newStand(t)
	n := s.enrol("a1", pki.Agent, "home")
	s.step(0)
	_, err := s.store.Nodes.Change(t.Context(), "a1", func(n *vault.Node) error { n.Addresses = nil; n.Serial = "77"; return nil })
	if err != nil {
		t.Fatal(err)
	}
	n.set(func(n *simulated) { n.report.Disks = 3 })
	s.step(11 * time.Second)
	if got := s.row("a1"); got.Addresses != nil || got.Serial != "77" || got.Health.Disks != 3 {
		t.Errorf("row %+v", got)
	}
	if _, err := s.fleet.URLFor("a1", vault.Production); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("the old addresses are still told: %v", err)
	}
}

func TestGenerations_AreNeverForgotten(t *testing.T) {
	s := newStand(t)
	n := s.enrol("mt1", pki.MasterTarget, "home")
	it := vault.Item{ID: "web01", State: vault.Protected, Original: vault.End{Site: "away"}, Recovery: vault.End{Site: "home", MasterTarget: "mt1"}}
	if err := s.store.Items.Insert(t.Context(), &it); err != nil {
		t.Fatal(err)
	}
	five := homeward.Generation{Number: 5, ID: homeward.NewID()}
	n.report.Generations = map[homeward.ItemID]homeward.Generation{"web01": five}
	s.step(0)
	if got := s.fleet.MaxGeneration("web01"); got != five {
		t.Errorf("max %v", got)
	}
	if s.row("mt1").Health.Generations != nil {
		t.Error("they are in the row too")
	}
	s.step(11 * time.Second)
	s.open()
	if got := s.fleet.MaxGeneration("web01"); got != five {
		t.Errorf("after a restart: max %v", got)
	}
	n.set(func(n *simulated) { n.report.Generations["web01"] = homeward.Generation{Number: 4} })
	s.step(11 * time.Second)
	if got := s.fleet.MaxGeneration("web01"); got != five {
		t.Errorf("it went back to %v", got)
	}
	var asked []bool
	for _, r := range n.asked {
		asked = append(asked, r.Generations)
	}
	if !slices.Equal(asked, []bool{true, false, true}) {
		t.Errorf("asked for them %v", asked)
	}
	if _, err := s.fleet.Refresh(t.Context(), "mt1"); err != nil || !n.asked[3].Generations {
		t.Errorf("refresh: %v", err)
	}
}

func TestOlderNode_LivesButIsNotHeard(t *testing.T) {
	s := newStand(t)
	s.enrol("a1", pki.Agent, "home").set(func(n *simulated) { n.old = true })
	s.step(0)
	s.step(time.Hour)
	if got := s.row("a1"); got.State != vault.NodeReady || !got.Heartbeat.IsZero() {
		t.Errorf("state %s, heartbeat %v", got.State, got.Heartbeat)
	}
}

func TestRefresh(t *testing.T) {
	s := newStand(t)
	n := s.enrol("mt1", pki.MasterTarget, "home")
	s.step(0)
	n.set(func(n *simulated) { n.report.Volumes = []homeward.Volume{{Path: "/new"}} }) // R112
	got, err := s.fleet.Refresh(t.Context(), "mt1")
	if err != nil || len(got.Health.Volumes) != 1 || len(s.row("mt1").Health.Volumes) != 1 {
		t.Errorf("%+v: %v", got.Health, err)
	}
	n.set(func(n *simulated) { n.away = true })
	_, err = s.fleet.Refresh(t.Context(), "mt1")
	wantKind(t, err, homeward.Unavailable)
	_, err = s.fleet.Refresh(t.Context(), "nobody")
	wantKind(t, err, homeward.NotFound)
}

func TestProbes(t *testing.T) {
	s := newStand(t)
	ps := s.enrol("ps1", pki.ProcessServer, "home")
	s.enrol("mt2", pki.MasterTarget, "dr")
	s.pairs = []Pair{{"ps1", "mt2", vault.Failback}, {"gone", "mt2", vault.Production}}
	s.step(0) // nobody is ready yet
	for range 40 {
		s.step(15 * time.Second)
	}
	// When it connects, when its peer does, and every five minutes.
	if len(ps.probed) < 2 || len(ps.probed) > 4 || ps.probed[0].URL != "https://mt2:2" || ps.probed[0].Bytes != probeBytes {
		t.Errorf("probed in ten minutes: %+v", ps.probed)
	}
	got := s.row("ps1").Reachables
	if len(got) != 1 || !got[0].Reachable || got[0].Peer != "mt2" || got[0].At.IsZero() {
		t.Errorf("found %+v", got)
	}
	ps.set(func(n *simulated) { n.reaches = false })
	for range 25 {
		s.step(15 * time.Second)
	}
	if got := s.row("ps1").Reachables; len(got) != 1 || got[0].Reachable {
		t.Errorf("found %+v", got)
	}
	s.pairs = nil
	s.step(time.Minute)
	if got := s.row("ps1").Reachables; len(got) != 0 {
		t.Errorf("ways that are not needed: %+v", got)
	}
}

func TestPairsOf(t *testing.T) {
	it := vault.Item{Original: vault.End{Agent: "a1", ProcessServer: "p1", MasterTarget: "m1"}, Recovery: vault.End{Agent: "a2", ProcessServer: "p2", MasterTarget: "m2"}}
	unplaced := vault.Item{Original: vault.End{Agent: "a1", ProcessServer: "p1"}}
	pairs, err := PairsOf(func(yield func(vault.Item, error) bool) {
		for _, it := range []vault.Item{it, it, unplaced} {
			if !yield(it, nil) {
				return
			}
		}
	})
	want := []Pair{{"a1", "p1", vault.Production}, {"p1", "m2", vault.Production}, {"a2", "p2", vault.Failback}, {"p2", "m1", vault.Failback}}
	if err != nil || !slices.Equal(pairs, want) {
		t.Errorf("%v: %v", pairs, err)
	}
}

func TestClients(t *testing.T) {
	s := newStand(t)
	_, err := s.fleet.Site("home")
	wantKind(t, err, homeward.NotFound)
	s.enrol("cs1", pki.ConfigurationServer, "home").set(func(n *simulated) { n.away = true })
	s.enrol("cs2", pki.ConfigurationServer, "home")
	s.step(0)
	site, err := s.fleet.Site("home")
	if err != nil {
		t.Fatal(err)
	}
	_, err = site.Capabilities(t.Context())
	wantKind(t, err, homeward.Unavailable)
	if !strings.Contains(err.Error(), "cs2") { // the one that is ready
		t.Errorf("reached by way of %v", err)
	}
	_, err = s.fleet.Agent("never").Report(t.Context(), homeward.ItemRequest{})
	wantKind(t, err, homeward.Unavailable)
	_, err = s.fleet.MasterTarget("never").Verify(t.Context(), homeward.ItemRequest{})
	wantKind(t, err, homeward.Unavailable)
	_, err = s.fleet.Member("never")
	wantKind(t, err, homeward.NotFound)
	_, err = s.fleet.URLFor("never", vault.Production)
	wantKind(t, err, homeward.NotFound)
}

func TestRevoke(t *testing.T) {
	s := newStand(t)
	s.enrol("a1", pki.Agent, "home")
	b := s.enrol("b1", pki.Agent, "home")
	s.step(0)
	s.step(time.Second)
	for range 2 {
		n, err := s.fleet.Revoke(t.Context(), "a1")
		if err != nil || n.State != vault.NodeRevoked {
			t.Fatalf("%s: %v", n.State, err)
		}
	}
	wantKind(t, s.fleet.Admit(pki.Peer{Role: pki.Agent, Name: "a1"}, nil), homeward.Forbidden)
	s.step(time.Second) // the others are told at once
	list, err := x509.ParseRevocationList(b.asked[len(b.asked)-1].Revocations)
	if err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Fatalf("told %v: %v", list, err)
	}
	s.step(11 * time.Second)
	if b.asked[len(b.asked)-1].Revocations != nil {
		t.Error("told again what it knows")
	}
	if s.row("a1").State != vault.NodeRevoked {
		t.Error("a heartbeat brought it back")
	}
	_, err = s.fleet.Revoke(t.Context(), "nobody")
	wantKind(t, err, homeward.NotFound)
}

// A vault that was killed between the row and the list completes it at its start.
func TestRevoke_IsCompleted(t *testing.T) {
	s := newStand(t)
	s.enrol("a1", pki.Agent, "home")
	_, err := s.store.Nodes.Change(t.Context(), "a1", func(n *vault.Node) error { n.State = vault.NodeRevoked; return nil })
	if err != nil {
		t.Fatal(err)
	}
	s.open()
	der, err := s.authority.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	if list, err := x509.ParseRevocationList(der); err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("%v: %v", list, err)
	}
}

func TestAdmit(t *testing.T) {
	s := newStand(t)
	var door Admission
	wantKind(t, door.Admit(pki.Peer{Role: pki.Agent, Name: "a1"}, nil), homeward.Unavailable)
	door.Open(s.fleet)
	wantKind(t, door.Admit(pki.Peer{Role: pki.Agent, Name: "a1"}, nil), homeward.Forbidden)
	n := vault.Node{Name: "a1", Role: pki.Agent, Site: "home", State: vault.NodeRegistering, Enrolled: s.now()}
	if err := s.store.Nodes.Insert(t.Context(), &n); err != nil { // and nobody told the fleet
		t.Fatal(err)
	}
	if err := door.Admit(pki.Peer{Role: pki.Agent, Name: "a1"}, nil); err != nil {
		t.Error(err)
	}
	wantKind(t, door.Admit(pki.Peer{Role: pki.MasterTarget, Name: "a1"}, nil), homeward.Forbidden)
}

func TestLearn_ANodeEnrolledAnewStartsAnew(t *testing.T) {
	s := newStand(t)
	s.enrol("a1", pki.Agent, "home")
	s.step(0)
	_, err := s.store.Nodes.Change(t.Context(), "a1", func(n *vault.Node) error {
		*n = vault.Node{Meta: n.Meta, Name: "a1", Role: pki.Agent, Site: "home", State: vault.NodeRegistering, Enrolled: s.now().Add(time.Second)}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.simulated("a1").set(func(n *simulated) { n.away = true })
	s.fleet.nodes["a1"].dirty = true
	s.step(0) // what was known does not overwrite it
	if err := s.fleet.Learn(t.Context(), "a1"); err != nil {
		t.Fatal(err)
	}
	s.step(11 * time.Second)
	if got := s.row("a1"); got.State != vault.NodeRegistering || !got.Heartbeat.IsZero() {
		t.Errorf("state %s, heartbeat %v", got.State, got.Heartbeat)
	}
}

// member of a real role.
type member struct{ beats chan homeward.HealthRequest }

func (m member) Health(_ context.Context, r homeward.HealthRequest) (homeward.HealthReport, error) {
	m.beats <- r
	return homeward.HealthReport{At: time.Now(), OSFamily: "linux"}, nil
}

func (m member) Probe(context.Context, homeward.ProbeRequest) (homeward.ProbeReport, error) {
	return homeward.ProbeReport{}, nil
}

// The whole over real sockets, with Run: a node connects, beats at once, is
// revoked, and does not come in again.
func TestRun_OverSockets(t *testing.T) {
	s := newStand(t)
	var door Admission
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hub := role.NewHub(role.HubOptions{TLS: s.identity.ServerTLS(pki.Roles()...), Log: quiet, Version: "test", Admit: door.Admit})
	n := vault.Node{Name: "a1", Role: pki.Agent, Site: "home", State: vault.NodeRegistering, Enrolled: time.Now()}
	if err := s.store.Nodes.Insert(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
	f, err := Open(t.Context(), Options{Store: s.store, Hub: hub, Authority: s.authority, Identity: s.identity, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	door.Open(f)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if err := hub.Serve(ctx, ln); err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Errorf("fleet: %v", err)
		}
	})
	dir := filepath.Join(t.TempDir(), "a1")
	if err := s.authority.Issue(pki.Request{Peer: pki.Peer{Role: pki.Agent, Name: "a1"}}, dir); err != nil {
		t.Fatal(err)
	}
	id, err := pki.LoadIdentity(durable.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m := member{make(chan homeward.HealthRequest, 64)}
	running.Go(func() {
		o := role.Options{Controllers: []string{ln.Addr().String()}, TLS: id.ClientTLS(pki.Vault), Hello: role.Hello{Peer: id.Peer(), Version: "v7"},
			Handler: http.NotFoundHandler(), Member: m, Log: quiet, MaxBackoff: 50 * time.Millisecond}
		if err := role.Serve(ctx, o); err != nil {
			t.Errorf("role: %v", err)
		}
	})
	select {
	case r := <-m.beats:
		if !r.Generations || r.Revocations == nil {
			t.Errorf("the first heartbeat asks %+v", r)
		}
	case <-ctx.Done():
		t.Fatal("no heartbeat")
	}
	for changed := s.store.Changed(); s.row("a1").State != vault.NodeReady; changed = s.store.Changed() {
		if s.row("a1").State == vault.NodeReady {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("it never became ready")
		}
	}
	if got := s.row("a1"); got.Version != "v7" || got.Health.OSFamily != "linux" {
		t.Errorf("row %+v", got)
	}
	if _, err := f.Revoke(ctx, "a1"); err != nil {
		t.Fatal(err)
	}
	at, err := hub.Node("a1")
	if err != nil || at.Status().Connected {
		t.Errorf("still connected: %v", err)
	}
}

// A vault whose authority was put back from an older copy learns from its nodes whom it
// had revoked, and tells all of them.
func TestRevocations_ComeBackFromNodes(t *testing.T) {
	s := newStand(t)
	n := s.enrol("a1", pki.Agent, "home")
	other := s.enrol("a2", pki.Agent, "home")
	path := filepath.Join(s.dir, "revoked.pem")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.authority.RevokeSerials("abc123"); err != nil {
		t.Fatal(err)
	}
	list, err := s.authority.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.step(0)
	n.set(func(n *simulated) { n.report.Revocations = [][]byte{[]byte("forged"), list} })
	s.step(11 * time.Second)
	s.step(time.Second)
	other.mu.Lock()
	defer other.mu.Unlock()
	told := other.asked[len(other.asked)-1].Revocations
	got, err := x509.ParseRevocationList(told)
	if err != nil || len(got.RevokedCertificateEntries) != 1 || got.RevokedCertificateEntries[0].SerialNumber.Text(16) != "abc123" {
		t.Errorf("the others are told %v, %v", got, err)
	}
	if s.row("a1").Health.Revocations != nil {
		t.Error("the list is in the row too")
	}
}

// BenchmarkThousandNodes is one minute of a fleet of 1000 that are well: every node
// beats six times and its row is written once. The figure "%core" is what of one
// core that takes, but for the network: what package role and TLS cost.
func BenchmarkThousandNodes(b *testing.B) {
	s := newStand(b)
	for i := range 1000 {
		n := s.enrol(fmt.Sprintf("node-%d", i), pki.Agent, "home")
		n.report.Volumes = []homeward.Volume{{Path: "/a", Size: 1 << 40}, {Path: "/b", Size: 1 << 40}}
	}
	minute := func() {
		for range 6 {
			s.pass(11 * time.Second)
			for range 20 { // ticks: at most 64 beat at a time
				s.step(0)
			}
		}
		for name, n := range s.nodes {
			if len(n.asked) != 6 {
				b.Fatalf("%s beat %d times", name, len(n.asked))
			}
			n.asked = n.asked[:0]
		}
	}
	minute()
	for b.Loop() {
		minute()
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/60*100, "%core")
}
