package bench

import (
	"slices"
	"testing"

	"github.com/homeward-dr/homeward/bench/network"
	"github.com/homeward-dr/homeward/bench/reprotect"
)

// The chapter of the way back in small: every contender whose program is there
// brings both disks to the same bytes, and the others are told to be missing.
func TestReprotect(t *testing.T) {
	if err := network.Able(); err != nil {
		t.Fatalf("this test needs root and iproute2 (hack/deps.sh): %v", err)
	}
	f, err := reprotect.Chapter().Measure(t.Context(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string][]string{}
	for _, s := range f.Series {
		part := s.Label("part")
		for _, r := range s.Runs {
			if r.Error != "" {
				t.Errorf("%s, %s: %s", part, r.Contender, r.Error)
			} else if r.Values["seconds"] <= 0 {
				t.Errorf("%s, %s: %v", part, r.Contender, r.Values)
			}
			t.Logf("%s %s %.3f s: %v", part, r.Contender, r.Values["seconds"], r.Values)
		}
		for name, why := range s.Missing {
			t.Logf("%s: %s is missing: %s", part, name, why)
		}
		named[part] = append(named[part], s.Contenders()...)
	}
	for part, want := range map[string][]string{
		"reprotect": {"Homeward, by map", "Homeward, by digest", "Homeward, full copy", "rsync", "QEMU bitmap", "btrfs send", "nbdcopy", "restic"},
		"digest":    {"source (agent)", "target (master target)", "bare reading"},
		"bulk":      {"Homeward's transport", "HTTP/1.1, bare"},
	} {
		for _, name := range want {
			if !slices.Contains(named[part], name) {
				t.Errorf("%s says nothing of %s, but of %q", part, name, named[part])
			}
		}
	}
	if len(f.Goals) != 11 || len(f.Tables) == 0 || len(f.Plots) == 0 {
		t.Errorf("%d goals, %d tables, %d plots", len(f.Goals), len(f.Tables), len(f.Plots))
	}
}
