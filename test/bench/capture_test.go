package bench

import (
	"slices"
	"testing"

	"github.com/homeward-dr/homeward/bench/capture"
)

// The chapter of capture in small: every part finds values of every contender whose
// program is there, and says of the others that they are missing.
func TestCapture(t *testing.T) {
	f, err := capture.Chapter().Measure(t.Context(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]string{}
	for _, s := range f.Series {
		part := s.Label("part")
		for _, r := range s.Runs {
			if r.Error != "" {
				t.Errorf("%s, %s: %s", part, r.Contender, r.Error)
			} else if r.Values["iops"] <= 0 && r.Values["hold_p99"] <= 0 {
				t.Errorf("%s, %s: %v", part, r.Contender, r.Values)
			}
		}
		for name, why := range s.Missing {
			t.Logf("%s: %s is missing: %s", part, name, why)
		}
		parts[part] = s.Contenders()
	}
	for part, want := range map[string][]string{
		"requests":    {"Homeward", "Homeward, capture off", "nbdkit file", "qemu-nbd", "bare file"},
		"replication": {"Homeward", "Homeward, replicating", "QEMU mirror, write-blocking", "QEMU mirror, background"},
		"hold":        {"Homeward, replicating"},
	} {
		for _, name := range want {
			if !slices.Contains(parts[part], name) {
				t.Errorf("%s says nothing of %s, but of %q", part, name, parts[part])
			}
		}
	}
	if len(f.Goals) != 5 || len(f.Tables) == 0 || len(f.Plots) == 0 {
		t.Errorf("%d goals, %d tables, %d plots", len(f.Goals), len(f.Tables), len(f.Plots))
	}
}
