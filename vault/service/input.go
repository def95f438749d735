package service

import (
	"fmt"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// validName refuses what could not be a path element and a certificate's name alike.
func validName(op, field, name string) error {
	if err := homeward.ItemID(name).Validate(); err != nil {
		return homeward.Errorf(op, homeward.Invalid, field, "use 1 to 64 letters, digits, '-' or '_'", "not a valid name: %q", name)
	}
	return nil
}

// stale refuses a change of something that has changed since it was looked at.
func stale(op, subject string, asked, stored int64) error {
	if asked == 0 || asked == stored {
		return nil
	}
	return homeward.Errorf(op, homeward.Conflict, subject, "look at it again, then repeat the change with its revision",
		"it has changed: revision %d was looked at, it is at %d", asked, stored)
}

// checkInput refuses what no state of the item could make right, by name.
func checkInput(req vault.ActionRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	return checkValues(req)
}

func checkValues(req vault.ActionRequest) error {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf(string(req.Action), homeward.Invalid, field, fix, format, args...)
	}
	in := req.Input
	switch {
	case in.Location != "" && in.Location != vault.OriginalLocation && in.Location != vault.AlternateLocation:
		return bad("location", `give "original" or "alternate"`, "%q", in.Location)
	case in.Lifetime < 0 || in.Lifetime > maxTestLifetime:
		return bad("lifetime", "give up to 14 days", "%v", in.Lifetime)
	case req.Action == vault.TestFailover && in.Network == "":
		return bad("network", "name an isolated network of the target site", "a test failover demands one")
	case len(req.Key) > maxKey:
		return bad("key", fmt.Sprintf("give at most %d bytes", maxKey), "%d bytes", len(req.Key))
	}
	for rule, reason := range in.Overrides {
		if strings.TrimSpace(reason) == "" {
			return bad("overrides", "say why the check may be passed over", "rule %s is overridden without a reason", rule)
		}
	}
	if in.Probe != nil {
		if err := checkProbe(*in.Probe); err != nil {
			return err
		}
	}
	_, err := parsePoint(in.Point)
	return err
}

// maxKey is the longest idempotency key in bytes.
const maxKey = 200

// words joins names for people.
func words[S ~string](names []S) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}
