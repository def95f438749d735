package service

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// What was taken back after the backup does not come back with it by itself: API tokens
// wait for somebody at the vault's host, and a node that was revoked stays so.
func TestRestored_WhatWasTakenBackSince(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	made, err := r.CreateToken(admin(ctx), vault.TokenRequest{Name: "leaked", Access: vault.Administrator})
	must(t, err)
	lost := r.node(pki.Agent, "lost", "home")
	lost.Certificates = []pki.Issued{{Serial: "abc1", Until: r.clock.now().Add(time.Hour)}}
	must(t, r.store.Nodes.Insert(ctx, &lost))
	var backup bytes.Buffer
	must(t, r.store.Backup(ctx, &backup))
	must(t, r.DeleteToken(admin(ctx), "leaked"))
	must(t, r.authority.RevokeSerials("abc1"))
	list, err := r.authority.Revocations()
	must(t, err)
	must(t, r.id.TakeRevocations(list))
	r.close()
	r.url = newFile(t)
	must(t, store.Restore(ctx, store.Config{URL: r.url, Log: slog.New(slog.DiscardHandler), Now: r.clock.now}, &backup))
	r.open(ctx)
	_, err = r.Authenticate(ctx, made.Secret)
	kind(t, err, homeward.Unauthentic, "reconciled")
	fresh, err := r.CreateToken(admin(ctx), vault.TokenRequest{Name: "fresh", Access: vault.Reader})
	must(t, err)
	_, err = r.Authenticate(ctx, fresh.Secret)
	must(t, err)
	for n, err := range r.store.Nodes.All(ctx, vault.Query{}) {
		must(t, err)
		if n.Name == lost.Name {
			continue // it does not come in
		}
		_, err = r.store.Nodes.Change(ctx, n.Name, func(n *vault.Node) error { n.Heartbeat = r.clock.now(); return nil })
		must(t, err)
	}
	status, err := r.Reconcile(admin(ctx), false)
	must(t, err)
	if n, err := r.store.Nodes.Get(ctx, lost.Name); err != nil || n.State != vault.NodeRevoked || status.ReadOnly {
		t.Errorf("%+v, %v; read-only %t", n, err, status.ReadOnly)
	}
	_, err = r.Authenticate(ctx, made.Secret) // whoever reconciled has looked at it
	must(t, err)
}
