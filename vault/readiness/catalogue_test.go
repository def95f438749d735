package readiness

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/durable"
)

var update = flag.Bool("update", false, "write docs/rules.md anew")

func TestDocument_IsNotStale(t *testing.T) {
	const path = "../../docs/rules.md"
	if *update {
		if err := durable.WriteFile(durable.OS(), path, []byte(Document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Document() {
		t.Error("docs/rules.md is stale: go test ./vault/readiness -run Document -update")
	}
}

func TestCatalogue_IsWhole(t *testing.T) {
	tags := []string{"PRE", "BEH", "VAL", "UI", "OPS", "OLD"}
	checked := map[string]bool{}
	for _, r := range Rules() {
		if checked[r.ID] {
			t.Errorf("%s is there twice", r.ID)
		}
		checked[r.ID] = true
		if r.Title == "" || r.Source == "" || r.Facts == "" || r.Check == nil {
			t.Errorf("%s is not whole", r.ID)
		}
		if r.Ignores && !r.Blocks {
			t.Errorf("%s can be overridden, but blocks nothing", r.ID)
		}
	}
	for i, e := range Catalogue() {
		if e.ID != fmt.Sprintf("R%d", i+1) {
			t.Fatalf("entry %d is %s", i+1, e.ID)
		}
		if !slices.Contains(tags, e.Tag) || e.Text == "" || e.Where == "" {
			t.Errorf("%s is not whole: %+v", e.ID, e)
		}
		if in := strings.HasPrefix(e.Where, "vault/readiness") && !strings.Contains(e.Where, " as R") && !strings.Contains(e.Where, "SeedsEstimate"); in != checked[e.ID] {
			t.Errorf("%s says %q, checked: %v", e.ID, e.Where, checked[e.ID])
		}
		delete(checked, e.ID)
	}
	if n := len(Catalogue()); n != 171 {
		t.Errorf("%d entries", n)
	}
	for id := range checked {
		if id[0] != 'H' {
			t.Errorf("%s is in no catalogue", id)
		}
	}
}
