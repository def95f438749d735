package enrol

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

const (
	firstRetry = time.Minute
	maxRetry   = time.Hour
	// longestSleep is how long Keep sleeps before it looks at the clock again, which
	// may have been set.
	longestSleep = time.Hour
)

// Keep renews an identity when two thirds of its certificate's life are over (and
// up to a twentieth more, so that nodes enrolled together do not renew together),
// until ctx ends; it returns nil then. The new certificate is in use with the next
// connection. A refusal and an expired certificate do not end it: both can be
// healed at the vault.
func Keep(ctx context.Context, id *pki.Identity, renew func(ctx context.Context, csr []byte) (pki.Grant, error), log *slog.Logger) error {
	told := ""
	var earliest time.Time // so that certificates of a few minutes do not keep it busy
	for {
		at := due(id.Issued(), id.Expires())
		if at.Before(earliest) {
			at = earliest
		}
		if !sleepUntil(ctx, at) {
			return nil
		}
		for pause := firstRetry; ; pause = min(2*pause, maxRetry) {
			err := renewOnce(ctx, id, renew)
			if err == nil {
				log.Info("the certificate was renewed", "expires", id.Expires())
				told, earliest = "", time.Now().Add(firstRetry)
				break
			}
			if text := err.Error(); text != told && ctx.Err() == nil {
				log.Warn("the certificate cannot be renewed", "expires", id.Expires(), "error", err)
				told = text
			}
			if !sleepUntil(ctx, time.Now().Add(pause/2+rand.N(pause/2))) {
				return nil
			}
		}
	}
}

func due(issued, expires time.Time) time.Time {
	life := expires.Sub(issued)
	return issued.Add(life*2/3 + rand.N(life/20+1))
}

func renewOnce(ctx context.Context, id *pki.Identity, renew func(ctx context.Context, csr []byte) (pki.Grant, error)) error {
	csr, err := id.NewCSR()
	if err != nil {
		return err
	}
	grant, err := renew(ctx, csr)
	if err != nil {
		return err
	}
	return id.Install(grant)
}

// sleepUntil reports false when ctx ended.
func sleepUntil(ctx context.Context, at time.Time) bool {
	for {
		left := time.Until(at)
		if left <= 0 {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(left, longestSleep)):
		}
	}
}

// BySelf renews the vault's own identity, with the names that operators reach it
// under: it holds the authority.
func BySelf(a *pki.Authority, id *pki.Identity) func(ctx context.Context, csr []byte) (pki.Grant, error) {
	return func(_ context.Context, der []byte) (pki.Grant, error) {
		csr, err := pki.ParseCSR(der)
		if err != nil {
			return pki.Grant{}, err
		}
		grant, _, err := a.IssueCSR(csr, id.Request())
		return grant, homeward.Wrap(err, "renew", id.Peer().String())
	}
}
