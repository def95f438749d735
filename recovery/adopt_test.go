package recovery_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
)

// gen is a generation; those of one number are the same.
func gen(n uint64) homeward.Generation {
	return homeward.Generation{Number: n, ID: homeward.ID{byte(n)}}
}

var web = homeward.Machine{Item: "web", Disks: []homeward.Disk{{ID: "d0", Size: 1 << 20}}}

// recorded is a record of yesterday: protected from home to away.
func recorded() recovery.Record {
	return recovery.Record{RunsAt: "home", StandsAt: "away", Machine: web, State: recovery.Protected, Generation: gen(1),
		RunsOn: []string{"file:/home"}, Origin: "home", Refs: map[string]homeward.Ref{"home": {Native: "m"}}}
}

// pos is a bootable point of a leg.
func pos(n, sequence uint64) homeward.Position {
	return homeward.Position{Generation: gen(n), Sequence: sequence, Cut: homeward.ID{byte(sequence), 1}}
}

func nothing[T any]() recovery.Told[T] {
	return recovery.Told[T]{Err: homeward.Errorf("ask", homeward.NotFound, "web", "", "no such item")}
}

func unreachable[T any]() recovery.Told[T] {
	return recovery.Told[T]{Err: homeward.Errorf("ask", homeward.Unavailable, "web", "", "it is away")}
}

func told[T any](v T) recovery.Told[T] { return recovery.Told[T]{V: v} }

// capture is an agent that captures under a generation.
func capture(n uint64, sink string) recovery.Told[homeward.CaptureReport] {
	return told(homeward.CaptureReport{Generation: gen(n), State: homeward.CaptureRunning, Base: homeward.Position{}.Base(gen(n)), Sink: sink, Complete: true,
		Disks: []homeward.DiskReport{{Disk: "d0", Ref: "ref:/" + sink}}})
}

// handedOver is one whose leg ended by a newer generation.
func handedOver(n, by uint64) recovery.Told[homeward.CaptureReport] {
	c := capture(n, "")
	c.V.State, c.V.Generation = homeward.CaptureHandedOff, gen(by)
	return c
}

// replica is one that takes deltas of a leg; points of it stand.
func replica(n uint64, points uint64) recovery.Told[homeward.ReplicaReport] {
	return told(homeward.ReplicaReport{Generation: gen(n), State: homeward.ReplicaReplicating, Base: homeward.Position{}.Base(gen(n)), Applied: pos(n, points),
		NewestPoint: homeward.Point{Position: pos(n, points), Latest: true}})
}

// view is one that serves what runs since a generation.
func view(state homeward.ReplicaState, n uint64, at homeward.Position) recovery.Told[homeward.ReplicaReport] {
	return told(homeward.ReplicaReport{Generation: gen(n), State: state, Base: homeward.Position{}.Base(at.Generation), Applied: at, NewestPoint: homeward.Point{Position: at},
		Views: []homeward.View{{Name: "failover", Kind: homeward.ViewDurable, Generation: gen(n), Point: homeward.Point{Position: at},
			Disks: []homeward.ViewDisk{{Disk: "d0", URI: "nbd:/view"}}}}})
}

func machine(p homeward.PowerState) recovery.Told[homeward.SiteMachine] {
	return told(homeward.SiteMachine{Ref: homeward.Ref{Native: "m"}, Power: p})
}

var (
	noAgent   = nothing[homeward.CaptureReport]()
	noTarget  = nothing[homeward.ReplicaReport]()
	noMachine = nothing[homeward.SiteMachine]()
	noRoute   = nothing[homeward.RouteReport]()
	on, off   = machine(homeward.PowerOn), machine(homeward.PowerOff)
)

func side(agent recovery.Told[homeward.CaptureReport], target recovery.Told[homeward.ReplicaReport], m recovery.Told[homeward.SiteMachine]) recovery.Sight {
	return recovery.Sight{Agent: agent, Target: target, Machine: m, Process: noRoute}
}

