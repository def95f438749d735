package readiness

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func is[T any](v T) Value[T] { return Is(v, "test", noon) }
func none[T any]() Value[T]  { return None[T]("test", noon) }

// ready are facts of an item in a stage at which every rule that applies is ok.
func ready(stage Stage) Facts {
	it := vault.Item{ID: "web01", Machine: "home/web01", Policy: "gold",
		Original: vault.End{Site: "home"}, Recovery: vault.End{Site: "away"}}
	it.Test.Succeeded = noon.Add(-time.Hour)
	it.Replication = vault.Replication{Points: 3, Newest: noon.Add(-5 * time.Second), As: noon}
	switch stage {
	case Forward:
		it.State, it.ActiveSite = vault.Protected, "home"
	case Away:
		it.State, it.ActiveSite = vault.Committed, "away"
	case Returning:
		it.State, it.ActiveSite = vault.Protected, "away"
	case Home:
		it.State, it.ActiveSite = vault.Committed, "home"
	case Over:
		it.State, it.ActiveSite = vault.Migrated, "away"
	}
	from, to := EndsOf(it)
	node := func(name, site, host string) Node {
		return Node{Name: name, Site: site, State: is(vault.NodeReady), Since: is(noon), Version: is("v1.2.0"),
			Skew: is(time.Millisecond), Expires: is(noon.AddDate(0, 1, 0)), OSFamily: is("linux"), OSVersion: is("debian 12.5"),
			Disks: is(4), Snapshots: is(0), Addresses: is([]vault.Address{{Host: host, Purpose: vault.Production}, {Host: "back-" + host, Purpose: vault.Failback}}),
			Volumes: is([]homeward.Volume{{Path: "/mnt/retention", FSType: "ext4", Size: 1 << 30, Free: 1 << 29, Default: true}, {Path: "/", FSType: "ext4", Size: 1 << 30, Uses: []string{"system"}}})}
	}
	f := Facts{Now: noon, Version: "v1.2.3", Item: it,
		Machine: is(homeward.Machine{Item: "web01", OSFamily: "linux", OSVersion: "debian 12.1", Disks: make([]homeward.Disk, 2)}),
		From:    Site{from.Site, is(true), is(homeward.Capabilities{Kind: "local"})}, To: Site{to.Site, is(true), is(homeward.Capabilities{Kind: "local"})},
		Agent: node("a1", from.Site, "a1:1"), ProcessServer: node("ps1", from.Site, "ps1:1"), MasterTarget: node("mt1", to.Site, "mt1:1"),
		AgentToProcess: is(homeward.ProbeReport{URL: "https://ps1:1", At: noon, Reachable: true, RTT: time.Millisecond, Rate: 1 << 26}),
		ProcessToMT:    is(homeward.ProbeReport{URL: "https://back-mt1:1", At: noon, Reachable: true, RTT: time.Millisecond, Rate: 1 << 26}),
		Chosen:         Chosen{Datastore: is("ds1"), Retention: is("/mnt/retention"), Options: is([]homeward.Field{{Name: "datastore", Options: []homeward.Option{{Value: "ds1", Eligible: true}, {Value: "ds2", Why: "R40: read-only"}}}})},
		Policy:         is(vault.Policy{Name: "gold-failback", Failback: true, Of: "gold", Settings: vault.FailbackSettings()}),
		Group:          is(Group{Name: "shop", Members: []Member{{"web01", "linux", "mt1"}, {"db01", "linux", "mt1"}}}),
		Retained:       is(true), Need: is(int64(1 << 20)),
	}
	if stage == Home {
		f.Policy = is(vault.Policy{Name: "gold"})
	}
	disks := is([]homeward.Attachment{{Disk: "d0"}, {Disk: "d1", Temporary: true, Shared: true}})
	f.Running = MachineAt{is(vault.Present), is(homeward.PowerOn), is([]homeward.Guard{}), is(0), disks}
	f.Old = MachineAt{is(vault.Present), is(homeward.PowerOff), is([]homeward.Guard{{Kind: homeward.GuardNoPowerOn}}), is(0), disks}
	return f
}

