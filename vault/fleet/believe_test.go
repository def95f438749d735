package fleet

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// An agent tells of the generations of its own items, and nobody can tell of one
// that leaves no room above it.
func TestGenerations_OfOthersItems(t *testing.T) {
	s := newStand(t)
	it := vault.Item{ID: "db01", State: vault.Protected, Original: vault.End{Site: "home", Agent: "mine"}, Recovery: vault.End{Site: "away", Agent: "there"}}
	if err := s.store.Items.Insert(t.Context(), &it); err != nil {
		t.Fatal(err)
	}
	report := func(name string, r pki.Role, number uint64) uint64 {
		s.enrol(name, r, "home").set(func(n *simulated) {
			n.report.Generations = map[homeward.ItemID]homeward.Generation{"db01": {Number: number}, "unknown": {Number: number}, "../x": {Number: number}}
		})
		s.step(time.Second)
		if got := s.fleet.MaxGeneration("../x").Number; got != 0 {
			t.Errorf("%s told of an item that cannot be: %d", name, got)
		}
		return s.fleet.MaxGeneration("db01").Number
	}
	for _, c := range []struct {
		name   string
		role   pki.Role
		number uint64
		want   uint64
	}{
		{"liar", pki.Agent, 1000, 0},
		{"cs", pki.ConfigurationServer, 1000, 0},
		{"mine", pki.Agent, 3, 3},
		{"there", pki.Agent, 4, 4},
		{"mt", pki.MasterTarget, 5, 5},
		{"ps", pki.ProcessServer, math.MaxUint64, 5},
	} {
		if got := report(c.name, c.role, c.number); got != c.want {
			t.Errorf("after %s: generation %d, want %d", c.name, got, c.want)
		}
	}
}

// A node can fill neither the vault's memory nor its store, and its alarms have ids
// that people can type.
func TestHeartbeat_IsBounded(t *testing.T) {
	s := newStand(t)
	n := s.enrol("bad", pki.MasterTarget, "home")
	long := strings.Repeat("ä", 1<<20)
	for round := range 20 {
		n.set(func(n *simulated) {
			r := homeward.HealthReport{OSFamily: long, OSVersion: long, Disks: -1}
			for i := range 2000 {
				r.Volumes = append(r.Volumes, homeward.Volume{Path: fmt.Sprintf("/%d/", i) + long[:2000], Device: long[:2000], Uses: []string{long[:2000]}})
				r.Alarms = append(r.Alarms, homeward.Alarm{Code: fmt.Sprintf("c%d-%d", round, i), Text: long[:4000], Remedy: long[:4000]})
			}
			r.Alarms[0].Code = "a/b?c"
			n.report = r
		})
		s.step(time.Minute)
	}
	row := s.row("bad")
	size := len(row.Health.OSFamily) + len(row.Health.OSVersion)
	for _, v := range row.Health.Volumes {
		size += len(v.Path) + len(v.Device) + len(strings.Join(v.Uses, ""))
	}
	for _, a := range row.Health.Alarms {
		size += len(a.Code) + len(a.Text) + len(a.Remedy)
	}
	if size > 1<<20 || row.Health.Disks != 0 {
		t.Errorf("%d bytes are kept, %d disks", size, row.Health.Disks)
	}
	count := 0
	for a, err := range s.store.Alerts.All(t.Context(), vault.Query{State: store.AlertCleared}) {
		if err != nil {
			t.Fatal(err)
		}
		count++
		if homeward.ItemID(a.Code).Validate() != nil {
			t.Errorf("alert %q", a.ID)
		}
	}
	if count += len(s.alerts()); count > maxCodes+1 {
		t.Errorf("%d alerts were raised", count)
	}
}