// routed is a side whose process server has a route of a generation.
func routed(s recovery.Sight, n uint64) recovery.Sight {
	s.Process = told(homeward.RouteReport{Generation: gen(n)})
	return s
}

func based(c recovery.Told[homeward.CaptureReport], at homeward.Position) recovery.Told[homeward.CaptureReport] {
	c.V.Base = at
	return c
}

var (
	failedOver = homeward.ReplicaFailedOver
	promoting  = homeward.ReplicaPromoting
	promoted   = homeward.ReplicaPromoted
)

// finding is what both sides may say, and what it means.
type finding struct {
	name       string
	home, away recovery.Sight
	newest     uint64 // that a heartbeat told of
	words      string
	again      string
}

// found is every state that an item may be found in, from what both sides say.
var found = []finding{
	{name: "as it was", home: side(capture(1, "ps"), noTarget, on), away: side(noAgent, replica(1, 5), noMachine),
		words: "protected: runs at home, replicates to away, generation 1"},
	{name: "a higher generation", home: side(capture(3, "ps"), noTarget, on), away: side(noAgent, replica(3, 5), off),
		words: "protected: runs at home, replicates to away, generation 3"},
	{name: "paused", home: side(capture(1, ""), noTarget, on), away: side(noAgent, replica(1, 5), noMachine),
		words: "protected: runs at home, replicates to away, generation 1, paused"},
	{name: "enable was cut short", home: side(noAgent, noTarget, on), away: side(noAgent, replica(1, 0), noMachine),
		words: `unprotected: runs at home, generation 1, "protect" cut short`, again: "protect"},
	{name: "synchronizing for the first time", home: side(capture(2, "ps"), noTarget, on), away: side(noAgent, replica(2, 0), noMachine),
		words: "synchronizing: runs at home, replicates to away, generation 2", again: "protect"},
	{name: "failed over", home: side(capture(1, "ps"), noTarget, off), away: side(capture(2, ""), view(failedOver, 2, pos(1, 5)), on),
		words: "failed over from home to away, not committed, generation 2"},
	{name: "failed over with nothing else alive", home: side(capture(1, "ps"), noTarget, off), away: side(noAgent, view(failedOver, 2, pos(1, 5)), noMachine),
		words: `failed over from home to away, not committed, generation 2, "fail over" cut short`, again: "fail over"},
	{name: "failed over and not booted", home: side(capture(1, "ps"), noTarget, off), away: side(capture(2, ""), view(failedOver, 2, pos(1, 5)), off),
		words: `failed over from home to away, not committed, generation 2, "fail over" cut short`, again: "fail over"},
	{name: "another point", home: side(handedOver(1, 2), noTarget, off), away: side(capture(3, ""), view(failedOver, 3, pos(1, 4)), on),
		words: "failed over from home to away, not committed, generation 3"},
	{name: "another point was cut short", home: side(capture(1, "ps"), noTarget, off), away: side(handedOver(2, 3), view(failedOver, 2, pos(1, 5)), off),
		words: `failed over from home to away, not committed, generation 2, "change point" cut short`, again: "change point"},
	{name: "another point was cut short later", newest: 3, home: side(capture(1, "ps"), noTarget, off), away: side(noAgent, view(failedOver, 2, pos(1, 5)), off),
		words: `failed over from home to away, not committed, generation 2, "change point" cut short`, again: "change point"},
	{name: "a cancel was cut short", home: side(capture(1, "ps"), noTarget, off), away: side(noAgent, replica(3, 5), off),
		words: `protected: runs at home, replicates to away, generation 1, "cancel failover" cut short`, again: "cancel failover"},
	{name: "a cancel could not tell the standby side", home: side(capture(2, "ps"), noTarget, on), away: side(noAgent, replica(1, 5), off),
		words: `protected: runs at home, replicates to away, generation 2, "cancel failover" cut short`, again: "cancel failover"},
	{name: "rolled back on the master target", home: side(capture(1, "ps"), noTarget, on), away: side(noAgent, replica(2, 3), noMachine),
		words: `protected: runs at home, replicates to away, generation 1, "cancel failover" cut short`, again: "cancel failover"},
	{name: "being committed", home: side(capture(1, "ps"), noTarget, off), away: side(capture(2, ""), view(promoting, 2, pos(1, 5)), on),
		words: `failed over from home to away, not committed, generation 2, "commit" cut short`, again: "commit"},
	{name: "committed", home: side(capture(1, "ps"), noTarget, off), away: side(capture(2, ""), view(promoted, 2, pos(1, 5)), on),
		words: "committed: runs at away, not protected, generation 2"},
	{name: "a reprotect was cut short", home: side(noAgent, replica(2, 0), off), away: side(capture(2, ""), view(promoted, 2, pos(1, 5)), on),
		words: `committed: runs at away, not protected, generation 2, "reprotect" cut short`, again: "reprotect"},
	{name: "reprotected, synchronizing", home: side(noAgent, replica(2, 0), off), away: side(capture(2, "ps"), view(promoted, 2, pos(1, 5)), on),
		words: "synchronizing: runs at away, replicates to home, generation 2", again: "reprotect"},
	{name: "reprotected, paused", home: side(noAgent, replica(2, 0), off), away: routed(side(capture(2, ""), view(promoted, 2, pos(1, 5)), on), 2),
		words: "synchronizing: runs at away, replicates to home, generation 2, paused", again: "reprotect"},
	{name: "reprotected", home: side(noAgent, replica(2, 4), off), away: side(capture(2, "ps"), view(promoted, 2, pos(1, 5)), on),
		words: "protected: runs at away, replicates to home, generation 2"},
	{name: "a failback was cut short", home: side(noAgent, replica(2, 4), off), away: side(handedOver(2, 3), view(promoted, 2, pos(1, 5)), off),
		words: `protected: runs at away, replicates to home, generation 2, "fail back" cut short`, again: "fail back"},
	{name: "failed back", home: side(capture(3, ""), view(failedOver, 3, pos(2, 4)), on), away: side(handedOver(2, 3), view(promoted, 2, pos(1, 5)), off),
		words: "failed over from away to home, not committed, generation 3"},
	{name: "a failback was cancelled", home: side(noAgent, replica(4, 4), off), away: side(based(capture(4, "ps"), pos(4, 0)), view(promoted, 2, pos(1, 5)), on),
		words: "protected: runs at away, replicates to home, generation 4"},
	{name: "a cancel of a failback was cut short", home: side(noAgent, replica(4, 4), off), away: side(handedOver(2, 3), view(promoted, 2, pos(1, 5)), off),
		words: `protected: runs at away, replicates to home, generation 2, "cancel failover" cut short`, again: "cancel failover"},
	{name: "failback committed", home: side(capture(3, ""), view(promoted, 3, pos(2, 4)), on), away: side(handedOver(2, 3), view(promoted, 2, pos(1, 5)), noMachine),
		words: "committed: runs at home, not protected, generation 3"},
	{name: "protected again", home: side(capture(3, "ps"), view(promoted, 3, pos(2, 4)), on), away: side(noAgent, replica(3, 7), noMachine),
		words: "protected: runs at home, replicates to away, generation 3"},
}

