package role

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
)

// restart starts the hub anew, with other options.
func (in *installation) restart(change func(*HubOptions)) {
	in.t.Helper()
	in.stopHub()
	change(&in.options)
	in.startHub()
}

func TestEpoch_OlderVaultIsRefused(t *testing.T) {
	in := newInstallation(t)
	in.restart(func(o *HubOptions) { o.Epoch = 7 })
	path := filepath.Join(t.TempDir(), "epoch")
	role := func() (Options, *lines) {
		log := &lines{t: t}
		o := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
		var err error
		if o.Epoch, err = OpenEpoch(durable.OS(), path); err != nil {
			t.Fatal(err)
		}
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		return o, log
	}
	o, _ := role()
	stop := in.start(o)
	in.wait(agent1.Name)
	stop()

	for _, older := range []uint64{6, 0} { // also one that has none
		in.restart(func(o *HubOptions) { o.Epoch = older })
		o, log := role() // as after a restart: what was met is durable
		stop := in.start(o)
		log.await("one of epoch 7 was here")
		log.await("stop this vault")
		if list := in.hub.Nodes(); len(list) != 0 {
			t.Errorf("epoch %d: let in: %+v", older, list)
		}
		stop()
	}

	in.restart(func(o *HubOptions) { o.Epoch = 8 })
	o, _ = role()
	in.start(o)
	if _, err := Agent(in.wait(agent1.Name)).Report(within(t), homeward.ItemRequest{}); err != nil {
		t.Errorf("a newer epoch: %v", err)
	}
}

func TestEpoch_DamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "epoch")
	if err := durable.WriteFile(durable.OS(), path, []byte("12"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenEpoch(durable.OS(), path)
	wantKind(t, err, homeward.Corrupt)
}

// A controller that goes on although it was refused is not obeyed, and its
// connection ends.
func TestServe_RefusedControllerIsNotObeyed(t *testing.T) {
	in := newInstallation(t)
	path := filepath.Join(t.TempDir(), "epoch")
	epoch, err := OpenEpoch(durable.OS(), path)
	if err == nil {
		err = epoch.meet(5, "vault")
	}
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", in.hub.options.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fake := &recorder{}
	o := in.dialling(agent1, AgentHandler(fakeAgent{fake}))
	o.Controllers, o.Epoch, o.Member = []string{ln.Addr().String()}, epoch, fakeMember{fake}
	in.start(o)
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s, err := in.hub.turn(within(t), conn.(*tls.Conn), agent1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close()
	_, err = exchange[homeward.HealthReport](within(t), s, "member/health", homeward.HealthRequest{})
	wantKind(t, err, homeward.Conflict) // before hello
	_, err = exchange[Hello](within(t), s, helloPath, Welcome{Protocol: Protocol, Epoch: 4})
	wantKind(t, err, homeward.Fenced)
	if _, err = exchange[homeward.Done](within(t), s, "agent/release", homeward.GenerationRequest{}); err == nil {
		t.Error("obeyed")
	}
	select {
	case <-s.gone:
	case <-within(t).Done():
		t.Error("the role keeps the connection")
	}
	if fake.method != "" {
		t.Errorf("%s was called", fake.method)
	}
}

func TestHub_Expect(t *testing.T) {
	in := newInstallation(t)
	n := in.hub.Expect(agent1)
	_, err := Agent(n).Report(within(t), homeward.ItemRequest{})
	wantKind(t, err, homeward.Unavailable)
	if s := n.Status(); s.Peer != agent1 || s.Connected || s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	if found, err := in.hub.Node(agent1.Name); err != nil || found != n {
		t.Errorf("found %v: %v", found, err)
	}
	in.start(in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}})))
	if got := in.wait(agent1.Name); got != n || in.hub.Expect(agent1) != n || !n.Status().Connected {
		t.Error("not the same node once it has connected")
	}
	if _, err := Agent(n).Report(within(t), homeward.ItemRequest{}); err != nil {
		t.Error(err)
	}

	// The name is given to another role.
	events, unsubscribe := in.hub.Subscribe()
	defer unsubscribe()
	other := pki.Peer{Role: pki.MasterTarget, Name: agent1.Name}
	in.hub.Expect(other)
	if e := next(t, events, false); !strings.Contains(e.Reason, "master-target") {
		t.Errorf("event %+v", e)
	}
	in.start(in.dialling(other, MasterTargetHandler(fakeMasterTarget{&recorder{}})))
	if next(t, events, true).Peer != other {
		t.Error("the new owner of the name is not let in")
	}
}

func TestHub_DropAndAdmit(t *testing.T) {
	in := newInstallation(t)
	var revoked atomic.Bool
	var serial atomic.Value
	in.restart(func(o *HubOptions) {
		o.Admit = func(peer pki.Peer, cert *x509.Certificate) error {
			serial.Store(cert.SerialNumber.String())
			if peer != agent1 || revoked.Load() {
				return homeward.Errorf("admit node", homeward.Forbidden, peer.String(), "enrol it anew", "its certificate is revoked")
			}
			return nil
		}
	})
	log := &lines{t: t}
	o := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	leaf, err := x509.ParseCertificate(certificateOf(t, o.TLS))
	if err != nil {
		t.Fatal(err)
	}
	in.start(o)
	n := in.wait(agent1.Name)
	if serial.Load() != leaf.SerialNumber.String() {
		t.Errorf("asked about certificate %v", serial.Load())
	}
	events, unsubscribe := in.hub.Subscribe()
	defer unsubscribe()
	revoked.Store(true)
	in.hub.Drop(agent1.Name, "it was revoked by an operator", "ask for a new token")
	_, err = Agent(n).Report(within(t), homeward.ItemRequest{})
	wantKind(t, err, homeward.Unavailable)
	if e := next(t, events, false); e.Reason != "it was revoked by an operator" {
		t.Errorf("event %+v", e)
	}
	log.await("it was revoked by an operator")
	log.await("ask for a new token")
	log.await("its certificate is revoked") // at its next attempt
	in.hub.Drop(agent1.Name, "again", "")
	in.hub.Drop("nobody", "again", "")

	revoked.Store(false)
	if next(t, events, true).Peer != agent1 {
		t.Error("not let in again")
	}
}

