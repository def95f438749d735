package lifecycle_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// expected is what is possible where every fact is favourable: state, where the
// machine runs, the leg, then each action with the state that it leads to. What a
// line does not list is refused; a row without a line is one that cannot be.
const expected = `
-             -        -       : enable>synchronizing
enabling      original forward : enable>synchronizing disable>-
synchronizing original forward : resync>protected disable>- pause>synchronizing
synchronizing recovery reverse : resync>protected disable>- pause>synchronizing
protected     original forward : test-failover>protected failover>failed-over resync>protected disable>- pause>protected
protected     recovery reverse : test-failover>protected failback>failed-over resync>protected disable>- pause>protected
failed-over   recovery forward : change-recovery-point>failed-over commit>committed reprotect>synchronizing cancel-failover>protected disable>- complete-migration>migrated
failed-over   original reverse : change-recovery-point>failed-over commit>committed reprotect>synchronizing cancel-failover>protected disable>-
committed     recovery forward : reprotect>synchronizing disable>- complete-migration>migrated
committed     original reverse : reprotect>synchronizing disable>-
disabling     original forward : disable>-
disabling     original reverse : disable>-
disabling     recovery forward : disable>-
disabling     recovery reverse : disable>-
migrated      recovery forward : disable>-
migrated      original reverse : disable>-
`

// withTest is the same while a test failover is open, running or being closed.
const withTest = `
enabling      original forward : test-failover-cleanup>enabling
synchronizing original forward : test-failover-cleanup>synchronizing pause>synchronizing
synchronizing recovery reverse : test-failover-cleanup>synchronizing pause>synchronizing
protected     original forward : test-failover-cleanup>protected failover>failed-over pause>protected
protected     recovery reverse : test-failover-cleanup>protected pause>protected
failed-over   recovery forward : test-failover-cleanup>failed-over
failed-over   original reverse : test-failover-cleanup>failed-over
committed     recovery forward : test-failover-cleanup>committed
committed     original reverse : test-failover-cleanup>committed
disabling     original forward : test-failover-cleanup>disabling disable>-
disabling     original reverse : test-failover-cleanup>disabling disable>-
disabling     recovery forward : test-failover-cleanup>disabling disable>-
disabling     recovery reverse : test-failover-cleanup>disabling disable>-
`

// withOlder is what else is possible where a certain point is asked for.
const withOlder = `
synchronizing original forward : failover>failed-over
synchronizing recovery reverse : failback>failed-over
`

var (
	states = []vault.State{lifecycle.None, vault.Enabling, vault.Synchronizing, vault.Protected, vault.FailedOver, vault.Committed, vault.Disabling, vault.Migrated}
	ends   = []lifecycle.End{lifecycle.AtOriginal, lifecycle.AtRecovery}
	legs   = []lifecycle.Leg{lifecycle.Forward, lifecycle.Reverse}
	tests  = []vault.TestState{vault.TestNone, vault.TestRunning, vault.TestOpen, vault.TestClosing}
)

// favourable facts let everything through that the table allows.
func favourable(s vault.State, at lifecycle.End, leg lifecycle.Leg, test vault.TestState) lifecycle.Facts {
	if s == lifecycle.None {
		return lifecycle.Facts{}
	}
	return lifecycle.Facts{State: s, At: at, Leg: leg, Test: test, Points: lifecycle.Count{N: 3, Known: true},
		FirstPoint: lifecycle.Yes, Other: lifecycle.Yes, Committing: lifecycle.No, Machine: lifecycle.Yes, Foreign: lifecycle.No}
}

func name(s vault.State) string {
	if s == lifecycle.None {
		return "-"
	}
	return string(s)
}

func parse(t *testing.T, table string) map[string]map[vault.Action]string {
	t.Helper()
	rows := map[string]map[vault.Action]string{}
	for line := range strings.Lines(table) {
		key, list, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			continue
		}
		actions := map[vault.Action]string{}
		for _, entry := range strings.Fields(list) {
			a, next, _ := strings.Cut(entry, ">")
			if !slices.Contains(vault.Actions(), vault.Action(a)) {
				t.Fatalf("the table names an unknown action %q", a)
			}
			actions[vault.Action(a)] = next
		}
		rows[strings.Join(strings.Fields(key), " ")] = actions
	}
	return rows
}

