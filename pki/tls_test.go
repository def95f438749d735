package pki

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

// shake connects both sides and returns what each of them found wrong, and whom
// the server saw.
func shake(t *testing.T, server, client *tls.Config) (seen Peer, serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := ln.Accept()
		if err != nil {
			serverErr = err
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close()
		if serverErr = conn.Handshake(); serverErr != nil {
			return
		}
		cs := conn.ConnectionState()
		if seen, serverErr = PeerOf(&cs); serverErr == nil {
			_, serverErr = conn.Write([]byte("x"))
		}
	}()
	conn, clientErr := tls.Dial("tcp", ln.Addr().String(), client)
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
		clientErr = errors.Join(clientErr, conn.Close())
	}
	<-done
	return seen, serverErr, clientErr
}

func TestTLS_RightRolesMeet(t *testing.T) {
	a, _ := newTestAuthority(t)
	agent := load(t, issue(t, a, Request{Peer: Peer{Agent, "web01"}}))
	ps := load(t, issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}}))
	seen, serverErr, clientErr := shake(t, ps.ServerTLS(Agent, ProcessServer), agent.ClientTLS(ProcessServer))
	if serverErr != nil || clientErr != nil {
		t.Fatalf("server %v, client %v", serverErr, clientErr)
	}
	if seen != agent.Peer() {
		t.Errorf("server saw %v", seen)
	}
}

func TestTLS_Refusals(t *testing.T) {
	a, _ := newTestAuthority(t)
	foreign, _ := newTestAuthority(t)
	day := 24 * time.Hour
	ps := Peer{ProcessServer, "ps1"}
	agent := Peer{Agent, "web01"}
	for _, c := range []struct {
		name string
		from *Authority
		who  Request
		kind homeward.Kind
		says string
	}{
		{"wrong role", a, Request{Peer: Peer{MasterTarget, "mt1"}}, homeward.Forbidden, "master-target mt1"},
		{"other authority", foreign, Request{Peer: agent}, homeward.Unauthentic, "same authority"},
		{"expired", a, Request{Peer: agent, From: time.Now().Add(-2 * day), Lifetime: day}, homeward.Unauthentic, "renew"},
		{"not yet valid", a, Request{Peer: agent, From: time.Now().Add(day)}, homeward.Unauthentic, "clocks"},
	} {
		t.Run(c.name+" client", func(t *testing.T) {
			server := load(t, issue(t, a, Request{Peer: ps}))
			client := load(t, issue(t, c.from, c.who))
			config := client.ClientTLS(ProcessServer)
			config.VerifyConnection = nil // so that the server's judgement is what counts
			_, serverErr, clientErr := shake(t, server.ServerTLS(Agent), config)
			wantKind(t, serverErr, c.kind, c.says)
			wantKind(t, Explain(clientErr, "dial", "ps1"), homeward.Unauthentic, "refused this node")
		})
		t.Run(c.name+" server", func(t *testing.T) {
			server := load(t, issue(t, c.from, c.who))
			client := load(t, issue(t, a, Request{Peer: ps}))
			_, serverErr, clientErr := shake(t, server.ServerTLS(Roles()...), client.ClientTLS(Agent))
			wantKind(t, Explain(clientErr, "dial", "web01"), c.kind, c.says)
			if serverErr == nil {
				t.Error("the server noticed nothing")
			}
		})
	}
}

func TestTLS_NeedsCertificateAndTLS13(t *testing.T) {
	a, _ := newTestAuthority(t)
	ps := load(t, issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}}))
	naked := ps.ClientTLS(ProcessServer)
	naked.GetClientCertificate = nil
	if _, err, _ := shake(t, ps.ServerTLS(ProcessServer), naked); err == nil {
		t.Error("a client without certificate was let in")
	}
	old := ps.ClientTLS(ProcessServer)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err, _ := shake(t, ps.ServerTLS(ProcessServer), old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	_, err := PeerOf(nil)
	wantKind(t, err, homeward.Unauthentic)
}

func TestTLS_RevocationTakesEffectWithoutRestart(t *testing.T) {
	a, _ := newTestAuthority(t)
	serverDir := issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}})
	clientDir := issue(t, a, Request{Peer: Peer{Agent, "web01"}})
	server, client := load(t, serverDir), load(t, clientDir)
	meet := func() error {
		_, err, _ := shake(t, server.ServerTLS(Agent), client.ClientTLS(ProcessServer))
		return err
	}
	if err := meet(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // revoking twice is no error
		if err := a.Revoke(clientDir); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Distribute(serverDir); err != nil {
		t.Fatal(err)
	}
	wantKind(t, meet(), homeward.Unauthentic, "revoked")

	list := filepath.Join(serverDir, revokedFile)
	foreign, _ := newTestAuthority(t)
	if err := foreign.Distribute(serverDir); err != nil {
		t.Fatal(err)
	}
	wantKind(t, meet(), homeward.Unauthentic, "no revocation list")
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	wantKind(t, meet(), homeward.Unauthentic, revokedFile)
	wantKind(t, foreign.Revoke(clientDir), homeward.Invalid)
}
