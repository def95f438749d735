package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Who raises alerts. A source settles all alerts it has about a subject at once.
const (
	fromInventory = "inventory"
	fromMonitor   = "monitor"
	fromAgent     = "agent"
	fromTarget    = "master target"
	fromFence     = "fence"
	fromNodes     = "nodes"
	fromJobs      = "jobs"
	fromKeeper    = "keeper"
	fromDoubt     = "doubt"
	fromRecord    = "record"
)

// alerts keeps what somebody should know, until its cause is gone. Safe for
// concurrent use.
type alerts struct {
	*core

	mu   sync.Mutex
	open map[string]map[string]vault.Alert // by scope and code; what the store holds open
}

// textEvery is how often the text of a standing alert is brought up to date.
const textEvery = time.Minute

// scopeOf is the part of an alert's id that says who raised it about what.
func scopeOf(source, subject string) string {
	sum := sha256.Sum256([]byte(source + "\x00" + subject))
	return hex.EncodeToString(sum[:8])
}

// load reads what is open.
func (a *alerts) load(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = map[string]map[string]vault.Alert{}
	for alert, err := range a.store.Alerts.All(ctx, vault.Query{}) {
		if err != nil {
			return err
		}
		if alert.Cleared.IsZero() && len(alert.ID) > 16 {
			a.note(alert.ID[:16], alert)
		}
	}
	return nil
}

func (a *alerts) note(scope string, alert vault.Alert) {
	if a.open[scope] == nil {
		a.open[scope] = map[string]vault.Alert{}
	}
	a.open[scope][alert.Code] = alert
}

// settle makes the open alerts that a source has about a subject be these: new ones
// are raised, others cleared. It writes only what changed.
func (a *alerts) settle(ctx context.Context, source, subject string, now ...vault.Alert) error {
	scope, at := scopeOf(source, subject), a.now().UTC()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, alert := range now {
		was, open := a.open[scope][alert.Code]
		if open && was.Severity == alert.Severity && (was.Text == alert.Text || at.Sub(was.Changed) < textEvery) {
			continue
		}
		alert.ID, alert.Subject = scope+"-"+alert.Code, subject
		stored, err := a.raise(ctx, alert, at)
		if err != nil {
			return err
		}
		a.note(scope, stored)
	}
	for code, alert := range a.open[scope] {
		if slices.ContainsFunc(now, func(n vault.Alert) bool { return n.Code == code }) {
			continue
		}
		_, err := a.store.Alerts.Change(ctx, alert.ID, func(s *vault.Alert) error {
			s.Cleared = at
			return nil
		})
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			return err
		}
		delete(a.open[scope], code)
	}
	if len(a.open[scope]) == 0 {
		delete(a.open, scope)
	}
	return nil
}

func (a *alerts) raise(ctx context.Context, alert vault.Alert, at time.Time) (vault.Alert, error) {
	stored, err := a.store.Alerts.Change(ctx, alert.ID, func(s *vault.Alert) error {
		if !s.Cleared.IsZero() {
			s.Raised, s.Cleared, s.AckedBy = at, time.Time{}, ""
		}
		s.Severity, s.Text, s.Remedy = alert.Severity, alert.Text, alert.Remedy
		return nil
	})
	if homeward.KindOf(err) != homeward.NotFound {
		return stored, err
	}
	alert.Raised = at
	err = a.store.Alerts.Insert(ctx, &alert)
	return alert, err
}

// alertOf is the alert of a finding.
func alertOf(f vault.Finding) vault.Alert {
	severity := vault.SeverityWarning
	if f.Verdict == vault.Blocker {
		severity = vault.SeverityCritical
	}
	return vault.Alert{Code: f.Rule, Severity: severity, Text: f.Text, Remedy: f.Remedy}
}
