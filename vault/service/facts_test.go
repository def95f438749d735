package service

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// What is known of snapshots is what the site tells; a configuration server of the
// version before does not tell, and then none is not what is known.
func TestFacts_Snapshots(t *testing.T) {
	db, err := store.Open(t.Context(), store.Config{URL: newFile(t)})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	g := &gatherer{core: &core{store: db, now: time.Now}}
	for _, site := range []vault.Site{
		{Name: "old", Connected: true, Capabilities: &homeward.Capabilities{Kind: "old"}},
		{Name: "lost", Capabilities: &homeward.Capabilities{Kind: "old"}},
		{Name: "without", Connected: true, Capabilities: &homeward.Capabilities{Kind: "raw", Lacks: map[string]string{"Snapshot": "raw files"}}},
	} {
		must(t, db.Sites.Insert(t.Context(), &site))
	}
	two, nonsense := 2, -1
	for _, m := range []vault.Machine{
		{ID: "old/told", Presence: vault.Present, Found: homeward.SiteMachine{Ref: homeward.Ref{UUID: "AA-01"}, Snapshots: &two}},
		{ID: "old/untold", Presence: vault.Present, Found: homeward.SiteMachine{Ref: homeward.Ref{UUID: "aa-02"}}},
		{ID: "old/nonsense", Presence: vault.Present, Found: homeward.SiteMachine{Ref: homeward.Ref{UUID: "aa-03"}, Snapshots: &nonsense}},
		{ID: "old/unseen", Presence: vault.Unseen, Found: homeward.SiteMachine{Ref: homeward.Ref{UUID: "aa-04"}, Snapshots: &two}},
	} {
		m.Site = "old"
		must(t, db.Machines.Insert(t.Context(), &m))
	}
	for name, c := range map[string]struct {
		site, machine string
		want          readiness.Standing
		n             int
	}{
		"told":                        {"old", "aa-01", readiness.Known, 2},
		"not told":                    {"old", "aa-02", readiness.Unknown, 0},
		"less than none":              {"old", "aa-03", readiness.Unknown, 0},
		"its site does not answer":    {"old", "aa-04", readiness.Unknown, 0},
		"no machine of the site":      {"old", "aa-05", readiness.Absent, 0},
		"not known which machine":     {"old", "", readiness.Unknown, 0},
		"no machine of a lost site":   {"lost", "aa-05", readiness.Unknown, 0},
		"a site that has none at all": {"without", "", readiness.Absent, 0},
	} {
		n := vault.Node{Name: "mt", Site: c.site, Health: homeward.HealthReport{Machine: c.machine}}
		got, err := g.hostSnapshots(t.Context(), n)
		if err != nil || got.Standing != c.want || got.V != c.n {
			t.Errorf("%s: %+v, %v; expected %q %d", name, got, err, c.want, c.n)
		}
	}
}
