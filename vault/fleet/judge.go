package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

const (
	// registeringFor is how long a node may take until its first heartbeat (R34, R73,
	// R112).
	registeringFor = 15 * time.Minute
	// maxSkew is how far a node's clock may be off: points are told by their time.
	maxSkew = 10 * time.Second
)

// judge says what somebody should know about a node. It has no clock and changes
// nothing.
func judge(n vault.Node, doubt time.Duration, now time.Time) []vault.Alert {
	if n.State == vault.NodeRevoked {
		return nil
	}
	var all []vault.Alert
	add := func(code string, severity vault.Severity, remedy, format string, args ...any) {
		all = append(all, vault.Alert{Code: code, Severity: severity, Text: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	switch {
	case n.State == vault.NodeRegistering && now.Sub(n.Enrolled) > registeringFor:
		add("node-registering", vault.SeverityWarning, "start the node, and look at its log: it must reach the vault's port",
			"%s %s was enrolled at %s and has not sent a heartbeat since (R34)", n.Role, n.Name, n.Enrolled.UTC().Format(time.RFC3339))
	case n.State == vault.NodeDisconnected:
		add("node-disconnected", vault.SeverityCritical, "start the node, or mend its way to the vault; its log says why it cannot connect",
			"%s %s of site %s has not sent a heartbeat since %s", n.Role, n.Name, n.Site, n.Heartbeat.UTC().Format(time.RFC3339))
	}
	if off := n.Skew.Abs() - doubt; n.State == vault.NodeReady && off > maxSkew {
		add("clock-skew", vault.SeverityWarning, "let the node and the vault take their time from the same source (NTP)",
			"the clock of %s is %v off the vault's", n.Name, n.Skew.Round(time.Second))
	}
	if len(n.Certificates) > 0 {
		c := n.Certificates[len(n.Certificates)-1]
		left := c.Until.Sub(now)
		switch {
		case left <= 0:
			add("certificate-expiry", vault.SeverityCritical, "start the node where it reaches the vault's port: it renews by itself, also now",
				"the certificate of %s expired at %s: no peer takes it", n.Name, c.Until.UTC().Format(time.RFC3339))
		case left < c.Until.Sub(c.From)/5:
			add("certificate-expiry", vault.SeverityWarning, "look at the node's log: it should have renewed by itself",
				"the certificate of %s expires at %s", n.Name, c.Until.UTC().Format(time.RFC3339))
		}
	}
	for _, a := range n.Health.Alarms {
		add(a.Code, vault.SeverityWarning, a.Remedy, "%s", a.Text)
	}
	return all
}

// scopeOf is how the ids of a node's alerts begin.
func scopeOf(name string) string {
	sum := sha256.Sum256([]byte("fleet\x00" + name))
	return hex.EncodeToString(sum[:8]) + "-"
}

// loadAlerts finds the alerts that this package raised and that are open.
func (f *Fleet) loadAlerts(ctx context.Context) error {
	scopes := map[string]*live{}
	for name, l := range f.nodes {
		scopes[scopeOf(name)] = l
	}
	for a, err := range f.o.Store.Alerts.All(ctx, vault.Query{State: store.AlertRaised}) {
		if err != nil {
			return err
		}
		scope, _, _ := strings.Cut(a.ID, "-")
		if l := scopes[scope+"-"]; l != nil {
			l.raised[a.Code] = a
		}
	}
	return nil
}

// settle makes the open alerts of a node be these, and writes only what changed.
func (f *Fleet) settle(ctx context.Context, name string, raised map[string]vault.Alert, now []vault.Alert, at time.Time) error {
	standing := map[string]bool{}
	for _, a := range now {
		if standing[a.Code] {
			continue // the same alarm about two things: one is enough to look
		}
		standing[a.Code] = true
		if was, open := raised[a.Code]; open && was.Severity == a.Severity {
			continue
		}
		a.ID, a.Subject, a.Raised = scopeOf(name)+a.Code, "node "+name, at
		if err := f.raise(ctx, a); err != nil {
			return err
		}
		raised[a.Code] = a
	}
	for code, a := range raised {
		if standing[code] {
			continue
		}
		_, err := f.o.Store.Alerts.Change(ctx, a.ID, func(s *vault.Alert) error {
			s.Cleared = at
			return nil
		})
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			return err
		}
		delete(raised, code)
	}
	return nil
}

func (f *Fleet) raise(ctx context.Context, a vault.Alert) error {
	_, err := f.o.Store.Alerts.Change(ctx, a.ID, func(s *vault.Alert) error {
		if !s.Cleared.IsZero() {
			s.Raised, s.Cleared, s.AckedBy = a.Raised, time.Time{}, ""
		}
		s.Severity, s.Text, s.Remedy = a.Severity, a.Text, a.Remedy
		return nil
	})
	if homeward.KindOf(err) == homeward.NotFound {
		err = f.o.Store.Alerts.Insert(ctx, &a)
	}
	return err
}
