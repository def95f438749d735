package service

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// asked is a change that somebody asks for, as the audit log tells it.
type asked struct {
	need    vault.Access
	action  string // "item.reprotect"
	subject string // what it is done to
	detail  any    // the request, kept as JSON; nil: none
	always  bool   // also while the vault is read-only
}

// accepted is the outcome of what was done, or begun.
const accepted = "accepted"

// permit finds out who asks, and whether that one may.
func permit(ctx context.Context, op string, need vault.Access) (vault.Caller, error) {
	caller, err := vault.CallerOf(ctx)
	if err == nil && !caller.Access.Includes(need) {
		err = homeward.Errorf(op, homeward.Forbidden, caller.Name,
			"use a token of access "+string(need)+", which an administrator makes with 'homeward token create'",
			"it takes access %q, and the caller has %q", need, caller.Access)
	}
	return caller, err
}

// see lets everybody pass who may read.
func (c *core) see(ctx context.Context) error {
	_, err := permit(ctx, "read", vault.Reader)
	return err
}

// change does in one transaction what a caller asks for and its entry in the audit
// log. What is refused is entered too, with the reason.
func (c *core) change(ctx context.Context, a asked, do func(context.Context) error) error {
	caller, err := c.mayChange(ctx, a)
	if err == nil {
		err = c.store.Tx(ctx, func(ctx context.Context) error {
			if err := do(ctx); err != nil {
				return err
			}
			return c.audit(ctx, caller, a, nil)
		})
	}
	return c.refuse(ctx, caller, a, err)
}

// order is change for what has effects outside the store: it is entered before
// the first of them, and again if it fails.
func (c *core) order(ctx context.Context, a asked, do func(context.Context, vault.Caller) error) error {
	caller, err := c.mayChange(ctx, a)
	if err == nil {
		err = c.audit(ctx, caller, a, nil)
	}
	if err == nil {
		err = do(ctx, caller)
	}
	return c.refuse(ctx, caller, a, err)
}

func (c *core) mayChange(ctx context.Context, a asked) (vault.Caller, error) {
	caller, err := permit(ctx, a.action, a.need)
	if err != nil || a.always {
		return caller, err
	}
	why, err := c.readOnly(ctx)
	if err == nil && why != "" {
		err = homeward.Errorf(a.action, homeward.Conflict, a.subject,
			"run 'homeward reconcile' when all nodes have reported, or with --force", "the vault is read-only: %s", why)
	}
	return caller, err
}

// refuse enters an error in the audit log and passes it on; nil stays nil.
func (c *core) refuse(ctx context.Context, caller vault.Caller, a asked, err error) error {
	if err == nil {
		return nil
	}
	// Whoever asked may be gone; that it was refused is kept all the same.
	return errors.Join(err, c.audit(context.WithoutCancel(ctx), caller, a, err))
}

// Bounds of an entry of the audit log, in bytes: entries stay for ever, and whoever
// may only read can make some that are refused.
const (
	maxDetail  = 4 << 10
	maxSubject = 256
)

// clip says that it left something out.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func (c *core) audit(ctx context.Context, caller vault.Caller, a asked, refusal error) error {
	e := vault.AuditEntry{At: c.now().UTC(), Caller: caller.Name, From: caller.From, Action: a.action, Subject: clip(a.subject, maxSubject), Outcome: accepted}
	if a.detail != nil {
		detail, err := json.Marshal(a.detail)
		if err != nil {
			return homeward.Errorf("audit", homeward.Internal, a.action, "", "%w", err)
		}
		e.Detail = clip(string(vault.WithoutSecrets(detail)), maxDetail) // whoever may read reads the log, for ever
	}
	if refusal != nil {
		e.Outcome = string(homeward.KindOf(refusal))
		e.Detail += " " + clip(refusal.Error(), maxDetail)
	}
	return homeward.Wrap(c.store.Audit(ctx, e), "write the audit log", a.action)
}