func TestAdopt_EveryState(t *testing.T) {
	for _, c := range found {
		for _, runs := range []string{"home", "away"} { // it does not depend on what was recorded
			r := recorded()
			if runs == "away" {
				r.RunsAt, r.StandsAt, r.State = "away", "home", recovery.Committed
			}
			got, err := recovery.Adopt(r, map[string]recovery.Sight{"home": c.home, "away": c.away}, gen(c.newest), false)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if got.Found != c.words || got.Again != c.again || got.Record.Words() != c.words || len(got.Evidence) < 6 {
				t.Errorf("%s: found %s, again %q; expected %s, %q\n%s", c.name, got.Found, got.Again, c.words, c.again, strings.Join(got.Evidence, "\n"))
			}
			if next := got.Record.Next; !next.IsZero() && next.Number < max(c.newest, got.Record.Generation.Number) {
				t.Errorf("%s: the next generation would be %d", c.name, next.Number)
			}
			if runs == "home" && (len(got.Changes) == 0) != (c.name == "as it was") && c.name != "as it was" {
				t.Errorf("%s: nothing changes", c.name)
			}
		}
	}
}

// Who contradicts himself, or is not known, is not guessed about; the message says what
// it is. Force is for the side where the machine does not run.
func TestAdopt_Refuses(t *testing.T) {
	sights := func(name string) (home, away recovery.Sight) {
		i := slices.IndexFunc(found, func(c finding) bool { return c.name == name })
		return found[i].home, found[i].away
	}
	older := capture(1, "ps")
	older.V.Base = homeward.Position{}
	foreign := capture(1, "ps")
	foreign.V.Disks[0].Disk = "d7"
	for _, c := range []struct {
		name, of string
		edit     func(home, away *recovery.Sight)
		newest   homeward.Generation
		kind     homeward.Kind
		says     string
		forced   homeward.Kind // with force; empty: it is adopted
	}{
		{name: "it runs twice", of: "failed over", edit: func(home, _ *recovery.Sight) { home.Machine = on },
			kind: homeward.Conflict, says: "on at both", forced: homeward.Conflict},
		{name: "it runs where it should not", of: "protected again", edit: func(home, away *recovery.Sight) { home.Machine, away.Machine = off, on },
			kind: homeward.Conflict, says: "on at away", forced: homeward.Conflict},
		{name: "it is failed over twice", of: "failed over", edit: func(home, _ *recovery.Sight) { home.Target = view(failedOver, 2, pos(1, 5)) },
			kind: homeward.Conflict, says: "both sides", forced: homeward.Conflict},
		{name: "two controllers", of: "failed over", edit: func(*recovery.Sight, *recovery.Sight) {}, newest: homeward.Generation{Number: 2, ID: homeward.ID{9}},
			kind: homeward.Conflict, says: "moved twice", forced: homeward.Conflict},
		{name: "the side that was left is away", of: "failed over", edit: func(home, _ *recovery.Sight) {
			home.Agent, home.Target, home.Machine = unreachable[homeward.CaptureReport](), unreachable[homeward.ReplicaReport](), unreachable[homeward.SiteMachine]()
		}, kind: homeward.Unavailable, says: "the agent at home cannot be asked"},
		{name: "the side that stands by is away", of: "protected again", edit: func(_, a *recovery.Sight) {
			a.Agent, a.Target, a.Machine = unreachable[homeward.CaptureReport](), unreachable[homeward.ReplicaReport](), unreachable[homeward.SiteMachine]()
		}, kind: homeward.Unavailable, says: "the master target at away cannot be asked"},
		{name: "the agent where it runs is away", of: "failed over", edit: func(_, a *recovery.Sight) { a.Agent = unreachable[homeward.CaptureReport]() },
			kind: homeward.Unavailable, says: "the agent at away", forced: homeward.Unavailable},
		{name: "the site where it runs is away", of: "committed", edit: func(_, a *recovery.Sight) { a.Machine = unreachable[homeward.SiteMachine]() },
			kind: homeward.Unavailable, says: "the site, for its machine, at away", forced: homeward.Unavailable},
		{name: "power is not known where it runs", of: "committed", edit: func(_, a *recovery.Sight) { a.Machine = machine(homeward.PowerUnknown) },
			kind: homeward.Unavailable, says: "is on", forced: homeward.Unavailable},
		{name: "power is not known where it does not", of: "committed", edit: func(h, _ *recovery.Sight) { h.Machine = machine(homeward.PowerUnknown) },
			kind: homeward.Unavailable, says: "is on"},
		{name: "nobody has it", of: "as it was", edit: func(h, a *recovery.Sight) { h.Agent, a.Target = noAgent, noTarget },
			kind: homeward.Conflict, says: "no agent captures", forced: homeward.Conflict},
		{name: "its replica is gone", of: "as it was", edit: func(_, a *recovery.Sight) { a.Target = noTarget },
			kind: homeward.Conflict, says: "replica is lost", forced: homeward.Conflict},
		{name: "all are away", of: "as it was", edit: func(h, a *recovery.Sight) {
			h.Agent, h.Target, a.Agent, a.Target = unreachable[homeward.CaptureReport](), unreachable[homeward.ReplicaReport](), unreachable[homeward.CaptureReport](), unreachable[homeward.ReplicaReport]()
		}, kind: homeward.Unavailable, says: "too little", forced: homeward.Unavailable},
		{name: "an older agent", of: "as it was", edit: func(h, _ *recovery.Sight) { h.Agent = older },
			kind: homeward.Unavailable, says: "update it", forced: homeward.Unavailable},
		{name: "other disks", of: "as it was", edit: func(h, _ *recovery.Sight) { h.Agent = foreign },
			kind: homeward.Conflict, says: "d7", forced: homeward.Conflict},
		{name: "a view that is not served", of: "failed over", edit: func(_, a *recovery.Sight) { a.Target.V.Views = nil },
			kind: homeward.Unavailable, says: "does not serve", forced: homeward.Unavailable},
		{name: "committed unseen", of: "being committed", edit: func(_, a *recovery.Sight) { a.Agent = noAgent },
			kind: homeward.Conflict, says: "no agent there", forced: homeward.Conflict},
	} {
		home, away := sights(c.of)
		c.edit(&home, &away)
		both := map[string]recovery.Sight{"home": home, "away": away}
		_, err := recovery.Adopt(recorded(), both, c.newest, false)
		if homeward.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: %v (%s)", c.name, err, homeward.KindOf(err))
		}
		got, err := recovery.Adopt(recorded(), both, c.newest, true)
		if homeward.KindOf(err) != c.forced || (err == nil && len(got.Unknown) == 0) {
			t.Errorf("%s, with force: %v, unknown %v", c.name, err, got.Unknown)
		}
	}
}

