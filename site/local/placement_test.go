package local

import (
	"context"
	"log/slog"
	"testing"

	"github.com/homeward-dr/homeward"
)

// networks are those that a site offers, with why not.
func networks(t *testing.T, s *Site) map[string]string {
	t.Helper()
	fields, err := s.Options(context.Background(), homeward.Direction{}, homeward.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range fields {
		for _, o := range f.Options {
			if f.Name == "network" {
				if o.Eligible != (o.Why == "") {
					t.Errorf("%+v does not say why", o)
				}
				got[o.Value] = o.Why
			}
		}
	}
	return got
}

func TestOptions_Networks(t *testing.T) {
	got := networks(t, openSite(t, Config{Guest: GuestBuiltin}))
	if len(got) != 2 || got["production"] == "" || got["isolated"] != "" {
		t.Fatalf("by default: %v", got)
	}
	got = networks(t, openSite(t, Config{Guest: GuestBuiltin, Networks: []Network{{Name: "lab", Isolated: true}, {Name: "lan"}}}))
	if _, ok := got["production"]; ok || len(got) != 2 || got["lan"] == "" || got["lab"] != "" {
		t.Fatalf("as configured: %v", got)
	}
	for _, bad := range [][]Network{{{Name: ""}}, {{Name: "a"}, {Name: "a"}}} {
		dir := t.TempDir()
		_, err := Open(Config{Name: "here", Dir: dir, Datastores: []string{dir}, Guest: GuestBuiltin, Networks: bad, Log: slog.Default()})
		if homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("%v: %v", bad, err)
		}
	}
}