func certificateOf(t *testing.T, c *tls.Config) []byte {
	t.Helper()
	if len(c.Certificates) > 0 {
		return c.Certificates[0].Certificate[0]
	}
	cert, err := c.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return cert.Certificate[0]
}

// Who is revoked while it is greeted does not stay.
func TestHub_RevokedWhileGreeted(t *testing.T) {
	in := newInstallation(t)
	var asked atomic.Int32
	in.restart(func(o *HubOptions) {
		o.Admit = func(peer pki.Peer, _ *x509.Certificate) error {
			if asked.Add(1) == 1 {
				return nil
			}
			return homeward.Errorf("admit node", homeward.Forbidden, peer.String(), "enrol it anew", "its certificate is revoked")
		}
	})
	log := &lines{t: t}
	o := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	in.start(o)
	log.await("its certificate is revoked")
	n, err := in.hub.Node(agent1.Name)
	if err != nil || n.Status().Connected {
		t.Errorf("still connected: %v", err)
	}
}

// startBefore has a role of the protocol before dial in, until the test ends.
func (in *installation) startBefore(peer pki.Peer, contract http.Handler) *Node {
	t := in.t
	t.Helper()
	type oldWelcome struct {
		Protocol int    `json:"protocol"`
		Version  string `json:"version"`
	}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/"+helloPath, method(func(_ context.Context, w oldWelcome) (Hello, error) {
		if w.Protocol != Protocol {
			t.Errorf("protocol %d", w.Protocol)
		}
		return Hello{Peer: peer, Protocol: Protocol - 1, Version: "old"}, nil
	}))
	mux.Handle("/", contract)
	dialled, err := tls.Dial("tcp", in.addr, in.dialling(peer, mux).withHTTP2())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	in.roles.Go(func() { _ = server.Serve(&single{conn: &witness{Conn: net.Conn(dialled)}, done: ended}) })
	t.Cleanup(func() { close(ended); server.Close() })
	return in.wait(peer.Name)
}

// A role of the protocol before may know neither the epoch nor the member's calls.
func TestHub_RoleOfTheProtocolBefore(t *testing.T) {
	in := newInstallation(t)
	in.restart(func(o *HubOptions) { o.Epoch = 3 })
	n := in.startBefore(agent1, AgentHandler(fakeAgent{&recorder{}}))
	if s := n.Status(); s.Protocol != Protocol-1 || s.Version != "old" {
		t.Errorf("status %+v", s)
	}
	if _, err := Agent(n).Report(within(t), homeward.ItemRequest{}); err != nil {
		t.Error(err)
	}
	_, err := Member(n).Health(within(t), homeward.HealthRequest{})
	wantKind(t, err, homeward.Unsupported)
}

// A process server of protocol 2 is not sent weights: it would refuse them.
func TestProcessServer_OfProtocol2(t *testing.T) {
	in := newInstallation(t)
	fake := &recorder{}
	peer := pki.Peer{Role: pki.ProcessServer, Name: "ps-old"}
	n := in.startBefore(peer, ProcessServerHandler(fakeProcessServer{fake}))
	if _, err := ProcessServer(n).Prepare(within(t), homeward.RouteRequest{Item: "web01", Weight: 9}); err != nil {
		t.Fatal(err)
	}
	if got, is := fake.args[0].(homeward.RouteRequest); !is || got.Item != "web01" || got.Weight != 0 {
		t.Errorf("it was sent %+v", fake.args)
	}
}

// withHTTP2 is the TLS of a role, as Serve uses it.
func (o Options) withHTTP2() *tls.Config {
	c := o.TLS.Clone()
	c.NextProtos = []string{http2}
	return c
}

// A role serves its contract and the member's on one connection.
func TestServe_MemberBesideContract(t *testing.T) {
	in := newInstallation(t)
	of, as := &recorder{}, &recorder{answer: homeward.HealthReport{OSFamily: "linux"}}
	o := in.dialling(agent1, AgentHandler(fakeAgent{of}))
	o.Member = fakeMember{as}
	in.start(o)
	n := in.wait(agent1.Name)
	if s := n.Status(); s.Protocol != Protocol {
		t.Errorf("status %+v", s)
	}
	if got, err := Member(n).Health(within(t), homeward.HealthRequest{}); err != nil || got.OSFamily != "linux" {
		t.Errorf("%+v: %v", got, err)
	}
	if _, err := Agent(n).Report(within(t), homeward.ItemRequest{}); err != nil || of.method != "Report" {
		t.Errorf("%s: %v", of.method, err)
	}
}

// Addresses are tried in turn, and one that answered is kept to.
func TestServe_SeveralControllers(t *testing.T) {
	in := newInstallation(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	log := &lines{t: t}
	o := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
	o.Controllers = []string{dead.Addr().String(), in.addr}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	in.start(o)
	in.wait(agent1.Name)
	log.await("dial controller " + dead.Addr().String())
	for range 2 {
		in.stopHub()
		in.startHub()
		in.wait(agent1.Name)
	}
}
