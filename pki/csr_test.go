package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// enrolled is an identity that was made by way of a request.
func enrolled(t *testing.T, a *Authority, dir string, r Request) Issued {
	t.Helper()
	grant, issued := granted(t, a, dir, r)
	if err := Install(durable.OS(), dir, r.Peer, grant); err != nil {
		t.Fatal(err)
	}
	return issued
}

func granted(t *testing.T, a *Authority, dir string, r Request) (Grant, Issued) {
	t.Helper()
	der, err := NewCSR(durable.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	grant, issued, err := a.IssueCSR(csr, r)
	if err != nil {
		t.Fatal(err)
	}
	if issued.Key != csr.Key() {
		t.Fatalf("issued for key %s, asked for %s", issued.Key, csr.Key())
	}
	return grant, issued
}

func TestCSR_EnrolAndRenewUnderTheUsers(t *testing.T) {
	a, _ := newTestAuthority(t)
	dir := filepath.Join(t.TempDir(), "id")
	first := enrolled(t, a, dir, Request{Peer: Peer{Agent, "web01"}})
	id := load(t, dir)
	server := load(t, issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}}))
	config, listening := id.ClientTLS(ProcessServer), server.ServerTLS(Agent)

	second := enrolled(t, a, dir, Request{Peer: Peer{Agent, "web01"}})
	if first.Serial == second.Serial || first.Key == second.Key {
		t.Fatal("a renewal kept serial or key")
	}
	if err := id.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := a.RevokeSerials(first.Serial); err != nil { // would be refused if still shown
		t.Fatal(err)
	}
	list, err := a.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.TakeRevocations(list); err != nil {
		t.Fatal(err)
	}
	if _, serverErr, clientErr := shake(t, listening, config); serverErr != nil || clientErr != nil {
		t.Fatalf("with the renewed certificate: server %v, client %v", serverErr, clientErr)
	}
}

// A crash between the certificate and the renaming of its key, and one before the
// certificate, leave a whole identity.
func TestInstall_CrashLeavesAWholeIdentity(t *testing.T) {
	a, _ := newTestAuthority(t)
	dir := filepath.Join(t.TempDir(), "id")
	r := Request{Peer: Peer{Agent, "web01"}}
	enrolled(t, a, dir, r)
	old, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewCSR(durable.OS(), dir); err != nil {
		t.Fatal(err)
	}
	load(t, dir) // the pending key does no harm
	enrolled(t, a, dir, r)
	if err := os.Rename(filepath.Join(dir, keyFile), filepath.Join(dir, nextKeyFile)); err != nil {
		t.Fatal(err)
	}
	load(t, dir)
	overwrite(t, filepath.Join(dir, keyFile), old)
	load(t, dir)
}

func TestNewCSR_RepeatsThePendingKey(t *testing.T) {
	a, _ := newTestAuthority(t)
	dir := filepath.Join(t.TempDir(), "id")
	r := Request{Peer: Peer{Agent, "web01"}}
	_, first := granted(t, a, dir, r)
	_, again := granted(t, a, dir, r)
	if first.Key != again.Key {
		t.Error("asked again, another key was made")
	}
}

func TestCSR_Refusals(t *testing.T) {
	a, _ := newTestAuthority(t)
	foreign, _ := newTestAuthority(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{Peer{Vault, "v1"}.URI()}}, key)
	if err != nil {
		t.Fatal(err)
	}
	lie, err := ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = a.IssueCSR(lie, Request{Peer: Peer{Agent, "web01"}})
	wantKind(t, err, homeward.Forbidden, "vault v1")
	_, err = ParseCSR(der[:len(der)-1])
	wantKind(t, err, homeward.Invalid, "csr")
	_, err = ParseCSR(make([]byte, MaxCSR+1))
	wantKind(t, err, homeward.Invalid, "at most")
	big, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, big); err != nil {
		t.Fatal(err)
	}
	_, err = ParseCSR(der)
	wantKind(t, err, homeward.Invalid, "P-256")

	dir := filepath.Join(t.TempDir(), "id")
	mine := Peer{Agent, "web01"}
	grant, _ := granted(t, a, dir, Request{Peer: mine})
	wantKind(t, Install(durable.OS(), dir, Peer{Agent, "web02"}, grant), homeward.Corrupt, "not this node's")
	other, _ := granted(t, a, filepath.Join(t.TempDir(), "id"), Request{Peer: mine})
	wantKind(t, Install(durable.OS(), dir, mine, other), homeward.Corrupt, "another key")
	mixed, _ := granted(t, foreign, dir, Request{Peer: mine})
	mixed.Revoked = grant.Revoked
	wantKind(t, Install(durable.OS(), dir, mine, mixed), homeward.Corrupt, "not signed")
	if _, err := os.Stat(filepath.Join(dir, certFile)); err == nil {
		t.Error("a refused grant left a certificate")
	}
}

