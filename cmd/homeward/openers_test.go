package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/pki"
)

// A reference that names its node is opened at that one alone.
func TestOpeners_AskForTheNodeOfTheReference(t *testing.T) {
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
	agent, host := identity(pki.Peer{Role: pki.Agent, Name: "a1"}), identity(pki.Peer{Role: pki.ConfigurationServer, Name: "host"})
	s := nbd.NewServer(nbd.ServerOptions{TLS: agent.ServerTLS(pki.ConfigurationServer), RequireTLS: true})
	if err := s.Add(nbd.Export{Name: "d", Disk: block.NewMemory(1 << 20)}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
	})
	for name, good := range map[string]bool{"": true, "a1@": true, "a2@": false} {
		d, err := openers(host, slog.New(slog.DiscardHandler)).Open(t.Context(), "nbds://"+name+ln.Addr().String()+"/d", block.Mode{ReadOnly: true})
		switch {
		case good && err != nil:
			t.Errorf("%q: %v", name, err)
		case !good && (err == nil || !strings.Contains(err.Error(), "a2 is expected")):
			t.Errorf("another node's disk was opened: %v", err)
		}
		if err == nil {
			_ = d.Close()
		}
	}
}