// TestEveryPair walks all of state × where it runs × leg × test × action, for the newest
// point and for an older one.
func TestEveryPair(t *testing.T) {
	quiet, open, older := parse(t, expected), parse(t, withTest), parse(t, withOlder)
	walked, used := 0, map[string]bool{}
	if len(quiet) != 16 || len(open) != 13 {
		t.Fatalf("the tables have %d and %d rows", len(quiet), len(open))
	}
	for _, s := range states {
		for _, at := range ends {
			for _, leg := range legs {
				for _, test := range tests {
					f := favourable(s, at, leg, test)
					key, table, which := fmt.Sprintf("%s %s %s", s, at, leg), quiet, "quiet "
					if s == lifecycle.None {
						key = "- - -"
					}
					if f.Test != vault.TestNone && s != lifecycle.None {
						table, which = open, "open "
					}
					row, listed := table[key]
					if listed {
						used[which+key] = true
					}
					if _, possible := quiet[key]; !possible { // a contradiction: the way out only
						row = map[vault.Action]string{}
						if test == vault.TestNone {
							row[vault.Disable] = "-"
						}
					}
					for _, a := range vault.Actions() {
						walked++
						decide(t, f, a, row)
					}
					f.Older, row = true, maps.Clone(row)
					for a, next := range older[key] {
						if r := f.Test; r == vault.TestNone || a == vault.Failover { // which waits for no clean-up
							row[a] = next
						}
					}
					for _, a := range vault.Actions() {
						walked++
						decide(t, f, a, row)
					}
				}
			}
		}
	}
	if want := len(states) * len(ends) * len(legs) * len(tests) * len(vault.Actions()) * 2; walked != want {
		t.Errorf("walked %d pairs of %d", walked, want)
	}
	if len(used) != len(quiet)+len(open) {
		t.Errorf("%d rows of the tables were met, they have %d", len(used), len(quiet)+len(open))
	}
}

func decide(t *testing.T, f lifecycle.Facts, a vault.Action, row map[vault.Action]string) {
	t.Helper()
	next, may := row[a]
	transition, no := lifecycle.Decide(f, a)
	switch {
	case may && no != nil:
		t.Errorf("%s at %s, %s, test %s: %s refused: %s", name(f.State), f.At, f.Leg, f.Test, a, no.Why)
	case !may && no == nil:
		t.Errorf("%s at %s, %s, test %s: %s allowed, to %s", name(f.State), f.At, f.Leg, f.Test, a, name(transition.Next))
	case may && name(transition.Next) != next:
		t.Errorf("%s at %s, %s, test %s: %s leads to %s, not %s", name(f.State), f.At, f.Leg, f.Test, a, name(transition.Next), next)
	case !may && (no.Why == "" || no.Remedy == "" || no.Action != a):
		t.Errorf("%s at %s, %s: %s is refused without a reason and a remedy: %+v", name(f.State), f.At, f.Leg, a, no)
	}
}