// verdict is the worst of a rule's.
func verdict(r Rule, f Facts) vault.Verdict {
	worst := vault.NotApplicable
	order := map[vault.Verdict]int{vault.NotApplicable: 0, vault.OK: 1, vault.UnknownFact: 2, vault.Warning: 3, vault.Blocker: 4}
	for _, found := range r.on(f) {
		if order[found.Verdict] > order[worst] {
			worst = found.Verdict
		}
	}
	return worst
}

type ruleCase struct {
	stage   Stage
	violate func(*Facts)
	unknown func(*Facts) // nil: the vault keeps its facts itself
	skip    func(*Facts) // nil: always applies
}

func unprobed(f *Facts) { f.ProcessToMT = NotKnown[homeward.ProbeReport]("node ps1", "not probed yet") }
func notRetained(f *Facts) {
	f.Retained = is(false)
}
func noTarget(f *Facts)   { f.MasterTarget = Node{} }
func noProcess(f *Facts)  { f.ProcessServer = Node{} }
func returning(f *Facts)  { *f = ready(Returning) }
func forward(f *Facts)    { *f = ready(Forward) }
func deaf(f *Facts)       { f.MasterTarget.Volumes = Value[[]homeward.Volume]{} }
func noPolicy(f *Facts)   { f.Policy = none[vault.Policy]() }
func policyDeaf(f *Facts) { f.Policy = Value[vault.Policy]{} }
func chosen(v homeward.Volume) func(*Facts) {
	return func(f *Facts) {
		v.Path = "/mnt/retention"
		if v.FSType == "" {
			v.FSType = "ext4"
		}
		f.MasterTarget.Volumes = is([]homeward.Volume{v})
	}
}
func otherOS(f *Facts) { f.MasterTarget.OSFamily = is("windows") }

