package recovery

import (
	"github.com/homeward-dr/homeward"
)

// What the roles of both sides say has one meaning: the lists leave every role in a
// state that no other list leaves it in, or in one from where the same call goes on.
//
//	a view runs at one side            failed over there; captured: by its agent
//	its replica is promoted, and the   committed there
//	agent there captures since
//	one side takes what the other      protected, or synchronizing until a point stands;
//	captures, under one generation     its agent ships nothing: paused
//	it takes a generation that nobody  a cancel was cut short, or the replica was rolled
//	captures under                     back: a cancel begins the leg there anew

// read finds out what the sides' answers mean.
func (a *adopting) read() (picture, error) {
	var over []party
	for _, p := range a.sides {
		if _, yes := p.serves(homeward.ReplicaFailedOver, homeward.ReplicaPromoting); yes {
			over = append(over, p)
		}
	}
	switch len(over) {
	case 2:
		return picture{}, a.contradiction("it is failed over at both sides")
	case 1:
		return a.failedOver(over[0])
	}
	return a.captured()
}

// failedOver reads a view that runs at y, or is to.
func (a *adopting) failedOver(y party) (picture, error) {
	x := a.other(y)
	view, _ := y.serves(homeward.ReplicaFailedOver, homeward.ReplicaPromoting)
	now := picture{state: FailedOver, runs: x, stands: y, g: view.Generation, view: view, evidence: &y}
	old, live := x.leg()
	if live && old.Number >= view.Generation.Number { // it was brought back before the master target could be told
		return a.cancelled(x, y, old), nil
	}
	if len(view.Disks) == 0 {
		return now, a.refuse(homeward.Unavailable, "mend what its fault or its log names, then adopt again",
			"the master target at %s does not serve what runs there: its fault: %s", y.name, words(y.Target.V.Fault))
	}
	switch {
	case y.captures(view.Generation):
		now.at = &y
		if y.Target.V.State == homeward.ReplicaPromoting {
			now.list = Unfinished{Op: opCommit, Next: a.newest, Done: map[string]bool{}}
		} else if y.Machine.known() && !y.on() { // it was not booted, or somebody stopped it
			now.list = a.raising(now)
		}
	case y.Target.V.State == homeward.ReplicaPromoting:
		return now, a.contradiction("what runs at %s is being committed, and no agent there has seen what it writes", y.name)
	case a.newest.Fences(view.Generation): // its capture was ended, for another point or for the old side
		now.list = Unfinished{Op: opChangePoint, Next: a.newest, Done: map[string]bool{}}
	default: // nobody captures there yet: whoever failed it over came no further
		now.list = a.raising(now)
	}
	return now, nil
}

// raising is the list that boots the standby side, from where its point is served.
func (a *adopting) raising(now picture) Unfinished {
	if now.runs.name == a.was.Origin {
		return Unfinished{Op: opFailOver, Next: now.g, Done: map[string]bool{partStep: true}}
	}
	return Unfinished{Op: opFailBack, Next: now.g, Drained: now.view.Point.Position,
		Done: map[string]bool{shutDownStep: true, shipLastStep: true, handOverStep: true}}
}

// cancelled is a leg at x that y does not take yet.
func (a *adopting) cancelled(x, y party, g homeward.Generation) picture {
	return picture{state: Protected, runs: x, stands: y, g: g, evidence: &x, at: &x,
		list: Unfinished{Op: opCancel, Next: a.newest, Done: map[string]bool{}}}
}

