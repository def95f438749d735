package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

func TestReplicate(t *testing.T) {
	r := newRig(t)
	rep := r.start()
	if rep.State != homeward.CaptureRunning || len(rep.Disks) != 2 {
		t.Fatalf("%+v", rep)
	}
	g := connect(t, rep, r.rng, 0)
	defer g.close()
	for range 8 {
		g.mustWrite(200)
		r.cut()
	}
	if n := g.checkPoints(t, r.target, "web01"); n < 8 {
		t.Errorf("%d points", n)
	}
	if n := g.checkPrefix(t, r.target.Content("web01")); n != uint64(len(g.journal)) {
		t.Errorf("the replica ends with write %d of %d", n, len(g.journal))
	}
	rep = r.await("all applied", func(rep homeward.CaptureReport) bool {
		return rep.Disks[0].DirtyBytes == 0 && rep.Disks[1].DirtyBytes == 0
	})
	if rep.Phase != "replicating" || rep.Clients != 2 || rep.AppliedAt.IsZero() || rep.Sent.DirtyBytes == 0 || len(rep.Alarms) > 0 {
		t.Errorf("%+v", rep)
	}
}

// Writes go on while everything between the agent and the replica goes wrong.
func TestReplicate_wildTransport(t *testing.T) {
	r := newRig(t)
	wild := shiptest.NewWild(r.target, r.rng)
	r.target.Patience = 50 * time.Millisecond
	r.cfg.Dial = func(string) homeward.Sink { return wild }
	r.request.Policy.MinInterval = 50 * time.Millisecond
	rep := r.start()
	g := connect(t, rep, r.rng, 0)
	defer g.close()
	for range 10 {
		g.mustWrite(300)
		r.cut()
	}
	g.close()
	r.close()
	wild.Resurrect(t.Context()) // everything comes once more, long after
	r.open()
	g.disks = connect(t, rep, r.rng, 0).disks
	g.mustWrite(100)
	r.cut()
	g.checkPoints(t, r.target, "web01")
	if n := g.checkPrefix(t, r.target.Content("web01")); n != uint64(len(g.journal)) {
		t.Errorf("the replica ends with write %d of %d", n, len(g.journal))
	}
}

// A set larger than a round travels through the backlog, and the point comes only
// with the last of it.
func TestInitialSync_rounds(t *testing.T) {
	r := newRig(t)
	r.cfg.Tuning.PrecopyBytes = 1 << 20
	data := make([]byte, diskSizes[0])
	for i := range data {
		data[i] = byte(r.rng.Uint32() | 1)
	}
	path := strings.TrimPrefix(r.request.Disks[0], "file:")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.cut()
	rounds, points := 0, 0
	r.target.mu.Lock()
	for _, d := range r.target.deltas {
		if d.mark.Kind.Bootable() {
			points++
		} else {
			rounds++
		}
	}
	r.target.mu.Unlock()
	if rounds < 6 || points == 0 {
		t.Errorf("%d markless deltas, %d points", rounds, points)
	}
	got := r.target.Content("web01")
	for b := range int64(len(data) / homeward.BlockSize) {
		if string(got[shiptest.Block{Index: b}]) != string(data[b*homeward.BlockSize:(b+1)*homeward.BlockSize]) {
			t.Fatalf("block %d differs", b)
		}
	}
}

func TestDrain(t *testing.T) {
	r := newRig(t)
	g := connect(t, r.start(), r.rng, 0)
	g.mustWrite(100)
	drain := homeward.DrainRequest{Item: "web01", Stopped: true}
	if _, err := r.agent.Drain(t.Context(), drain); homeward.KindOf(err) != homeward.InUse {
		t.Errorf("drained under a connected guest: %v", err)
	}
	g.close()
	r.await("guest gone", func(rep homeward.CaptureReport) bool { return rep.Clients == 0 })
	rep, err := r.agent.Drain(t.Context(), drain)
	if err != nil {
		t.Fatal(err)
	}
	if applied := r.target.Applied("web01"); applied[len(applied)-1] != rep.Position && rep.Position.IsZero() {
		t.Errorf("drained to %v, the replica stands at %v", rep.Position, applied[len(applied)-1])
	}
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 100 {
		t.Errorf("the replica ends with write %d", n)
	}
}

