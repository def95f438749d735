package recovery_test

import (
	"slices"
	"testing"

	"github.com/homeward-dr/homeward"
)

// A side keeps the branch of the last time it ran, and not those before.
func TestReprotect_OneBranchPerSide(t *testing.T) {
	w, it, ctx := protected(t)
	for range 3 { // each side stands by with a branch, runs, and stands by again
		must(t, it.FailOver(ctx, homeward.Position{}))
		must(t, it.Commit(ctx))
		rev, err := it.Reprotect(ctx)
		must(t, err)
		list, err := it.Standby.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
		must(t, err)
		var branches []homeward.Position
		for _, p := range list.Points {
			if slices.Contains(p.Pins, "branch:lost-writes") {
				branches = append(branches, p.Position)
			}
		}
		if len(branches) != 1 || branches[0] != it.Base || rev.Branch.Position != it.Base {
			t.Fatalf("branches %v, the leg began at %v", branches, it.Base)
		}
	}
	replicates(ctx, t, w, it)
}