func TestReload_RefusesAnotherNode(t *testing.T) {
	a, _ := newTestAuthority(t)
	dir := issue(t, a, Request{Peer: Peer{Agent, "web01"}})
	id := load(t, dir)
	if err := a.Issue(Request{Peer: Peer{Agent, "web02"}}, dir); err != nil {
		t.Fatal(err)
	}
	wantKind(t, id.Reload(), homeward.Conflict, "web02")
	if id.Peer().Name != "web01" {
		t.Error("it became another node")
	}
}

func TestTakeRevocations_OnlyNewerOnesOfOurAuthority(t *testing.T) {
	a, _ := newTestAuthority(t)
	foreign, _ := newTestAuthority(t)
	dir := issue(t, a, Request{Peer: Peer{Agent, "web01"}})
	id := load(t, dir)
	empty, err := a.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RevokeSerials("1234", "abcd", "1234"); err != nil {
		t.Fatal(err)
	}
	full, err := a.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]byte{full, empty, full} { // the old one again changes nothing
		if err := id.TakeRevocations(list); err != nil {
			t.Fatal(err)
		}
	}
	lists, err := readPEM(durable.OS(), filepath.Join(dir, revokedFile), listBlock, x509.ParseRevocationList)
	if err != nil || len(lists) != 1 || !bytes.Equal(lists[0].Raw, full) {
		t.Fatalf("kept %d lists: %v", len(lists), err)
	}
	alien, err := foreign.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, id.TakeRevocations(alien), homeward.Unauthentic)
	wantKind(t, id.TakeRevocations([]byte("x")), homeward.Invalid)
	wantKind(t, a.RevokeSerials("0"), homeward.Invalid, "serial")
	wantKind(t, a.RevokeSerials("12", "zz"), homeward.Invalid, "serial")
}

// Who may speak to a listener that is for enrolment alone, and who is taken
// anywhere else.
func TestEnrolmentTLS_TakesTheLapsedButNotTheRevoked(t *testing.T) {
	a, _ := newTestAuthority(t)
	foreign, _ := newTestAuthority(t)
	server := load(t, issue(t, a, Request{Peer: Peer{Vault, "v1"}}))
	day := 24 * time.Hour
	// The authority itself is valid from five minutes ago.
	lapsed := Request{Peer: Peer{Agent, "web01"}, From: time.Now().Add(-4 * time.Minute), Lifetime: time.Minute}
	meet := func(config *tls.Config, dir string) error {
		client := load(t, dir).ClientTLS(Vault)
		client.VerifyConnection = nil // so that the server's judgement is what counts
		_, err, _ := shake(t, config, client)
		return err
	}
	dir := issue(t, a, lapsed)
	if err := meet(server.EnrolmentTLS(), dir); err != nil {
		t.Errorf("expired: %v", err)
	}
	wantKind(t, meet(server.ServerTLS(Roles()...), dir), homeward.Unauthentic, "renew")
	wantKind(t, meet(server.EnrolmentTLS(), issue(t, foreign, lapsed)), homeward.Unauthentic)
	wantKind(t, meet(server.EnrolmentTLS(), issue(t, a, Request{Peer: lapsed.Peer, From: time.Now().Add(day)})), homeward.Unauthentic, "clocks")
	if err := a.Revoke(dir); err != nil {
		t.Fatal(err)
	}
	list, err := a.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.TakeRevocations(list); err != nil {
		t.Fatal(err)
	}
	wantKind(t, meet(server.EnrolmentTLS(), dir), homeward.Unauthentic, "revoked")
}

func TestPinnedTLS(t *testing.T) {
	a, _ := newTestAuthority(t)
	foreign, _ := newTestAuthority(t)
	server := load(t, issue(t, a, Request{Peer: Peer{Vault, "v1"}}))
	// The server refuses to name a peer without certificate, after the handshake.
	_, serverErr, _ := shake(t, server.EnrolmentTLS(), PinnedTLS(a.Fingerprint(), Vault))
	wantKind(t, serverErr, homeward.Unauthentic, "showed no certificate")
	_, _, err := shake(t, server.EnrolmentTLS(), PinnedTLS(foreign.Fingerprint(), Vault))
	wantKind(t, Explain(err, "dial", "v1"), homeward.Unauthentic, "fingerprint")
	_, _, err = shake(t, server.EnrolmentTLS(), PinnedTLS(a.Fingerprint(), Agent))
	wantKind(t, Explain(err, "dial", "v1"), homeward.Forbidden, "vault v1")

	// A stranger that shows our authority's certificate beside its own is found out.
	stranger := load(t, issue(t, foreign, Request{Peer: Peer{Vault, "v1"}}))
	stranger.held.Load().cas = server.held.Load().cas
	_, _, err = shake(t, stranger.EnrolmentTLS(), PinnedTLS(a.Fingerprint(), Vault))
	wantKind(t, Explain(err, "dial", "v1"), homeward.Unauthentic)
}

func FuzzParseCSR(f *testing.F) {
	dir := f.TempDir()
	der, err := NewCSR(durable.OS(), dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCSR(data)
		if err == nil && (c.key == nil || c.Key() == "") {
			t.Fatal("no key and no error")
		}
		if err != nil && homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("kind %s: %v", homeward.KindOf(err), err)
		}
	})
}
