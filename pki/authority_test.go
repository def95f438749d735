package pki

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

func newTestAuthority(t *testing.T) (*Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := CreateAuthority(durable.OS(), dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

func issue(t *testing.T, a *Authority, r Request) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), r.Name)
	if err := a.Issue(r, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, dir string) *Identity {
	t.Helper()
	id, err := LoadIdentity(durable.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wantKind(t *testing.T, err error, kind homeward.Kind, words ...string) {
	t.Helper()
	if homeward.KindOf(err) != kind || err == nil {
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

func TestAuthority_IssueAndLoad(t *testing.T) {
	a, caDir := newTestAuthority(t)
	dir := issue(t, a, Request{Peer: Peer{ProcessServer, "ps-east"}, DNSNames: []string{"ps.example"}, Addresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	id := load(t, dir)
	if id.Peer() != (Peer{ProcessServer, "ps-east"}) {
		t.Errorf("loaded %v", id.Peer())
	}
	if left := time.Until(id.Expires()); left > DefaultLifetime || left < DefaultLifetime-time.Hour {
		t.Errorf("expires in %v", left)
	}
	for _, key := range []string{filepath.Join(dir, keyFile), filepath.Join(caDir, caKeyFile)} {
		info, err := os.Stat(key)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v", key, err, info.Mode())
		}
	}
	again, err := OpenAuthority(durable.OS(), caDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Issue(Request{Peer: Peer{Agent, "web01"}}, dir); err != nil {
		t.Fatal(err)
	}
	if got := load(t, dir).Peer(); got != (Peer{Agent, "web01"}) {
		t.Errorf("a new identity did not replace the old one: %v", got)
	}
}

func TestAuthority_RefusesWhatIsWrong(t *testing.T) {
	a, caDir := newTestAuthority(t)
	_, err := CreateAuthority(durable.OS(), caDir, "again")
	wantKind(t, err, homeward.Exists, caDir)
	_, err = OpenAuthority(durable.OS(), t.TempDir())
	wantKind(t, err, homeward.NotFound, "pki init")
	for field, r := range map[string]Request{
		"role":      {Peer: Peer{"boss", "web01"}},
		"name":      {Peer: Peer{Agent, "web/01"}},
		"lifetime":  {Peer: Peer{Agent, "web01"}, Lifetime: -time.Second},
		"dns":       {Peer: Peer{Agent, "web01"}, DNSNames: []string{"a b"}},
		"addresses": {Peer: Peer{Agent, "web01"}, Addresses: make([]net.IP, 101)},
	} {
		dir := filepath.Join(t.TempDir(), "id")
		wantKind(t, a.Issue(r, dir), homeward.Invalid, field)
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: something was written all the same", field)
		}
	}
}

func TestLoadIdentity_NamesTheBadFile(t *testing.T) {
	a, _ := newTestAuthority(t)
	other := issue(t, a, Request{Peer: Peer{Agent, "other"}})
	_, err := LoadIdentity(durable.OS(), filepath.Join(t.TempDir(), "none"))
	wantKind(t, err, homeward.NotFound, "pki issue")

	dir := issue(t, a, Request{Peer: Peer{Agent, "web01"}})
	key, err := os.ReadFile(filepath.Join(other, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(dir, keyFile), key)
	_, err = LoadIdentity(durable.OS(), dir)
	wantKind(t, err, homeward.Corrupt, "do not belong together")

	for _, name := range []string{caFile, certFile, keyFile} {
		dir := issue(t, a, Request{Peer: Peer{Agent, "web01"}})
		overwrite(t, filepath.Join(dir, name), []byte("-----BEGIN JUNK-----\n-----END JUNK-----\n"))
		_, err := LoadIdentity(durable.OS(), dir)
		wantKind(t, err, homeward.Corrupt, name)
	}
}

func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := durable.WriteFile(durable.OS(), path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpensslAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is needed for this test: apt-get install openssl")
	}
	a, caDir := newTestAuthority(t)
	dir := issue(t, a, Request{Peer: Peer{MasterTarget, "mt1"}})
	run := func(args ...string) (string, error) {
		out, err := exec.Command(openssl, args...).CombinedOutput()
		return string(out), err
	}
	ca, cert := filepath.Join(dir, caFile), filepath.Join(dir, certFile)
	verify := []string{"verify", "-x509_strict", "-crl_check", "-CAfile", ca, "-CRLfile", filepath.Join(caDir, revokedFile), cert}
	if out, err := run(verify...); err != nil {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
	if out, err := run("x509", "-in", cert, "-noout", "-ext", "subjectAltName"); err != nil || !strings.Contains(out, "URI:homeward://master-target/mt1") {
		t.Errorf("openssl x509: %v\n%s", err, out)
	}
	if err := a.Revoke(dir); err != nil {
		t.Fatal(err)
	}
	if out, err := run(verify...); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("openssl accepts a revoked certificate: %v\n%s", err, out)
	}
}
