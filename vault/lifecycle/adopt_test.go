package lifecycle_test

import (
	"slices"
	"testing"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// What was found is adopted whatever stands recorded, but not amid a job, not on a
// hunch, and not where there is nothing to find.
func TestAdopt(t *testing.T) {
	for _, s := range states {
		for _, foreign := range []lifecycle.Truth{lifecycle.Unknown, lifecycle.No, lifecycle.Yes} {
			f := favourable(s, lifecycle.AtOriginal, lifecycle.Forward, vault.TestOpen)
			f.Foreign, f.Unfinished = foreign, "commit"
			transition, no := lifecycle.Decide(f, vault.Adopt)
			may := foreign == lifecycle.Yes && !slices.Contains([]vault.State{lifecycle.None, vault.Disabling, vault.Migrated}, s)
			if (no == nil) != may {
				t.Errorf("%s, foreign %d: %+v", s, foreign, no)
			}
			if no != nil && (no.Why == "" || no.Remedy == "") {
				t.Errorf("%s, foreign %d: no word why: %+v", s, foreign, no)
			}
			if may && (transition.Next != s || transition.Test.Next != "" || len(transition.Tasks) != 2) {
				t.Errorf("%s: %+v", s, transition)
			}
			f.Job, f.JobScenario = "7", "CommitFailover"
			if _, no := lifecycle.Decide(f, vault.Adopt); no == nil {
				t.Errorf("%s: adopted amid a job", s)
			}
		}
	}
}

// A move whose point is served already goes on where the machine is to run, also when
// the other site is lost.
func TestResumed_OtherSiteLost(t *testing.T) {
	for a, f := range map[vault.Action]lifecycle.Facts{
		vault.Failover:       favourable(vault.FailedOver, lifecycle.AtRecovery, lifecycle.Forward, vault.TestNone),
		vault.FailbackAction: favourable(vault.FailedOver, lifecycle.AtOriginal, lifecycle.Reverse, vault.TestNone),
	} {
		f.Unfinished = map[vault.Action]string{vault.Failover: "fail over", vault.FailbackAction: "fail back"}[a]
		f.Other, f.FirstPoint = lifecycle.No, lifecycle.No
		if _, no := lifecycle.Decide(f, a); no != nil {
			t.Errorf("%s: %s", a, no.Why)
		}
	}
}