// Blocks that are marked just after the last cut travel with one more.
func TestDrain_markedMeanwhile(t *testing.T) {
	r := newRig(t)
	r.request.Policy.MinInterval = time.Minute // no cut but those asked for
	block7 := block.NewMap(block.BlocksOf(diskSizes[0]))
	block7.Set(7, 1)
	data, err := block7.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	mark := homeward.MarkRequest{Item: "web01", Generation: r.request.Generation, Disks: []homeward.DiskChanges{{Disk: "disk-0", Changed: data}}}
	var armed atomic.Bool
	r.cfg.Fault = func(point string) {
		if point == "cut" && armed.CompareAndSwap(true, false) {
			if _, err := r.agent.MarkChanged(context.Background(), mark); err != nil {
				t.Error(err)
			}
		}
	}
	r.start()
	r.cut()
	armed.Store(true)
	rep, err := r.agent.Drain(t.Context(), homeward.DrainRequest{Item: "web01", Stopped: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.changes().Disks[0].ChangedBytes; n != 0 {
		t.Errorf("%d bytes are changed after a drain to %v", n, rep.Position)
	}
}

func TestPrepare_refusals(t *testing.T) {
	r := newRig(t)
	r.open()
	whole := r.request
	for _, c := range []struct {
		name   string
		field  string
		kind   homeward.Kind
		change func(*homeward.CaptureRequest)
	}{
		{"fewer references", "disks", homeward.Invalid, func(q *homeward.CaptureRequest) { q.Disks = q.Disks[:1] }},
		{"same reference twice", "disks[1]", homeward.Invalid, func(q *homeward.CaptureRequest) { q.Disks = []string{q.Disks[0], q.Disks[0]} }},
		{"missing image", "disks[1]", homeward.NotFound, func(q *homeward.CaptureRequest) { q.Disks = []string{q.Disks[0], "file:/nowhere/x.raw"} }},
		{"wrong size", "disks[0]", homeward.Invalid, func(q *homeward.CaptureRequest) {
			q.Machine.Disks = append([]homeward.Disk{}, q.Machine.Disks...)
			q.Machine.Disks[0].Size += 4096
		}},
		{"no generation", "generation", homeward.Invalid, func(q *homeward.CaptureRequest) { q.Generation = homeward.Generation{} }},
		{"sink no URL", "sink", homeward.Invalid, func(q *homeward.CaptureRequest) { q.Sink = "target" }},
		{"policy", "min_interval", homeward.Invalid, func(q *homeward.CaptureRequest) { q.Policy.MinInterval = time.Nanosecond }},
		{"map of no disk", "initial[0].disk", homeward.Invalid, func(q *homeward.CaptureRequest) {
			q.InitialAll, q.Initial = false, []homeward.DiskChanges{{Disk: "disk-9"}}
		}},
		{"map damaged", "initial[0].changed", homeward.Corrupt, func(q *homeward.CaptureRequest) {
			q.InitialAll, q.Initial = false, []homeward.DiskChanges{{Disk: "disk-0", Changed: []byte("?")}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := whole
			c.change(&req)
			_, err := r.agent.Prepare(t.Context(), req)
			if err == nil || !strings.Contains(err.Error(), c.field) || homeward.KindOf(err) != c.kind {
				t.Errorf("%s: %v", homeward.KindOf(err), err)
			}
			if _, err := r.agent.Report(t.Context(), r.item()); homeward.KindOf(err) != homeward.NotFound {
				t.Errorf("something is half done: %v", err)
			}
		})
	}
	r.prepare() // and nothing is left in its way
}

func TestPrepare_twoAgents(t *testing.T) {
	r := newRig(t)
	r.start()
	other := newRig(t)
	other.request.Disks = r.request.Disks
	other.open()
	_, err := other.agent.Prepare(t.Context(), other.request)
	if homeward.KindOf(err) != homeward.InUse || homeward.RemedyOf(err) == "" {
		t.Errorf("two agents have one disk: %v", err)
	}
	if _, err := Open(t.Context(), r.cfg); homeward.KindOf(err) != homeward.InUse {
		t.Errorf("two agents have one directory: %v", err)
	}
}

// Prepare again is the same leg; a sink may come later (a failed-over side).
func TestPrepare_again(t *testing.T) {
	r := newRig(t)
	sink := r.request.Sink
	r.request.Sink = ""
	rep := r.start()
	if !strings.HasPrefix(rep.Phase, "waiting") {
		t.Errorf("phase %q", rep.Phase)
	}
	g := connect(t, rep, r.rng, 0)
	defer g.close()
	g.mustWrite(100)
	r.request.Sink = sink
	if again := r.prepare(); again.Disks[0].URI != rep.Disks[0].URI {
		t.Errorf("the guest would have to move from %s to %s", rep.Disks[0].URI, again.Disks[0].URI)
	}
	g.mustWrite(100)
	r.cut()
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 200 {
		t.Errorf("the replica ends with write %d", n)
	}
	other := r.request
	other.Base = homeward.Position{Generation: other.Generation, Sequence: 7}
	if _, err := r.agent.Prepare(context.Background(), other); homeward.KindOf(err) != homeward.Exists {
		t.Errorf("another base for the same leg: %v", err)
	}
}

// Over TCP disks are served with TLS only.
func TestOpen_TCP(t *testing.T) {
	r := newRig(t)
	sockets := r.cfg.SocketDir
	r.cfg.SocketDir, r.cfg.Listen = "", "127.0.0.1:0"
	if _, err := Open(t.Context(), r.cfg); homeward.KindOf(err) != homeward.Invalid || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("in the clear: %v", err)
	}
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	r.cfg.TLS = &tls.Config{Certificates: cert.TLS.Certificates}
	rep := r.start()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Certificate())
	c, err := nbd.Dial(t.Context(), nbd.ClientOptions{URI: rep.Disks[0].URI, TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteAt([]byte("over the wire"), 512); err != nil {
		t.Error(err)
	}
	r.cfg.SocketDir = sockets
}

// Disks are served to the hosts that the item was prepared for, and to no other one of
// the role; which those are can be changed while the leg goes on.
func TestOpen_TCP_HostsOfTheItem(t *testing.T) {
	r := newRig(t)
	authority, err := pki.CreateAuthority(durable.OS(), filepath.Join(t.TempDir(), "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	identity := func(p pki.Peer) *pki.Identity {
		dir := filepath.Join(t.TempDir(), "id")
		if err := authority.Issue(pki.Request{Peer: p}, dir); err != nil {
			t.Fatal(err)
		}
		id, err := pki.LoadIdentity(durable.OS(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	me := identity(pki.Peer{Role: pki.Agent, Name: "a1"})
	own, other := identity(pki.Peer{Role: pki.ConfigurationServer, Name: "own"}), identity(pki.Peer{Role: pki.ConfigurationServer, Name: "other"})
	sockets := r.cfg.SocketDir
	r.cfg.SocketDir, r.cfg.Listen, r.cfg.TLS, r.cfg.Watch = "", "127.0.0.1:0", me.ServerTLS(pki.ConfigurationServer), me.Watch
	defer func() { r.cfg.SocketDir = sockets }()
	r.request.Hosts, r.cfg.Name = []string{"own"}, "a1"
	rep := r.start()
	if u, err := nbd.ParseURI(rep.Disks[0].URI); err != nil || u.User != "a1" {
		t.Errorf("guests find their disks at %s: %v", rep.Disks[0].URI, err)
	}
	attach := func(id *pki.Identity) error {
		c, err := nbd.Dial(t.Context(), nbd.ClientOptions{URI: rep.Disks[0].URI, TLS: id.ClientTLS(pki.Agent)})
		if err == nil {
			err = c.Close()
		}
		return err
	}
	if err := attach(own); err != nil {
		t.Error(err)
	}
	if err := attach(other); err == nil || !strings.Contains(err.Error(), "may not attach") {
		t.Errorf("a host of another site: %v", err)
	}
	req := r.request
	req.Initial, req.InitialAll, req.Hosts = nil, false, []string{"other"}
	if _, err := r.agent.Prepare(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if err := attach(other); err != nil {
		t.Error(err)
	}
	if err := attach(own); err == nil {
		t.Error("the host of before is still admitted")
	}
}

func TestOpen_refusals(t *testing.T) {
	r := newRig(t)
	for field, change := range map[string]func(*Config){
		"Dir":       func(c *Config) { c.Dir = "" },
		"LiveDir":   func(c *Config) { c.LiveDir = "" },
		"SocketDir": func(c *Config) { c.SocketDir = "" },
		"Openers":   func(c *Config) { c.Openers = nil },
		"Dial":      func(c *Config) { c.Dial = nil },
	} {
		cfg := r.cfg
		change(&cfg)
		if _, err := Open(t.Context(), cfg); homeward.KindOf(err) != homeward.Invalid || !strings.Contains(err.Error(), field) {
			t.Errorf("without %s: %v", field, err)
		}
	}
}
