package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
)

// newLocalSite is a controller, and the command line of a configuration server
// that dials it.
func newLocalSite(t *testing.T) (s *site, line string) {
	t.Helper()
	s = newSite(t)
	s.run("pki issue --ca ca --role configuration-server --name c1 --out c1").wants(0)
	return s, fmt.Sprintf("configuration-server --dir c1.d --identity c1 --controller %s --with-parent --site home --datastore disks --guest builtin --tied", s.addr)
}

// write puts a file below the shell's directory.
func (s *shell) write(name, text string) {
	s.t.Helper()
	if err := durable.WriteFile(durable.OS(), s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func TestConfigurationServer_BadFlags(t *testing.T) {
	s, line := newLocalSite(t)
	s.write("unknown.json", `[{"machine": {"item": "web01", "disks": [{"id": "root", "size": 4096}]}, "power": "on"}]`)
	s.write("invalid.json", `[{"machine": {"item": "web01", "disks": []}}]`)
	s.write("refs.json", `[{"machine": {"item": "web01", "disks": [{"id": "root", "size": 4096}]}, "disks": ["file:/a", "file:/b"]}]`)
	for flags, says := range map[string]string{
		" --site a/b":                  "--site",
		" --site=":                     "give the site's name",
		" --driver vsphere":            "no such driver",
		" --guest none":                "give qemu or builtin",
		" --network lan:public":        "name:isolated",
		" --network :isolated":         "--network",
		" --machines unknown.json":     "power",
		" --machines invalid.json":     "disks",
		" --machines refs.json":        "one reference for each disk",
		" --network lan --network lan": "own name",
	} {
		s.run(line + flags).wants(2).says(says)
	}
	s.run("configuration-server --dir d --identity c1 --site home --guest builtin").wants(2).says("--datastore")
	s.run("configuration-server --dir d --identity a1 --site home").wants(2).says("issue this node one of role configuration-server")
	s.run(line + " --machines nowhere.json").wants(3).says("nowhere.json")
}

// TestConfigurationServer_Site drives a site through its configuration server, with
// a machine that runs.
func TestConfigurationServer_Site(t *testing.T) {
	s, line := newLocalSite(t)
	s.write("machines.json", `[
		{"machine": {"item": "web01", "name": "web", "disks": [{"id": "root", "size": 8388608}]}, "on": true},
		{"machine": {"item": "db01", "name": "db", "disks": [{"id": "root", "size": 8388608}]}}]`)
	line += " --machines machines.json --network lan --network lab:isolated"
	p := s.start(line)
	if p.ready.Peer != (pki.Peer{Role: pki.ConfigurationServer, Name: "c1"}) {
		t.Errorf("ready line %+v", p.ready)
	}
	there := role.Site(s.node("c1"))
	ctx := s.within()
	caps, err := there.Capabilities(ctx)
	if err != nil || caps.Kind != "local" || caps.Lacks["Snapshot"] == "" {
		t.Fatalf("capabilities %+v: %v", caps, err)
	}
	list, err := there.Machines(ctx)
	if err != nil || len(list) != 2 || list[0].Ref.Native != "db01" || list[1].Power != homeward.PowerOn || list[0].Power != homeward.PowerOff {
		t.Fatalf("machines %+v: %v", list, err)
	}
	facts, err := there.Facts(ctx)
	if err != nil || len(facts) < 2 {
		t.Errorf("facts %+v: %v", facts, err)
	}
	fields, err := there.Options(ctx, homeward.Direction{From: "away", To: "home"}, list[0].Machine)
	if err != nil || len(fields) == 0 || fields[0].Options[0].Value != s.path("disks") {
		t.Errorf("fields %+v: %v", fields, err)
	}
	_, err = there.Machine(ctx, homeward.Ref{Native: "nobody"})
	if homeward.KindOf(err) != homeward.NotFound || homeward.RemedyOf(err) == "" {
		t.Errorf("an unknown machine: %v", err)
	}
	_, err = there.Snapshot(ctx, "k", homeward.Ref{Native: "x"}, "s")
	if homeward.KindOf(err) != homeward.Unsupported {
		t.Errorf("a snapshot: %v", err)
	}

	web := list[1].Ref
	guard := homeward.Guard{Ref: web, Kind: homeward.GuardNoPowerOn, Owner: "job 1", Reason: "it is protected elsewhere", At: time.Now().UTC().Truncate(time.Second)}
	if err := there.Guard(ctx, guard); err != nil {
		t.Fatal(err)
	}
	if gs, err := there.GuardsOf(ctx, web); err != nil || len(gs) != 1 || gs[0] != guard {
		t.Errorf("guards %+v: %v", gs, err)
	}
	if _, err := settle(ctx, there, func() (homeward.Operation, error) {
		return there.PowerOff(ctx, "off 1", web, homeward.Stop{Graceful: true, Timeout: 10 * time.Second})
	}); err != nil {
		t.Error(err)
	}
	on := func(key string) error {
		_, err := settle(ctx, there, func() (homeward.Operation, error) { return there.PowerOn(ctx, key, web) })
		return err
	}
	if err := on("on 1"); err == nil || !strings.Contains(err.Error(), guard.Reason) || homeward.RemedyOf(err) == "" {
		t.Errorf("power on under a guard: %v", err)
	}

	// The configuration server dies; its machine goes with it, because it is tied,
	// and everything it knew is there again.
	p.kill()
	_, err = there.Machines(ctx)
	if homeward.KindOf(err) != homeward.Unavailable {
		t.Errorf("without configuration server: %v", err)
	}
	s.start(line)
	s.run(line).wants(5).says("held by process")
	s.node("c1")
	if gs, err := there.GuardsOf(ctx, web); err != nil || len(gs) != 1 {
		t.Errorf("guards %+v: %v", gs, err)
	}
	if err := there.Unguard(ctx, guard); err != nil {
		t.Error(err)
	}
	if err := on("on 2"); err != nil {
		t.Error(err)
	}
	if m, err := there.Machine(ctx, web); err != nil || m.Power != homeward.PowerOn {
		t.Errorf("machine %+v: %v", m, err)
	}
	if h, err := role.Member(s.node("c1")).Health(ctx, homeward.HealthRequest{}); err != nil || h.OSFamily != "linux" || h.At.IsZero() {
		t.Errorf("health %+v: %v", h, err)
	}
}

// Wherever the server dies in an operation, the same key does it after its restart.
func TestConfigurationServer_Fault(t *testing.T) {
	for _, point := range []string{"fs.rename web01.json", "fs.sync web01.json*", "fs.rename *.json:3"} {
		t.Run(point, func(t *testing.T) {
			s, line := newLocalSite(t)
			s.env = []string{faultVariable + "=" + point}
			p := s.start(line)
			there, ctx := role.Site(s.node("c1")), s.within()
			m := homeward.Machine{Item: "web01", Name: "web", Disks: []homeward.Disk{{ID: "root", Size: 8 << 20}}}
			create := func() (homeward.Operation, error) {
				return there.Create(ctx, "create web01", m, []homeward.Attachment{{Disk: "root", Ref: "file:" + s.path("disks/root.raw")}})
			}
			_, err := settle(ctx, there, create)
			if code := p.wait(); code != -1 {
				t.Fatalf("ended with %d: %v", code, err)
			}
			s.env = nil
			s.start(line)
			s.node("c1")
			if _, err := settle(ctx, there, create); err != nil {
				t.Fatal(err)
			}
			if list, err := there.Machines(ctx); err != nil || len(list) != 1 {
				t.Errorf("machines %+v: %v", list, err)
			}
		})
	}
}

// Every role is a member: it tells of itself and reaches the data faces of others.
func TestRole_Member(t *testing.T) {
	s := newSite(t)
	if err := os.Mkdir(s.path("points"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.start(s.line(pki.Agent))
	ps := s.start(s.line(pki.ProcessServer))
	mt := s.start(s.line(pki.MasterTarget) + " --retention points")
	ctx := s.within()
	for _, name := range []string{"a1", "p1", "m1"} {
		h, err := role.Member(s.node(name)).Health(ctx, homeward.HealthRequest{Generations: true})
		if err != nil || time.Since(h.At).Abs() > time.Minute || h.OSFamily != "linux" || len(h.Generations) != 0 || len(h.Alarms) != 0 {
			t.Errorf("%s: %+v: %v", name, h, err)
		}
		var uses []string
		for _, v := range h.Volumes {
			if v.Path == s.path("points") && v.Default {
				uses = v.Uses
			}
		}
		if fmt.Sprint(uses) != map[bool]string{true: "[retention]", false: "[]"}[name == "m1"] {
			t.Errorf("%s: uses %q in %+v", name, uses, h.Volumes)
		}
	}
	for _, c := range []struct{ from, peer, url string }{{"a1", "p1", ps.ready.Listen}, {"p1", "m1", mt.ready.Listen}} {
		r, err := role.Member(s.node(c.from)).Probe(ctx, homeward.ProbeRequest{Peer: c.peer, URL: "https://" + c.url, Bytes: 1 << 20})
		if err != nil || !r.Reachable || r.RTT <= 0 || r.Rate <= 0 || r.Why != "" {
			t.Errorf("%s to %s: %+v: %v", c.from, c.peer, r, err)
		}
	}
	ps.kill()
	r, err := role.Member(s.node("a1")).Probe(ctx, homeward.ProbeRequest{Peer: "p1", URL: "https://" + ps.ready.Listen})
	if err != nil || r.Reachable || r.Why == "" {
		t.Errorf("to a dead peer: %+v: %v", r, err)
	}
}
