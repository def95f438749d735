package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
)

func hasKey(t *testing.T, s *shell, block string) bool {
	t.Helper()
	data, err := os.ReadFile(s.path("v/ca/ca-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(data), "BEGIN "+block)
}

// The private key of a vault's authority is encrypted from the first moment; without
// the key to it the vault does not start, and makes none that would look like it.
func TestVault_AuthorityIsSealed(t *testing.T) {
	s := newShell(t)
	s.run("vault init --dir v").wants(0)
	if hasKey(t, s, "PRIVATE KEY") || !hasKey(t, s, "HOMEWARD SEALED KEY") {
		t.Fatal("the authority's private key lies open")
	}
	_, stop := startVault(t, s)
	stop()
	if err := durable.OS().Rename(s.path("v/authority.key"), s.path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	s.run("vault --dir v --listen-api 127.0.0.1:0 --listen-nodes 127.0.0.1:0").wants(homeward.Table[homeward.Invalid].Exit)
	if _, err := os.Stat(s.path("v/authority.key")); err == nil {
		t.Error("a key that opens nothing was made")
	}
	issue := "pki issue --ca v/ca --role agent --name a --out id"
	s.run(issue).wants(homeward.Table[homeward.Invalid].Exit)
	s.run(issue + " --sealing-key nowhere").wants(homeward.Table[homeward.NotFound].Exit)
	s.run(issue + " --sealing-key elsewhere").wants(0)
	s.run("pki revoke --ca v/ca --sealing-key elsewhere id").wants(0)
}

// Whoever keeps the key beside what it seals is told so; no backup has either of them.
func TestVault_KeyBesideTheAuthority(t *testing.T) {
	s := newShell(t)
	const warning = "lies beside it"
	if made := s.run("vault init --dir v"); !strings.Contains(made.errOut, warning) || !strings.Contains(made.errOut, "--sealing-key") {
		t.Errorf("init says %q", made.errOut)
	}
	s.run("vault backup --dir v --out b").wants(0)
	backup, err := os.ReadFile(s.path("b"))
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(backup[bytes.Index(backup, []byte{0x1f, 0x8b}):]))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(zipped) // a sum follows, which is not zipped
	key, err := os.ReadFile(s.path("v/authority.key"))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 || bytes.Contains(text, bytes.TrimSpace(key)) || bytes.Contains(text, []byte("SEALED KEY")) {
		t.Errorf("a backup of %d bytes holds the key, or what it seals", len(text))
	}
	if made := s.run("vault init --dir w --sealing-key elsewhere.key"); made.code != 0 || strings.Contains(made.errOut, warning) {
		t.Errorf("init with a key elsewhere: %d, %q", made.code, made.errOut)
	}
	t.Setenv(pki.SealingVariable, strings.Repeat("5a", 32))
	if made := s.run("vault init --dir x"); made.code != 0 || strings.Contains(made.errOut, warning) {
		t.Errorf("init with a key of the environment: %d, %q", made.code, made.errOut)
	}
}

// An authority that was made by hand, or before keys were sealed, is sealed when the
// vault is set up with it.
func TestVault_SealsAnAuthorityThatLiesOpen(t *testing.T) {
	s := newShell(t)
	s.run("pki init --ca v/ca").wants(0)
	if !hasKey(t, s, "PRIVATE KEY") {
		t.Fatal("this is about a key that lies open")
	}
	t.Setenv(pki.SealingVariable, strings.Repeat("5a", 32))
	s.run("vault init --dir v").wants(0)
	if hasKey(t, s, "PRIVATE KEY") {
		t.Error("it lies open still")
	}
	if _, err := os.Stat(s.path("v/authority.key")); err == nil {
		t.Error("a key file was made beside the key that was given")
	}
}

// A restored vault on another host has the authority and the store: it makes itself
// the identity that no backup holds.
func TestVault_RestoredElsewhere(t *testing.T) {
	s := newShell(t)
	s.run("vault init --dir v").wants(0)
	if err := os.RemoveAll(s.path("v/identity")); err != nil {
		t.Fatal(err)
	}
	told, stop := startVault(t, s)
	defer stop()
	if _, err := client(t, api.ClientOptions{URL: "unix://" + told.Socket}).Status(t.Context()); err != nil {
		t.Error(err)
	}
}
