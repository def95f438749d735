package service

import (
	"context"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// readOnly is why the vault is read-only; empty: it is not. A restored one is, until
// it knows what was done after its backup.
func (c *core) readOnly(ctx context.Context) (string, error) {
	return c.store.Setting(ctx, store.SettingReadOnly)
}

// Reconcile ends the read-only state of a restored vault. What the vault issues from
// then on is above every generation that a node has reported.
func (a *admission) Reconcile(ctx context.Context, force bool) (vault.Status, error) {
	var status vault.Status
	request := asked{need: vault.Administrator, action: "vault.reconcile", subject: "vault", detail: map[string]bool{"force": force}, always: true}
	err := a.order(ctx, request, func(ctx context.Context, _ vault.Caller) (err error) {
		if status, err = a.status(ctx); err != nil || !status.ReadOnly {
			return err
		}
		if err := a.revokeAgain(ctx, status.Unheard); err != nil {
			return err
		}
		if status, err = a.status(ctx); err != nil {
			return err
		}
		if len(status.Unheard) > 0 && !force {
			return homeward.Errorf("reconcile", homeward.Conflict, "vault", "wait for them, or force it: what they know of newer generations is then learned when they return",
				"nodes have not reported since the restore: %s", strings.Join(status.Unheard, ", "))
		}
		for it, err := range a.store.Items.All(ctx, vault.Query{}) {
			if err != nil {
				return err
			}
			if it.Record == nil {
				continue
			}
			if it, err = redraw(ctx, a.core, it); err != nil {
				return err
			}
			if _, err := a.alerts.learn(ctx, it, a.registry.MaxGeneration(it.ID)); err != nil {
				return err
			}
		}
		if err := a.store.SetSetting(ctx, store.SettingReadOnly, ""); err != nil {
			return err
		}
		status, err = a.status(ctx)
		return err
	})
	return status, err
}

// revokeAgain marks nodes that were revoked after the backup: nothing has been heard of
// them, and the authority's list, which nodes keep too, has their newest certificate.
func (a *admission) revokeAgain(ctx context.Context, unheard []string) error {
	for _, name := range unheard {
		n, err := a.store.Nodes.Get(ctx, name)
		if err != nil {
			return err
		}
		if a.identity == nil || len(n.Certificates) == 0 {
			continue
		}
		gone, err := a.identity.Revoked(n.Certificates[len(n.Certificates)-1].Serial)
		if err != nil {
			return err
		}
		if !gone {
			continue
		}
		if _, err := a.registry.Revoke(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// redraw replaces the generation that an item's next move was to be given: the vault
// may have given it after the backup, and a node that reports it would be taken for
// one that obeys this vault. That of a move that is under way is kept.
func redraw(ctx context.Context, c *core, it vault.Item) (vault.Item, error) {
	return c.store.Items.Change(ctx, string(it.ID), func(it *vault.Item) error {
		r := *it.Record
		if r.List.Op == "" && r.Next.Fences(r.Generation) {
			r.Next = homeward.Generation{Number: r.Next.Number, ID: homeward.NewID()}
			it.Record = &r
		}
		return nil
	})
}