// captured reads what no view tells: the newest leg is where the machine is.
func (a *adopting) captured() (picture, error) {
	x, live := a.sides[0], false
	for _, p := range a.sides {
		g, yes := p.leg()
		best, _ := x.leg()
		if yes && (!live || g.Number > best.Number) {
			x, live = p, true
		}
	}
	if !live {
		return a.enabling()
	}
	y := a.other(x)
	g, _ := x.leg()
	now := picture{runs: x, stands: y, g: g, evidence: &x, at: &x}
	view, promoted := x.serves(homeward.ReplicaPromoted)
	committed := promoted && view.Generation == g
	switch {
	case y.takes() && y.Target.V.Generation == g && strays(x, y):
		if !a.force {
			return now, a.refuse(homeward.Unavailable, "bring back the master target that it ships to; if that one is lost, adopt with force: then it replicates to that at "+y.name+", and all blocks are compared",
				"the agent at %s ships to another master target than that at %s, whose replica is older", x.name, y.name)
		}
		return a.cancelled(x, y, g), nil
	case y.takes() && y.Target.V.Generation == g:
		return a.replicates(now, committed, view), nil
	case y.takes() && y.Target.V.Generation.Fences(g):
		if a.newest.Number > y.Target.V.Generation.Number {
			return now, a.contradiction("%s takes generation %d, and a node knows of %d, which nobody acts for", y.name, y.Target.V.Generation.Number, a.newest.Number)
		}
		return a.cancelled(x, y, g), nil
	case committed:
		now.state, now.view = Committed, view
		if !y.Target.known() && x.Agent.V.Sink != "" { // force: it replicates, and nobody can say how far
			now.state, now.list = Synchronizing, reversing(g)
		}
		return now, nil
	case y.takes():
		return a.cancelled(x, y, g), nil
	case !y.Target.known(): // force: see trust
		now.state, now.paused = Protected, x.Agent.V.Sink == ""
		if x.Agent.V.AppliedAt.IsZero() {
			now.state, now.list = Synchronizing, a.firstHalf(x, y)
		}
		return now, nil
	}
	return now, a.refuse(homeward.Conflict, "disable the item, with force if a side is away, and enable the machine anew",
		"no master target has a replica of what runs at %s: the item was disabled, or its replica is lost", x.name)
}

// strays reports whether x's leg began with an empty replica that is not y's: y was only
// told of the generation, as a master target is that is being left.
func strays(x, y party) bool {
	g, _ := x.leg()
	began := x.Agent.V.Base
	return began == (homeward.Position{}).Base(g) && y.Target.V.Base != began && y.Target.V.Applied.Generation != g
}

// replicates reads a leg that is taken: how far it is, and what was cut short.
func (a *adopting) replicates(now picture, committed bool, view homeward.View) picture {
	x, y := now.runs, now.stands
	c, stands := x.Agent.V, y.Target.V.NewestPoint
	first := stands.Latest && stands.Position.Sequence > 0 && (stands.Position.Generation == now.g || y.Target.V.Base.Generation != now.g)
	now.paused = c.Sink == ""
	switch {
	case c.State == homeward.CaptureHandedOff && x.name != a.was.Origin:
		now.state, now.at, now.paused = Protected, nil, false
		now.list = Unfinished{Op: opFailBack, Next: c.Generation, Drained: y.Target.V.Applied,
			Done: map[string]bool{shutDownStep: true, shipLastStep: true, handOverStep: true}}
	case c.State == homeward.CaptureHandedOff:
		now = a.cancelled(x, y, now.g)
		now.at = nil
	case first:
		now.state = Protected
	case committed && c.Sink == "" && (!x.Process.is() || x.Process.V.Generation != now.g):
		now.state, now.view, now.paused = Committed, view, false
		now.list = reversing(now.g)
		now.list.Done[joinStep] = true // else its disks would not be the replica
	default:
		now.state, now.list = Synchronizing, a.firstHalf(x, y)
	}
	return now
}

func reversing(g homeward.Generation) Unfinished {
	return Unfinished{Op: opReprotect, Next: g, Done: map[string]bool{}}
}

// firstHalf is the list whose second half waits for the first point.
func (a *adopting) firstHalf(x, y party) Unfinished {
	g, _ := x.leg()
	if x.name == a.was.Origin && homeward.KindOf(x.Target.Err) == homeward.NotFound && x.Agent.V.Base == (homeward.Position{}).Base(g) {
		return Unfinished{Op: opProtect, Next: g, Done: map[string]bool{claimStep: true}}
	}
	return reversing(g)
}

// enabling reads what no agent has: a first leg whose replica is made, and no more.
func (a *adopting) enabling() (picture, error) {
	for _, y := range a.sides {
		x := a.other(y)
		g := y.Target.V.Base.Generation
		if y.takes() && x.Agent.known() && x.name == a.was.Origin && y.Target.V.Base == (homeward.Position{}).Base(g) {
			return picture{state: Unprotected, runs: x, stands: y, g: g, evidence: &x, at: &x,
				list: Unfinished{Op: opProtect, Next: g, Done: map[string]bool{claimStep: true}, WasOn: a.was.List.WasOn}}, nil
		}
	}
	for _, p := range a.sides {
		if !p.Agent.known() || !p.Target.known() {
			return picture{}, a.refuse(homeward.Unavailable, "bring them back, then adopt again", "who can be asked knows too little: %v %v",
				a.sides[0].unknown(), a.sides[1].unknown())
		}
	}
	return picture{}, a.refuse(homeward.Conflict, "disable the item, and enable the machine anew",
		"no agent captures the machine: the item was disabled, or its agents have lost it")
}