// TestFacts changes one fact at a time of a row and says what that takes away.
func TestFacts(t *testing.T) {
	forward := favourable(vault.Protected, lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone)
	back := favourable(vault.Protected, lifecycle.AtRecovery, lifecycle.Reverse, vault.TestNone)
	over := favourable(vault.FailedOver, lifecycle.AtRecovery, lifecycle.Forward, vault.TestNone)
	committed := favourable(vault.Committed, lifecycle.AtRecovery, lifecycle.Forward, vault.TestNone)
	home := favourable(vault.Committed, lifecycle.AtOriginal, lifecycle.Reverse, vault.TestNone)
	syncing := favourable(vault.Synchronizing, lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone)
	comingBack := favourable(vault.Synchronizing, lifecycle.AtRecovery, lifecycle.Reverse, vault.TestNone)
	older := func(f lifecycle.Facts) lifecycle.Facts { f.Older = true; return f }
	all := vault.Actions()
	cases := []struct {
		name   string
		facts  lifecycle.Facts
		change func(*lifecycle.Facts)
		gone   []vault.Action // no longer possible
		come   []vault.Action // possible only now
		rule   string         // of each that is gone; "": not looked at
	}{
		{name: "no point", facts: forward, change: func(f *lifecycle.Facts) { f.Points.N = 0 }, gone: []vault.Action{vault.TestFailover, vault.Failover}},
		{name: "points not known", facts: forward, change: func(f *lifecycle.Facts) { f.Points = lifecycle.Count{N: 9} }, gone: []vault.Action{vault.TestFailover, vault.Failover}},
		{name: "recovery site away", facts: forward, change: func(f *lifecycle.Facts) { f.Other = lifecycle.No }, gone: []vault.Action{vault.TestFailover, vault.Failover}},
		{name: "recovery site unknown", facts: forward, change: func(f *lifecycle.Facts) { f.Other = lifecycle.Unknown }, gone: []vault.Action{vault.TestFailover, vault.Failover}},
		{name: "paused", facts: forward, change: func(f *lifecycle.Facts) { f.Paused = true }, gone: []vault.Action{vault.Resync, vault.Pause}, come: []vault.Action{vault.Resume}},
		{name: "paused on the way back", facts: back, change: func(f *lifecycle.Facts) { f.Paused = true }, gone: []vault.Action{vault.Resync, vault.Pause, vault.FailbackAction}, come: []vault.Action{vault.Resume}},
		{name: "way back without a point", facts: back, change: func(f *lifecycle.Facts) { f.FirstPoint = lifecycle.No }, gone: []vault.Action{vault.FailbackAction}, rule: "R3"},
		{name: "way back, point unknown", facts: back, change: func(f *lifecycle.Facts) { f.FirstPoint = lifecycle.Unknown }, gone: []vault.Action{vault.FailbackAction}, rule: "R3"},
		{name: "home away", facts: back, change: func(f *lifecycle.Facts) { f.Other = lifecycle.No }, gone: []vault.Action{vault.FailbackAction, vault.TestFailover}},
		{name: "only point", facts: over, change: func(f *lifecycle.Facts) { f.Points.N = 1 }, gone: []vault.Action{vault.ChangePoint}},
		{name: "points of the view unknown", facts: over, change: func(f *lifecycle.Facts) { f.Points.Known = false }, gone: []vault.Action{vault.ChangePoint}},
		{name: "committing", facts: over, change: func(f *lifecycle.Facts) { f.Committing = lifecycle.Yes }, gone: []vault.Action{vault.ChangePoint, vault.CancelFailover}},
		{name: "perhaps committing", facts: over, change: func(f *lifecycle.Facts) { f.Committing = lifecycle.Unknown }, gone: []vault.Action{vault.ChangePoint, vault.CancelFailover}},
		{name: "old side away", facts: over, change: func(f *lifecycle.Facts) { f.Other = lifecycle.No }, gone: []vault.Action{vault.Reprotect, vault.CancelFailover}, rule: "R7"},
		{name: "old side away, committed", facts: committed, change: func(f *lifecycle.Facts) { f.Other = lifecycle.Unknown }, gone: []vault.Action{vault.Reprotect}, rule: "R7"},
		{name: "machine gone", facts: committed, change: func(f *lifecycle.Facts) { f.Location, f.Machine = vault.OriginalLocation, lifecycle.No }, gone: []vault.Action{vault.Reprotect}, rule: "R36"},
		{name: "machine unknown", facts: committed, change: func(f *lifecycle.Facts) { f.Location, f.Machine = vault.OriginalLocation, lifecycle.Unknown }, gone: []vault.Action{vault.Reprotect}, rule: "R36"},
		{name: "machine gone, another place", facts: committed, change: func(f *lifecycle.Facts) { f.Location, f.Machine = vault.AlternateLocation, lifecycle.No }},
		{name: "machine gone at home", facts: home, change: func(f *lifecycle.Facts) { f.Location, f.Machine = vault.OriginalLocation, lifecycle.No }},
		{name: "member of a group", facts: forward, change: func(f *lifecycle.Facts) { f.Group = "erp" }, gone: []vault.Action{vault.TestFailover, vault.Failover}, rule: "R32"},
		{name: "group by its plan", facts: forward, change: func(f *lifecycle.Facts) { f.Group, f.Plan = "erp", true }},
		{name: "a job runs", facts: forward, change: func(f *lifecycle.Facts) { f.Job, f.JobScenario = "j1", "UnplannedFailover" }, gone: all},
		{name: "a resync runs", facts: forward, change: func(f *lifecycle.Facts) { f.Job, f.JobScenario = "j1", lifecycle.ScenarioResync }, gone: without(all, vault.Pause)},
		{name: "first sync runs", facts: syncing, change: func(f *lifecycle.Facts) { f.Job, f.JobScenario = "j1", lifecycle.ScenarioFirstPoint }, gone: without(all, vault.Pause)},
		{name: "failover cut short", facts: forward, change: unfinished("fail over"), gone: without(all, vault.Failover), come: []vault.Action{vault.CancelFailover}},
		{name: "failback cut short", facts: back, change: unfinished("fail back"), gone: without(all, vault.FailbackAction), come: []vault.Action{vault.CancelFailover}},
		{name: "failover cut short at boot", facts: over, change: unfinished("fail over"), gone: without(all, vault.CancelFailover), come: []vault.Action{vault.Failover}},
		{name: "change cut short", facts: over, change: unfinished("change point"), gone: without(all, vault.ChangePoint, vault.CancelFailover)},
		{name: "commit cut short", facts: over, change: unfinished("commit"), gone: without(all, vault.Commit, vault.Reprotect, vault.CompleteMigration, vault.Disable)},
		{name: "cancel cut short", facts: over, change: unfinished("cancel failover"), gone: without(all, vault.CancelFailover)},
		{name: "cancel cut short, running again", facts: forward, change: unfinished("cancel failover"), gone: all, come: []vault.Action{vault.CancelFailover}},
		{name: "reprotect cut short", facts: committed, change: unfinished("reprotect"), gone: without(all, vault.Reprotect, vault.Disable)},
		{name: "relocation cut short", facts: committed, change: unfinished("relocate"), gone: without(all, vault.Reprotect, vault.Disable)},
		{name: "enable not in sync", facts: syncing, change: unfinished("protect"), gone: without(all, vault.Resync, vault.Disable, vault.Pause)},
		{name: "disable cut short", facts: favourable(vault.Disabling, lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone), change: unfinished("disable")},
		{name: "reprotect not in sync", facts: syncing, change: unfinished("reprotect"), gone: without(all, vault.Resync, vault.Pause)},
		{name: "reprotect not in sync, branch let go", facts: syncing, change: func(f *lifecycle.Facts) { f.Unfinished, f.Discard = "reprotect", true }, gone: without(all, vault.Resync, vault.Disable, vault.Pause)},
		{name: "force lets no branch go", facts: syncing, change: func(f *lifecycle.Facts) { f.Unfinished, f.Force = "reprotect", true }, gone: without(all, vault.Resync, vault.Pause)},
		{name: "amid reprotect, an older point", facts: syncing, change: func(f *lifecycle.Facts) { f.Unfinished, f.Older = "reprotect", true }, gone: []vault.Action{vault.Disable}, come: []vault.Action{vault.Failover}},
		{name: "amid the way back, an older point", facts: comingBack, change: func(f *lifecycle.Facts) { f.Unfinished, f.Older, f.Paused = "reprotect", true, true },
			gone: []vault.Action{vault.Disable, vault.Pause, vault.Resync}, come: []vault.Action{vault.FailbackAction, vault.Resume}},
		{name: "the same, while somebody waits for its first", facts: comingBack, change: func(f *lifecycle.Facts) {
			f.Unfinished, f.Older, f.Job, f.JobScenario = "reprotect", true, "j1", lifecycle.ScenarioFirstPoint
		}, gone: without(all, vault.Pause), come: []vault.Action{vault.FailbackAction}},
		{name: "an older point, and none is there", facts: older(comingBack), change: func(f *lifecycle.Facts) { f.Points.N = 0 }, gone: []vault.Action{vault.FailbackAction}},
		{name: "an older point, and nobody can be asked", facts: older(comingBack), change: func(f *lifecycle.Facts) { f.Points.Known = false }, gone: []vault.Action{vault.FailbackAction}},
		{name: "home is away, too", facts: older(comingBack), change: func(f *lifecycle.Facts) { f.Other = lifecycle.No }, gone: []vault.Action{vault.FailbackAction}, rule: "R17"},
		{name: "an older point of a first synchronization", facts: older(syncing), change: unfinished("protect"), gone: without(all, vault.Resync, vault.Disable, vault.Pause)},
		{name: "an older point of new disks", facts: older(syncing), change: unfinished("relocate"), gone: without(all, vault.Resync, vault.Disable, vault.Pause)},
		{name: "paused on the way back, by force", facts: back, change: func(f *lifecycle.Facts) { f.Paused, f.Force = true, true }, gone: []vault.Action{vault.Resync, vault.Pause}, come: []vault.Action{vault.Resume}},
		{name: "failback by force cut short", facts: back, change: unfinished("fail over"), gone: without(all, vault.FailbackAction), come: []vault.Action{vault.CancelFailover}},
		{name: "failback by force cut short at boot", facts: favourable(vault.FailedOver, lifecycle.AtOriginal, lifecycle.Reverse, vault.TestNone), change: unfinished("fail over"), gone: without(all, vault.CancelFailover), come: []vault.Action{vault.FailbackAction}},
		{name: "cut short amid the way back", facts: older(comingBack), change: unfinished("fail over"), gone: without(all, vault.FailbackAction), come: []vault.Action{vault.CancelFailover}},
		{name: "led to another master target", facts: forward, change: unfinished("reassociate"), gone: without(all, vault.Resync, vault.Failover, vault.Disable)},
		{name: "led to another master target on the way back", facts: back, change: unfinished("reassociate"), gone: without(all, vault.Resync, vault.Disable)},
		{name: "the same, and the source is lost", facts: back, change: func(f *lifecycle.Facts) { f.Unfinished, f.Force = "reassociate", true }, gone: without(all, vault.Resync, vault.Disable, vault.FailbackAction)},
		{name: "something newer cut short", facts: forward, change: unfinished("teleport"), gone: all},
		{name: "the same, by force", facts: forward, change: func(f *lifecycle.Facts) { f.Unfinished, f.Force = "teleport", true }, gone: without(all, vault.Disable)},
		{name: "test open, by force", facts: forward, change: func(f *lifecycle.Facts) { f.Test, f.Force = vault.TestOpen, true }, gone: without(all, vault.Disable, vault.Pause, vault.Failover), come: []vault.Action{vault.CleanUpTest}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before, _ := lifecycle.Allowed(c.facts)
			f := c.facts
			c.change(&f)
			after, refused := lifecycle.Allowed(f)
			var want []vault.Action
			for _, a := range all {
				if slices.Contains(before, a) && !slices.Contains(c.gone, a) || slices.Contains(c.come, a) {
					want = append(want, a)
				}
			}
			if !slices.Equal(after, want) {
				t.Errorf("allowed %v, expected %v", after, want)
			}
			for _, no := range refused {
				if c.rule != "" && slices.Contains(c.gone, no.Action) && slices.Contains(before, no.Action) && c.name != "home away" && no.Rule != c.rule {
					t.Errorf("%s is refused by rule %q, not %s: %s", no.Action, no.Rule, c.rule, no.Why)
				}
				if f.Job != "" && no.Job != f.Job && no.Action != vault.Resume {
					t.Errorf("%s does not name the running job: %+v", no.Action, no)
				}
			}
		})
	}
}