func cases() map[string]ruleCase {
	gib := int64(1 << 30)
	noState := func(f *Facts) { f.Agent.State = Value[vault.NodeState]{} }
	groupless := func(f *Facts) { f.Group = none[Group]() }
	groupDeaf := func(f *Facts) { f.Group = Value[Group]{} }
	return map[string]ruleCase{
		"R3":   {Returning, func(f *Facts) { f.Item.State = vault.Synchronizing }, func(f *Facts) { f.Item.Replication.As = time.Time{} }, forward},
		"R25":  {Away, func(f *Facts) { f.Item.State = vault.Migrated }, nil, nil},
		"R136": {Away, func(f *Facts) { f.Item.State = vault.FailedOver }, nil, forward},
		"R171": {Forward, func(f *Facts) { f.Item.Test.Succeeded = time.Time{} }, nil, func(f *Facts) { *f = ready(Over) }},
		"H1":   {Forward, func(f *Facts) { f.Item.Replication.Newest = noon.Add(-time.Hour) }, func(f *Facts) { f.Item.Replication.As = time.Time{} }, func(f *Facts) { *f = ready(Away) }},
		"R7":   {Away, func(f *Facts) { f.To.Connected = is(false) }, func(f *Facts) { f.To.Connected = Value[bool]{} }, nil},
		"R8":   {Away, func(f *Facts) { f.Old.Presence = is(vault.Gone) }, func(f *Facts) { f.Old.Presence = is(vault.Unseen) }, func(f *Facts) { *f = ready(Home) }},
		"R48":  {Away, func(f *Facts) { f.From.Connected = is(false) }, func(f *Facts) { f.From.Connected = Value[bool]{} }, forward},
		"R137": {Away, func(f *Facts) { f.To.Capabilities.V.Lacks = map[string]string{"PowerOn": "a test"} }, func(f *Facts) { f.To.Capabilities = Value[homeward.Capabilities]{} }, nil},
		"R27":  {Away, func(f *Facts) { f.Running.Presence = is(vault.Gone) }, func(f *Facts) { f.Running.Presence = Value[vault.Presence]{} }, forward},
		"R34":  {Away, func(f *Facts) { f.Agent.State = is(vault.NodeRegistering) }, noState, nil},
		"R61":  {Away, noProcess, func(f *Facts) { f.ProcessServer.State = Value[vault.NodeState]{} }, nil},
		"R65":  {Away, func(f *Facts) { f.ProcessServer.Site = "home" }, nil, noProcess},
		"R74":  {Away, func(f *Facts) { f.MasterTarget.State = is(vault.NodeDisconnected) }, func(f *Facts) { f.MasterTarget.State = Value[vault.NodeState]{} }, nil},
		"R39":  {Away, func(f *Facts) { f.MasterTarget.Site = "away" }, nil, func(f *Facts) { f.Agent, f.MasterTarget = Node{}, Node{} }},
		"H2":   {Away, func(f *Facts) { f.Agent.Skew = is(-time.Hour) }, func(f *Facts) { f.Agent.Skew = Value[time.Duration]{} }, func(f *Facts) { f.Agent, f.ProcessServer, f.MasterTarget = Node{}, Node{}, Node{} }},
		"H3":   {Away, func(f *Facts) { f.Agent.Version = is("v1.0.9") }, func(f *Facts) { f.Agent.Version = Value[string]{} }, func(f *Facts) { f.Agent, f.ProcessServer, f.MasterTarget = Node{}, Node{}, Node{} }},
		"H4":   {Away, func(f *Facts) { f.Agent.Expires = is(noon) }, func(f *Facts) { f.Agent.Expires = Value[time.Time]{} }, func(f *Facts) { f.Agent, f.ProcessServer, f.MasterTarget = Node{}, Node{}, Node{} }},
		"R16":  {Away, func(f *Facts) { f.AgentToProcess.V.Reachable = false }, unprobed, func(f *Facts) { f.ProcessServer = Node{} }},
		"R50":  {Away, func(f *Facts) { f.Agent.State = is(vault.NodeDisconnected) }, noState, nil},
		"R51":  {Away, func(f *Facts) { f.ProcessToMT.V.Reachable = false }, unprobed, nil},
		"R52":  {Away, func(f *Facts) { f.AgentToProcess.V.Reachable = false }, func(f *Facts) { f.AgentToProcess.V.At = noon.Add(-time.Hour) }, noProcess},
		"R53":  {Away, func(f *Facts) { f.ProcessToMT.V.Rate = 1000 }, func(f *Facts) { f.ProcessToMT.V.Rate = 0 }, noTarget},
		"R54":  {Away, func(f *Facts) { f.ProcessToMT.V.URL = "https://elsewhere:1" }, unprobed, noTarget},
		"R55":  {Away, func(f *Facts) { f.ProcessToMT.V.URL = "https://mt1:1" }, func(f *Facts) { f.Retained = Value[bool]{} }, notRetained},
		"R56":  {Away, func(f *Facts) { f.MasterTarget.Addresses.V = f.MasterTarget.Addresses.V[:1] }, func(f *Facts) { f.MasterTarget.Addresses = Value[[]vault.Address]{} }, notRetained},
		"R66":  {Away, func(f *Facts) { f.ProcessToMT.V.RTT = 3 * time.Second }, unprobed, func(f *Facts) { f.ProcessServer = Node{} }},
		"R13":  {Away, otherOS, func(f *Facts) { f.MasterTarget.OSFamily = Value[string]{} }, noTarget},
		"R76":  {Away, otherOS, func(f *Facts) { f.Machine.V.OSFamily = "" }, noTarget},
		"R79":  {Away, func(f *Facts) { f.MasterTarget.OSVersion = is("debian 11") }, func(f *Facts) { f.Machine = Value[homeward.Machine]{} }, func(f *Facts) { f.MasterTarget.OSVersion = is("ubuntu 24.04") }},
		"R77":  {Away, func(f *Facts) { f.MasterTarget.Disks = is(59) }, func(f *Facts) { f.MasterTarget.Disks = Value[int]{} }, noTarget},
		"R12":  {Away, func(f *Facts) { f.Group.V.Members[1].OSFamily = "windows" }, groupDeaf, groupless},
		"R14":  {Away, func(f *Facts) { f.Group.V.Members[1].MasterTarget = "mt2" }, groupDeaf, groupless},
		"R102": {Away, func(f *Facts) { f.Chosen.Retention = is("/mnt/other") }, deaf, noTarget},
		"R103": {Away, chosen(homeward.Volume{ReadOnly: true}), deaf, noTarget},
		"R104": {Away, chosen(homeward.Volume{Size: gib, Uses: []string{"replica"}}), chosen(homeward.Volume{Size: gib, Unknown: []string{"uses"}}), noTarget},
		"R105": {Away, chosen(homeward.Volume{Size: gib, ReadOnly: true}), chosen(homeward.Volume{Size: gib, Unknown: []string{"read_only"}}), noTarget},
		"R106": {Away, chosen(homeward.Volume{Size: gib, Uses: []string{"cache"}}), chosen(homeward.Volume{Size: gib, Unknown: []string{"uses"}}), noTarget},
		"R107": {Away, chosen(homeward.Volume{Size: gib, FSType: "vfat"}), chosen(homeward.Volume{Size: gib, Unknown: []string{"fs_type"}}), noTarget},
		"R108": {Away, chosen(homeward.Volume{}), chosen(homeward.Volume{Unknown: []string{"size"}}), noTarget},
		"R110": {Away, chosen(homeward.Volume{}), deaf, noTarget},
		"H5":   {Away, func(f *Facts) { f.Need = is(gib) }, func(f *Facts) { f.Need = Value[int64]{} }, noTarget},
		"R36": {Away, func(f *Facts) { f.Chosen.Location, f.Chosen.Datastore = vault.AlternateLocation, none[string]() },
			func(f *Facts) { f.Chosen.Location, f.Chosen.Datastore = vault.AlternateLocation, Value[string]{} }, func(*Facts) {}},
		"R40":  {Away, func(f *Facts) { f.Chosen.Datastore = is("ds3") }, func(f *Facts) { f.Chosen.Options = Value[[]homeward.Field]{} }, returning},
		"R41":  {Away, func(f *Facts) { f.Chosen.Retention = none[string](); f.MasterTarget.Volumes = is([]homeward.Volume{}) }, func(f *Facts) { f.Chosen.Retention = Value[string]{} }, returning},
		"R42":  {Away, func(f *Facts) { f.Policy.V.Name = "silver" }, policyDeaf, nil},
		"R45":  {Away, func(f *Facts) { f.Old.Power = is(homeward.PowerOn) }, func(f *Facts) { f.Old.Power = is(homeward.PowerUnknown) }, forward},
		"R46":  {Returning, func(f *Facts) { f.Old.Power = is(homeward.PowerOn) }, func(f *Facts) { f.Old.Power = Value[homeward.PowerState]{} }, forward},
		"R148": {Returning, func(f *Facts) { f.Old.Guards = is([]homeward.Guard{}) }, func(f *Facts) { f.Old.Guards = Value[[]homeward.Guard]{} }, forward},
		"R10":  {Away, func(f *Facts) { f.MasterTarget.Snapshots = is(1) }, func(f *Facts) { f.MasterTarget.Snapshots = Value[int]{} }, func(f *Facts) { f.MasterTarget.Snapshots = none[int]() }},
		"R113": {Away, func(f *Facts) { f.Old.Snapshots = is(2) }, func(f *Facts) { f.Old.Snapshots = Value[int]{} }, func(f *Facts) { f.Old.Snapshots = none[int]() }},
		"H6":   {Away, func(f *Facts) { f.Running.Attachments.V[0].RDM = true }, func(f *Facts) { f.Running.Attachments = Value[[]homeward.Attachment]{} }, func(f *Facts) { *f = ready(Over) }},
		"R129": {Away, noPolicy, policyDeaf, func(f *Facts) { *f = ready(Home) }},
		"R130": {Away, func(f *Facts) { f.Policy.V.Of = "silver" }, policyDeaf, func(f *Facts) { *f = ready(Home) }},
		"R133": {Away, func(f *Facts) { f.Policy.V.Settings.AppEvery = time.Hour * 2 }, policyDeaf, func(f *Facts) { *f = ready(Home) }},
	}
}

