package pki

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// An authority that is put back from an old copy has forgotten what it revoked since.
// What it revokes then still reaches the nodes, and what they knew stays revoked.
func TestRevocations_OfAnAuthorityPutBack(t *testing.T) {
	a, dir := newTestAuthority(t)
	server := issue(t, a, Request{Peer: Peer{ProcessServer, "ps1"}})
	before, after := issue(t, a, Request{Peer: Peer{Agent, "web01"}}), issue(t, a, Request{Peer: Peer{Agent, "web02"}})
	good := issue(t, a, Request{Peer: Peer{Agent, "web03"}})
	copied, err := os.ReadFile(filepath.Join(dir, revokedFile))
	if err != nil {
		t.Fatal(err)
	}
	ps := load(t, server)
	take := func() {
		t.Helper()
		list, err := a.Revocations()
		if err == nil {
			err = ps.TakeRevocations(list)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, serial := range []string{"11", "22", "33"} { // so that numbers have gone on
		if err := a.RevokeSerials(serial); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Revoke(before); err != nil {
		t.Fatal(err)
	}
	take()
	overwrite(t, filepath.Join(dir, revokedFile), copied)
	if a, err = OpenAuthority(durable.OS(), dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(after); err != nil {
		t.Fatal(err)
	}
	take()
	for dir, revoked := range map[string]bool{before: true, after: true, good: false} {
		_, err, _ := shake(t, ps.ServerTLS(Agent), load(t, dir).ClientTLS(ProcessServer))
		if revoked {
			wantKind(t, err, homeward.Unauthentic, "revoked")
		} else if err != nil {
			t.Error(err)
		}
	}
}