func unfinished(op string) func(*lifecycle.Facts) {
	return func(f *lifecycle.Facts) { f.Unfinished = op }
}

func without(all []vault.Action, not ...vault.Action) []vault.Action {
	return slices.DeleteFunc(slices.Clone(all), func(a vault.Action) bool { return slices.Contains(not, a) })
}

// TestInterrupted: a cancel goes back to what the failover gave up.
func TestInterrupted(t *testing.T) {
	f := favourable(vault.Synchronizing, lifecycle.AtRecovery, lifecycle.Reverse, vault.TestNone)
	f.Older = true
	over, no := lifecycle.Decide(f, vault.FailbackAction)
	if no != nil {
		t.Fatal(no.Why)
	}
	f = f.After(over)
	if f.State != vault.FailedOver || f.At != lifecycle.AtOriginal || !f.Interrupted {
		t.Fatalf("%+v", f)
	}
	f.Other, f.Committing = lifecycle.Yes, lifecycle.No
	back, no := lifecycle.Decide(f, vault.CancelFailover)
	if no != nil {
		t.Fatal(no.Why)
	}
	if f = f.After(back); f.State != vault.Synchronizing || f.At != lifecycle.AtRecovery || f.Interrupted {
		t.Fatalf("%+v", f)
	}
}