func TestRules_EachVerdict(t *testing.T) {
	all := cases()
	for _, r := range Rules() {
		c, has := all[r.ID]
		if !has {
			t.Errorf("%s has no case", r.ID)
			continue
		}
		bad := vault.Warning
		if r.Blocks {
			bad = vault.Blocker
		}
		for _, try := range []struct {
			change func(*Facts)
			want   vault.Verdict
		}{{func(f *Facts) {
			if r.ID == "R36" { // applies only to the alternate location
				f.Chosen.Location = vault.AlternateLocation
			}
		}, vault.OK}, {c.violate, bad}, {c.unknown, vault.UnknownFact}, {c.skip, vault.NotApplicable}} {
			if try.change == nil {
				continue
			}
			f := ready(c.stage)
			try.change(&f)
			if got := verdict(r, f); got != try.want {
				t.Errorf("%s: %s, want %s: %+v", r.ID, got, try.want, r.on(f))
			}
			for _, found := range r.on(f) {
				if found.Text == "" || strings.Contains(found.Text, "%!") || found.Rule != r.ID || strings.TrimSpace(found.Subject) == "" {
					t.Errorf("%s says nothing useful: %+v", r.ID, found)
				}
				if needs := found.Verdict != vault.OK && found.Verdict != vault.NotApplicable; needs != (found.Remedy != "") {
					t.Errorf("%s: remedy %q of a finding that is %s", r.ID, found.Remedy, found.Verdict)
				}
			}
		}
		delete(all, r.ID)
	}
	for id := range all {
		t.Errorf("there is no rule %s", id)
	}
}

