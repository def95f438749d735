package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/enrol"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/fleet"
)

// admission is as much of a vault as nodes need to come in, in the test's process
// and on one port.
type admission struct {
	*shell
	store  *store.Store
	enrol  *enrol.Server
	fleet  *fleet.Fleet
	hub    *role.Hub
	addr   string
	within context.Context
}

func newAdmission(t *testing.T) *admission {
	t.Helper()
	s := &admission{shell: newShell(t)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	authority, err := pki.CreateAuthority(durable.OS(), s.path("ca"), "test")
	must(err)
	must(authority.Issue(pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "v1"}}, s.path("v1")))
	id, err := pki.LoadIdentity(durable.OS(), s.path("v1"))
	must(err)
	s.store, err = store.Open(t.Context(), store.Config{URL: "sqlite:" + s.path("vault.db"), Log: quiet})
	must(err)
	t.Cleanup(func() { must(s.store.Close()) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	s.addr = ln.Addr().String()
	var door fleet.Admission
	s.hub = role.NewHub(role.HubOptions{TLS: id.ServerTLS(pki.Roles()...), Version: "test", Epoch: 1, Log: quiet, Admit: door.Admit})
	s.fleet, err = fleet.Open(t.Context(), fleet.Options{Store: s.store, Hub: s.hub, Authority: authority, Identity: id, Log: quiet})
	must(err)
	door.Open(s.fleet)
	s.enrol, err = enrol.NewServer(enrol.Options{Enrolments: s.store.Enrolments, Nodes: s.store.Nodes, Tx: s.store.Tx,
		Authority: authority, Identity: id, Log: quiet, Audit: s.store.Audit,
		Addresses: []vault.Address{{Host: s.addr, Purpose: vault.Production}},
		Changed: func(ctx context.Context, name string) {
			if err := s.fleet.Learn(ctx, name); err != nil {
				t.Error(err)
			}
		}})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	nodes, roles := enrol.Split(ln)
	var serving sync.WaitGroup
	for _, serve := range []func() error{
		func() error { return s.enrol.Serve(ctx, nodes) },
		func() error { return s.hub.Serve(ctx, roles) },
		func() error { return s.fleet.Run(ctx) },
	} {
		serving.Go(func() {
			if err := serve(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); serving.Wait() })
	within, done := context.WithTimeout(ctx, 30*time.Second)
	t.Cleanup(done)
	s.within = within
	return s
}

func (s *admission) token(r vault.EnrolmentRequest) string {
	s.t.Helper()
	token, err := s.enrol.CreateToken(s.within, r)
	if err != nil {
		s.t.Fatal(err)
	}
	return token.Secret
}

// ready waits until the vault has heard a node.
func (s *admission) ready(name string) vault.Node {
	s.t.Helper()
	for {
		changed := s.store.Changed()
		n, err := s.store.Nodes.Get(s.within, name)
		if err != nil {
			s.t.Fatal(err)
		}
		if n.State == vault.NodeReady {
			return n
		}
		select {
		case <-changed:
		case <-s.within.Done():
			s.t.Fatalf("%s never became ready: it is %s", name, n.State)
		}
	}
}

// A role with a vault and a token enrols, and from then on needs neither.
func TestEnrol_FirstStartAndLater(t *testing.T) {
	s := newAdmission(t)
	for _, kind := range []pki.Role{pki.Agent, pki.ProcessServer, pki.MasterTarget} {
		name := string(kind) + "-1"
		file := s.path(name + ".token")
		token := s.token(vault.EnrolmentRequest{Role: kind, Site: "home"})
		if err := durable.WriteFile(durable.OS(), file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		line := string(kind) + " --dir " + name + " --with-parent"
		if kind == pki.Agent {
			line += " --live " + s.path("live")
		}
		first := s.start(line + " --vault 127.0.0.1:1 --vault " + s.addr + " --token-file " + file + " --node " + name + " --advertise ps:7001,failback=ps-back:7001")
		n := s.ready(name)
		if n.Role != kind || n.Site != "home" || len(n.Addresses) != 2 || n.Addresses[1] != (vault.Address{Host: "ps-back:7001", Purpose: vault.Failback}) {
			t.Errorf("entered as %+v", n)
		}
		first.kill()
		s.start(line)
		if _, err := s.hub.Wait(s.within, name); err != nil {
			t.Fatal(err)
		}
	}
	// A heartbeat brings what was revoked to all others.
	if _, err := s.fleet.Revoke(s.within, "agent-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.fleet.Refresh(s.within, "master-target-1"); err != nil {
		t.Fatal(err)
	}
	if list := revokedAt(t, s.path(filepath.Join("master-target-1", "identity", "revoked.pem"))); list != 1 {
		t.Errorf("the master target knows of %d revoked certificates", list)
	}
}

func TestEnrol_BadFlags(t *testing.T) {
	s := newAdmission(t)
	token := s.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home", Node: "a1"})
	line := "agent --dir d --vault " + s.addr
	s.run(line).wants(2).says("--token", "homeward node enrol-token")
	s.run(line+" --token junk --node a1").wants(2).says("token", "copy the whole token")
	s.run(line + " --token " + token + " --node a/1").wants(2).says("--node")
	s.run(line + " --token " + token + " --node a1 --advertise nowhere").wants(2).says("--advertise")
	s.run(line+" --token "+token+" --node a1 --advertise fun=h:1").wants(2).says("--advertise", "production")
	s.run(line+" --token "+token+" --token-file x --node a1").wants(2).says("--token-file", "both")
	s.run(line + " --token-file nowhere --node a1").wants(3)
	s.run("agent --dir d --vault nowhere --token "+token).wants(2).says("--vault", "give host:port")
	if _, err := os.Stat(s.path("d")); err == nil {
		t.Error("a refused command line left a directory behind")
	}
	s.run(line + " --token " + token + " --node a2").wants(homeward.Table[homeward.Forbidden].Exit).says(`admits "a1"`)
	s.run(strings.Replace(line, "agent", "master-target", 1) + " --token " + token + " --node a1").wants(homeward.Table[homeward.Forbidden].Exit).says("for role agent")
}

func revokedAt(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%s holds no list", path)
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return len(list.RevokedCertificateEntries)
}
