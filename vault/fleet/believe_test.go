package fleet

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// A node tells of the generations of items that are associated with it, and nobody can
// tell of one that leaves no room above it. A restored vault, which may not know with
// which process server or master target an item is now, hears those of its sites.
func TestGenerations_OfOthersItems(t *testing.T) {
	s := newStand(t)
	it := vault.Item{ID: "db01", State: vault.Protected,
		Original: vault.End{Site: "home", Agent: "mine", ProcessServer: "ps"}, Recovery: vault.End{Site: "away", Agent: "there", MasterTarget: "mt"}}
	if err := s.store.Items.Insert(t.Context(), &it); err != nil {
		t.Fatal(err)
	}
	report := func(name string, r pki.Role, site string, number uint64) uint64 {
		s.enrol(name, r, site).set(func(n *simulated) {
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
		site   string
		number uint64
		want   uint64
	}{
		{"liar", pki.Agent, "home", 1000, 0},
		{"cs", pki.ConfigurationServer, "home", 1000, 0},
		{"ps-of-others", pki.ProcessServer, "home", 1000, 0},
		{"mt-of-others", pki.MasterTarget, "away", 1000, 0},
		{"mine", pki.Agent, "home", 3, 3},
		{"there", pki.Agent, "away", 4, 4},
		{"mt", pki.MasterTarget, "away", 5, 5},
		{"ps", pki.ProcessServer, "home", 6, 6},
		{"far", pki.ProcessServer, "home", math.MaxUint64, 6},
	} {
		if got := report(c.name, c.role, c.site, c.number); got != c.want {
			t.Errorf("after %s: generation %d, want %d", c.name, got, c.want)
		}
	}
	if err := s.store.SetSetting(t.Context(), store.SettingReadOnly, "restored"); err != nil {
		t.Fatal(err)
	}
	if got := report("elsewhere", pki.MasterTarget, "third", 1000); got != 6 {
		t.Errorf("a master target of another site is believed: %d", got)
	}
	if got := report("liar-2", pki.Agent, "home", 1000); got != 6 {
		t.Errorf("an agent of others is believed: %d", got)
	}
	if got := report("since", pki.ProcessServer, "away", 7); got != 7 {
		t.Errorf("a process server that the backup does not know of is not heard: %d", got)
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

// A node that was enrolled anew is not also the one it was before, whatever the
// revocation list remembers.
func TestAdmit_EarlierEnrolment(t *testing.T) {
	s := newStand(t)
	peer := pki.Peer{Role: pki.Agent, Name: "a1"}
	certificate := func(from time.Time) *x509.Certificate {
		dir := filepath.Join(t.TempDir(), "id")
		if err := s.authority.Issue(pki.Request{Peer: peer, From: from}, dir); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	now := s.now()
	before, known, after := certificate(now.Add(-time.Hour)), certificate(now), certificate(now.Add(time.Hour))
	s.enrol("a1", pki.Agent, "home")
	if _, err := s.store.Nodes.Change(t.Context(), "a1", func(n *vault.Node) error {
		n.Certificates = []pki.Issued{pki.Describe(known)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.fleet.Learn(t.Context(), "a1"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.fleet.Admit(peer, before), homeward.Forbidden)
	for _, cert := range []*x509.Certificate{known, after} { // the later one: this vault was restored
		if err := s.fleet.Admit(peer, cert); err != nil {
			t.Error(err)
		}
	}
}