// Degrees that the table of verdicts does not reach.
func TestRules_Degrees(t *testing.T) {
	for name, c := range map[string]struct {
		rule   string
		change func(*Facts)
		want   vault.Verdict
		says   string
	}{
		"registering a while":  {"R34", func(f *Facts) { f.Agent.State, f.Agent.Since = is(vault.NodeRegistering), is(noon.Add(-time.Minute)) }, vault.Blocker, "may take 15m"},
		"registering too long": {"R34", func(f *Facts) { f.Agent.State, f.Agent.Since = is(vault.NodeRegistering), is(noon.Add(-time.Hour)) }, vault.Blocker, "over 15m"},
		"revoked":              {"R34", func(f *Facts) { f.Agent.State = is(vault.NodeRevoked) }, vault.Blocker, "revoked"},
		"a slow round trip":    {"R66", func(f *Facts) { f.ProcessToMT.V.RTT = time.Second }, vault.Warning, "1s"},
		"a slow link":          {"R53", func(f *Facts) { f.ProcessToMT.V.Rate = 1 << 20 }, vault.Warning, "1.00 MiB/s"},
		"a clock a little off": {"H2", func(f *Facts) { f.Agent.Skew = is(-10 * time.Second) }, vault.Warning, "-10s"},
		"an older version":     {"H3", func(f *Facts) { f.Agent.Version = is("v1.1.7") }, vault.OK, "v1.1.7"},
		"a newer version":      {"H3", func(f *Facts) { f.Agent.Version = is("v1.3.0") }, vault.Blocker, "newer"},
		"an odd version":       {"H3", func(f *Facts) { f.Agent.Version = is("(devel)") }, vault.Warning, "cannot be compared"},
		"expiring":             {"H4", func(f *Facts) { f.Agent.Expires = is(noon.Add(time.Hour)) }, vault.Warning, "expires on"},
		"gone, but elsewhere":  {"R8", func(f *Facts) { f.Old.Presence = is(vault.Gone); f.Chosen.Location = vault.AlternateLocation }, vault.OK, "gone"},
		"no record":            {"R8", func(f *Facts) { f.Old.Presence = none[vault.Presence]() }, vault.Blocker, "no record"},
		"no machine to be on":  {"R45", func(f *Facts) { f.Old.Power = none[homeward.PowerState]() }, vault.NotApplicable, "no machine"},
		"alternate: nothing to": {"R137", func(f *Facts) {
			f.Chosen.Location = vault.AlternateLocation
			f.To.Capabilities.V.Lacks = map[string]string{"Create": "x"}
		}, vault.Blocker, "Create"},
		"the default volume":    {"R41", func(f *Facts) { f.Chosen.Retention = none[string]() }, vault.OK, "default"},
		"not eligible, unused":  {"R40", func(f *Facts) { f.Chosen.Datastore = is("ds2") }, vault.OK, "has it"},
		"not eligible, used":    {"R40", func(f *Facts) { f.Chosen.Datastore = is("ds2"); f.Chosen.Location = vault.AlternateLocation }, vault.Blocker, "read-only"},
		"alternate, by default": {"R36", func(f *Facts) { f.Chosen.Retention = none[string](); f.Chosen.Location = vault.AlternateLocation }, vault.OK, "default"},
		"no datastores there":   {"R40", func(f *Facts) { f.Chosen.Options = is([]homeward.Field{}) }, vault.NotApplicable, "no datastores"},
		"nearly full":           {"H5", func(f *Facts) { f.MasterTarget.Volumes.V[0].Free = 100 << 20 }, vault.Warning, "100.0 MiB free"},
		"no estimate":           {"H5", func(f *Facts) { f.Need = none[int64]() }, vault.OK, "free"},
	} {
		for _, r := range Rules() {
			if r.ID != c.rule {
				continue
			}
			f := ready(Away)
			c.change(&f)
			var all []string
			for _, found := range r.on(f) {
				all = append(all, found.Text)
			}
			if got := verdict(r, f); got != c.want || !strings.Contains(strings.Join(all, "\n"), c.says) {
				t.Errorf("%s: %s is %s, want %s: %q", name, c.rule, got, c.want, all)
			}
		}
	}
}

