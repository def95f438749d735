package pki

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// meet connects two nodes and gives both ends, shaken.
func meet(t *testing.T, server, client *tls.Config) (accepted, dialled *tls.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	shaken := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err == nil {
			accepted = tls.Server(raw, server)
			err = accepted.Handshake()
		}
		shaken <- err
	}()
	dialled, err = tls.Dial("tcp", ln.Addr().String(), client)
	if err := errors.Join(err, <-shaken); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = accepted.Close(), dialled.Close() })
	return accepted, dialled
}

// ended reports that the other end was closed.
func ended(t *testing.T, c *tls.Conn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// speaks reports that what one end says reaches the other.
func speaks(t *testing.T, from, to *tls.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// A connection of a peer that is revoked ends with the list that says so, at whichever
// end it is watched; the others go on.
func TestWatch_RevocationCutsOpenConnections(t *testing.T) {
	a, _ := newTestAuthority(t)
	bad, good := issue(t, a, Request{Peer: Peer{Agent, "web01"}}), issue(t, a, Request{Peer: Peer{Agent, "web02"}})
	ps := load(t, issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}}))
	fromBad, badEnd := meet(t, ps.ServerTLS(Agent), load(t, bad).ClientTLS(ProcessServer))
	toBad, badServer := meet(t, ps.ServerTLS(Agent), load(t, bad).ClientTLS(ProcessServer))
	_ = toBad
	badListens, byPS := meet(t, load(t, bad).ServerTLS(ProcessServer), ps.ClientTLS(Agent))
	fromGood, goodEnd := meet(t, ps.ServerTLS(Agent), load(t, good).ClientTLS(ProcessServer))
	defer ps.Watch(fromBad)()
	defer ps.Watch(byPS)()
	defer ps.Watch(fromGood)()
	if err := a.Revoke(bad); err != nil {
		t.Fatal(err)
	}
	list, err := a.Revocations()
	if err == nil {
		err = ps.TakeRevocations(list)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !ended(t, badEnd) || !ended(t, badListens) {
		t.Error("a connection with a revoked peer is open")
	}
	speaks(t, goodEnd, fromGood)
	// One that is watched only now, after its handshake and the list.
	defer ps.Watch(toBad)()
	if !ended(t, badServer) {
		t.Error("a connection of a peer that was revoked meanwhile is open")
	}
}

func TestNamed(t *testing.T) {
	a, _ := newTestAuthority(t)
	ps := load(t, issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}}))
	agent := load(t, issue(t, a, Request{Peer: Peer{Agent, "web01"}}))
	for _, name := range []string{"", "ps1"} {
		if _, server, client := shake(t, Named(ps.ServerTLS(Agent), ""), Named(agent.ClientTLS(ProcessServer), name)); server != nil || client != nil {
			t.Errorf("%q: %v, %v", name, server, client)
		}
	}
	_, _, err := shake(t, ps.ServerTLS(Agent), Named(agent.ClientTLS(ProcessServer), "ps2"))
	wantKind(t, err, homeward.Forbidden, "ps2 is expected")
	_, _, err = shake(t, ps.ServerTLS(Agent), Named(agent.ClientTLS(MasterTarget), "ps1"))
	wantKind(t, err, homeward.Forbidden, "role")
}

// A renewal does not take back what a node knows to be revoked, and the authority
// learns it again from the node.
func TestRevocations_SurviveRenewalByAnAuthorityPutBack(t *testing.T) {
	a, dir := newTestAuthority(t)
	bad := issue(t, a, Request{Peer: Peer{Agent, "web01"}})
	home := filepath.Join(t.TempDir(), "ps")
	want := Request{Peer: Peer{ProcessServer, "ps1"}}
	enrolled(t, a, home, want)
	copied, err := os.ReadFile(filepath.Join(dir, revokedFile))
	if err != nil {
		t.Fatal(err)
	}
	ps := load(t, home)
	if err := a.Revoke(bad); err != nil {
		t.Fatal(err)
	}
	list, err := a.Revocations()
	if err == nil {
		err = ps.TakeRevocations(list)
	}
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(dir, revokedFile), copied)
	if a, err = OpenAuthority(durable.OS(), dir); err != nil {
		t.Fatal(err)
	}
	refused := func() {
		t.Helper()
		_, err, _ := shake(t, ps.ServerTLS(Agent), load(t, bad).ClientTLS(ProcessServer))
		wantKind(t, err, homeward.Unauthentic, "revoked")
	}
	enrolled(t, a, home, want)
	if err := ps.Reload(); err != nil {
		t.Fatal(err)
	}
	refused()

	relearn := func() (learned int) {
		t.Helper()
		own, err := a.Revocations()
		if err != nil {
			t.Fatal(err)
		}
		others, err := ps.OtherRevocations(own)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range others {
			n, err := a.Relearn(other)
			if err != nil {
				t.Fatal(err)
			}
			learned += n
		}
		if own, err = a.Revocations(); err == nil {
			err = ps.TakeRevocations(own)
		}
		if err != nil {
			t.Fatal(err)
		}
		return learned
	}
	if n := relearn(); n != 1 {
		t.Errorf("%d were learned again", n)
	}
	if n := relearn(); n != 0 {
		t.Errorf("%d were learned twice", n)
	}
	refused()
	stranger, _ := newTestAuthority(t)
	foreign, err := stranger.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Relearn(foreign)
	wantKind(t, err, homeward.Unauthentic)
}