// What only the lost record knew is made up for by comparing everything.
func TestAdopt_Forgotten(t *testing.T) {
	torn := capture(2, "ps")
	torn.V.Complete = false
	sights := map[string]recovery.Sight{"home": side(noAgent, replica(2, 0), off), "away": side(torn, view(promoted, 2, pos(1, 5)), on)}
	got, err := recovery.Adopt(recorded(), sights, homeward.Generation{}, false)
	if err != nil || len(got.Lost) != 1 || len(got.Record.List.Uncompared()) != 1 || got.Record.List.Uncompared()[0].SuspectBytes != 1<<20 {
		t.Fatalf("%v: %+v", err, got.Lost)
	}
	// The synchronization was given up for the branch, before all was compared.
	torn.V.State, torn.V.Generation = homeward.CaptureHandedOff, gen(3)
	at := view(failedOver, 3, pos(1, 0))
	at.V.Base, at.V.Applied = homeward.Position{}.Base(gen(2)), pos(2, 3)
	sights = map[string]recovery.Sight{"home": side(capture(3, ""), at, on), "away": side(torn, view(promoted, 2, pos(1, 5)), off)}
	got, err = recovery.Adopt(recorded(), sights, homeward.Generation{}, false)
	if err != nil || len(got.Lost) != 1 || len(got.Record.Interrupted.Uncompared()) != 1 {
		t.Fatalf("%v: %+v", err, got.Lost)
	}
	// It replicated to another replica than the one that was failed over to.
	at.V.Applied, torn.V.Complete = pos(1, 9), true
	sights["away"] = side(torn, view(promoted, 2, pos(1, 5)), off)
	got, err = recovery.Adopt(recorded(), sights, homeward.Generation{}, false)
	if err != nil || len(got.Lost) != 0 || got.Record.Strayed {
		t.Fatalf("%v: %+v", err, got.Lost)
	}
	sights["home"] = side(capture(3, ""), at, on)
	got, err = recovery.Adopt(recorded(), sights, homeward.Generation{}, false)
	if err != nil || len(got.Lost) != 1 || !got.Record.Strayed {
		t.Fatalf("%v: %+v", err, got.Lost)
	}
}