func TestScoreOf(t *testing.T) {
	for _, stage := range []Stage{Forward, Away, Returning, Home} {
		if s := ScoreOf(Check(ready(stage)), noon); !s.Ready || s.Blockers+s.Warnings+s.Unknown != 0 || s.At != noon {
			for _, f := range Check(ready(stage)) {
				if f.Verdict != vault.OK && f.Verdict != vault.NotApplicable {
					t.Errorf("%s: %+v", stage, f)
				}
			}
			t.Errorf("%s: %+v", stage, s)
		}
	}
	score := func(change func(*Facts)) vault.Score {
		f := ready(Away)
		change(&f)
		return ScoreOf(Check(f), noon)
	}
	if s := score(func(f *Facts) { f.To.Connected = is(false) }); s.Ready || s.Blockers != 1 {
		t.Errorf("a blocker: %+v", s)
	}
	if s := score(func(f *Facts) { f.To.Connected = Value[bool]{} }); s.Ready || s.Unknown != 1 {
		t.Errorf("unknown where it must pass: %+v", s)
	}
	if s := score(func(f *Facts) { f.MasterTarget.OSVersion = Value[string]{} }); !s.Ready || s.Unknown != 1 {
		t.Errorf("unknown where it would only warn: %+v", s)
	}
	if s := ScoreOf(Check(Facts{}), noon); s.Ready {
		t.Error("ready without knowing anything")
	}
	if ScoreOf(nil, noon).Ready {
		t.Error("ready without a check")
	}
}

// What nodes and sites call an operating system is compared, however they decorate it.
func TestSystem(t *testing.T) {
	for text, want := range map[string]string{
		"Debian GNU/Linux 12 (bookworm)": "debian [12]", "debian 12.4": "debian [12 4]", "Ubuntu 22.04.3 LTS": "ubuntu [22 4 3]",
		"Windows Server 2019 Datacenter": "windows server [2019]", "6.1": " [6 1]", "Arch Linux": "", "": "",
	} {
		name, number, ok := system(text)
		if got := fmt.Sprint(name, " ", number); ok != (want != "") || ok && got != want {
			t.Errorf("%q is %q, %v", text, got, ok)
		}
	}
}
