package vault

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
)

// Access is what a caller may do; each includes those before it.
type Access string

// The kinds of access.
const (
	Reader        Access = "reader"        // see everything but secrets
	Operator      Access = "operator"      // and run actions on protected items, answer alerts and jobs
	Contributor   Access = "contributor"   // and protect, disable, enrol, change policies and sites
	Administrator Access = "administrator" // and tokens, backup, break glass
)

var ranks = map[Access]int{Reader: 1, Operator: 2, Contributor: 3, Administrator: 4}

// Includes reports whether a holder of a may do what needs b.
func (a Access) Includes(b Access) bool {
	return ranks[a] != 0 && ranks[b] != 0 && ranks[a] >= ranks[b]
}

// Caller is who asks: the vault finds it in the context, put there by whoever
// authenticated it.
type Caller struct {
	Name   string `json:"name"` // of the token, or "local" for the break-glass administrator
	Access Access `json:"access"`
	From   string `json:"from,omitempty"` // address
}

type callerKey struct{}

// WithCaller says on whose behalf calls under ctx are made.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is who asks; Unauthentic if nobody was named.
func CallerOf(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return c, homeward.Errorf("authorize", homeward.Unauthentic, "caller", "send an API token: 'homeward token create' makes one", "no caller is known")
	}
	return c, nil
}

// APIToken lets a program or a person call the API. Its secret is told once, when
// it is made; the vault keeps a hash.
type APIToken struct {
	Meta
	Name    string    `json:"name"` // 1 to 64 letters, digits, '-' and '_'
	Access  Access    `json:"access"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Used    time.Time `json:"used,omitzero"`    // last, to the minute
	Secret  string    `json:"secret,omitempty"` // only in the answer that made it
}

// TokenRequest asks for an API token.
type TokenRequest struct {
	Name     string        `json:"name"`
	Access   Access        `json:"access"`
	Lifetime time.Duration `json:"lifetime,omitempty"` // 0: never expires
}

// AuditEntry is one change that was asked for, and what became of it. Entries are
// only ever added.
type AuditEntry struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Caller  string    `json:"caller"`
	From    string    `json:"from,omitempty"`
	Action  string    `json:"action"`  // "item.reprotect", "token.create", …
	Subject string    `json:"subject"` // what it was done to
	Detail  string    `json:"detail,omitempty"`
	Outcome string    `json:"outcome"` // "accepted", or the kind of the refusal
}
