package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// admission is vault.Admission: who may call.
type admission struct {
	*core
	alerts *alerts
}

// A secret says whose it is, so that it is found without trying all of them:
//
//	hw.<name>.<64 hex digits>
const secretPrefix = "hw."

// localAdmin is the name of the break-glass administrator, who comes over the vault's
// own socket and has no token.
const localAdmin = "local"

// ownNames are those that entries of the audit log have which no token made.
var ownNames = []string{localAdmin, "vault", "node", "api"}

func newSecret(name string) string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it crashes the program instead
	return secretPrefix + name + "." + hex.EncodeToString(raw[:])
}

// hashOf is what is kept of a secret. It holds 256 random bits: a fast hash is
// as good as a slow one.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (a *admission) CreateToken(ctx context.Context, req vault.TokenRequest) (vault.APIToken, error) {
	t := store.Token{APIToken: vault.APIToken{Name: req.Name, Access: req.Access}}
	secret := newSecret(req.Name)
	t.Hash = hashOf(secret)
	err := a.change(ctx, asked{need: vault.Administrator, action: "token.create", subject: "token " + req.Name, detail: req, always: true}, func(ctx context.Context) error {
		if err := validName("create token", "name", req.Name); err != nil {
			return err
		}
		if slices.Contains(ownNames, req.Name) {
			return homeward.Errorf("create token", homeward.Invalid, "name", "choose another name", "%q is the vault's own: the audit log tells by it what no token did", req.Name)
		}
		if !req.Access.Includes(vault.Reader) {
			return homeward.Errorf("create token", homeward.Invalid, "access", "give reader, operator, contributor or administrator", "no such access: %q", req.Access)
		}
		if req.Lifetime < 0 {
			return homeward.Errorf("create token", homeward.Invalid, "lifetime", "give 0 for one that never expires, or a positive time", "%v", req.Lifetime)
		}
		if req.Lifetime > 0 {
			t.Expires = a.now().Add(req.Lifetime).UTC()
		}
		return a.store.Tokens.Insert(ctx, &t)
	})
	if err != nil {
		return vault.APIToken{}, err
	}
	t.Secret = secret
	return t.APIToken, nil
}

func (a *admission) Tokens(ctx context.Context, q vault.Query) (vault.Page[vault.APIToken], error) {
	var page vault.Page[vault.APIToken]
	if _, err := permit(ctx, "list tokens", vault.Administrator); err != nil {
		return page, err
	}
	stored, err := a.store.Tokens.List(ctx, q)
	for _, t := range stored.Entries {
		page.Entries = append(page.Entries, t.APIToken)
	}
	page.Next = stored.Next
	return page, err
}

func (a *admission) DeleteToken(ctx context.Context, name string) error {
	return a.change(ctx, asked{need: vault.Administrator, action: "token.delete", subject: "token " + name, always: true}, func(ctx context.Context) error {
		return a.store.Tokens.Delete(ctx, name)
	})
}

// Authenticate says who holds a secret; Unauthentic when nobody does, or the token
// has expired.
func (a *admission) Authenticate(ctx context.Context, secret string) (vault.Caller, error) {
	unknown := homeward.Errorf("authenticate", homeward.Unauthentic, "token", "ask an administrator for a new one", "the token is not known here")
	name, _, ok := strings.Cut(strings.TrimPrefix(secret, secretPrefix), ".")
	if !ok || !strings.HasPrefix(secret, secretPrefix) {
		return vault.Caller{}, unknown
	}
	t, err := a.store.Tokens.Get(ctx, name)
	if homeward.KindOf(err) == homeward.NotFound {
		return vault.Caller{}, unknown
	}
	if err != nil {
		return vault.Caller{}, err
	}
	if !sameHash(t.Hash, secret) {
		return vault.Caller{}, unknown
	}
	now := a.now().UTC()
	if !t.Expires.IsZero() && now.After(t.Expires) {
		return vault.Caller{}, homeward.Errorf("authenticate", homeward.Unauthentic, "token "+name,
			"ask an administrator for a new one", "it expired at %s", t.Expires.Format(time.RFC3339))
	}
	if err := a.mayHaveBeenDeleted(ctx, t); err != nil {
		return vault.Caller{}, err
	}
	a.noteUse(ctx, t, now)
	return vault.Caller{Name: name, Access: t.Access}, nil
}

// mayHaveBeenDeleted refuses tokens that came out of a backup until the vault is
// reconciled: one that was deleted since is there again, and only somebody at the vault's
// own host can say which.
func (a *admission) mayHaveBeenDeleted(ctx context.Context, t store.Token) error {
	why, err := a.readOnly(ctx)
	if err != nil || why == "" {
		return err
	}
	restored, err := a.store.Restored(ctx)
	if err != nil || !t.Created.Before(restored) {
		return err
	}
	return homeward.Errorf("authenticate", homeward.Unauthentic, "token "+t.Name,
		"at the vault's own host, as root, which takes no token: see 'homeward token list', delete those that were deleted since the backup, and run 'homeward reconcile'",
		"the vault is %s; tokens that were in the backup are not taken until it is reconciled", why)
}

// noteUse keeps when a token was used, to the minute: a call must not fail for it.
func (a *admission) noteUse(ctx context.Context, t store.Token, now time.Time) {
	if now.Sub(t.Used) < time.Minute {
		return
	}
	_, err := a.store.Tokens.Change(ctx, t.Name, func(t *store.Token) error {
		t.Used = now.Truncate(time.Minute)
		return nil
	})
	if err != nil {
		a.log.Warn("the use of a token is not noted", "token", t.Name, "error", err)
	}
}

func sameHash(stored, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(stored), []byte(hashOf(secret))) == 1
}