func TestRules(t *testing.T) {
	committed := favourable(vault.Committed, lifecycle.AtRecovery, lifecycle.Forward, vault.TestNone)
	for _, c := range []struct {
		facts  lifecycle.Facts
		action vault.Action
		rule   string
	}{
		{committed, vault.FailbackAction, "R3"},
		{favourable(vault.Synchronizing, lifecycle.AtRecovery, lifecycle.Reverse, vault.TestNone), vault.FailbackAction, "R3"},
		{favourable(vault.Protected, lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone), vault.FailbackAction, "R3"},
		{favourable(vault.Protected, lifecycle.AtRecovery, lifecycle.Reverse, vault.TestNone), vault.Failover, "R2"},
		{favourable(vault.Protected, lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone), vault.Reprotect, "R136"},
		{favourable(vault.Migrated, lifecycle.AtRecovery, lifecycle.Forward, vault.TestNone), vault.Reprotect, "R25"},
		{favourable(vault.Migrated, lifecycle.AtRecovery, lifecycle.Forward, vault.TestNone), vault.FailbackAction, "R25"},
	} {
		if _, no := lifecycle.Decide(c.facts, c.action); no == nil || no.Rule != c.rule {
			t.Errorf("%s of a %s item: %+v, expected rule %s", c.action, c.facts.State, no, c.rule)
		}
	}
	if _, no := lifecycle.Decide(committed, "teleport"); no == nil || no.Action != "teleport" {
		t.Errorf("an unknown action: %+v", no)
	}
	if _, no := lifecycle.Decide(lifecycle.Facts{State: "odd", At: lifecycle.AtOriginal, Leg: lifecycle.Forward}, vault.Failover); no == nil {
		t.Error("an unknown state lets a failover through")
	}
}
