package recovery

import (
	"fmt"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
)

// Told is what somebody answered about an item. Without an error it is so; NotFound is
// an answer, too: there is none. Any other error leaves it unknown.
type Told[T any] struct {
	V   T
	Err error
}

func (t Told[T]) is() bool { return t.Err == nil }

// known reports whether anything was answered.
func (t Told[T]) known() bool {
	return t.Err == nil || homeward.KindOf(t.Err) == homeward.NotFound
}

// Sight is what the roles and the site of one side say of an item now.
type Sight struct {
	Agent   Told[homeward.CaptureReport]
	Process Told[homeward.RouteReport]
	Target  Told[homeward.ReplicaReport]
	Machine Told[homeward.SiteMachine] // NotFound: the site has none of the item's
	Disks   []string                   // references of the side's copies, as the record has them
}

// party is a side as it is seen.
type party struct {
	name string
	Sight
}

// leg is the generation that the side's agent captures under; false: it captures nothing.
func (p party) leg() (homeward.Generation, bool) {
	return p.Agent.V.Base.Generation, p.Agent.is()
}

// captures reports whether the side's agent captures under a generation, not handed over.
func (p party) captures(g homeward.Generation) bool {
	leg, live := p.leg()
	return live && leg == g && p.Agent.V.State != homeward.CaptureHandedOff
}

// serves is the view that a machine runs on at the side, or is to run on.
func (p party) serves(states ...homeward.ReplicaState) (v homeward.View, yes bool) {
	if !p.Target.is() || !slices.Contains(states, p.Target.V.State) {
		return v, false
	}
	for _, v := range p.Target.V.Views {
		if v.Kind == homeward.ViewDurable {
			return v, true
		}
	}
	return homeward.View{Generation: p.Target.V.Generation}, true // it cannot be served now
}

// takes reports whether the side's master target takes deltas.
func (p party) takes() bool {
	return p.Target.is() && p.Target.V.State == homeward.ReplicaReplicating
}

func (p party) on() bool { return p.Machine.is() && p.Machine.V.Power == homeward.PowerOn }

// unknown is what nobody could be asked at the side, one sentence each.
func (p party) unknown() (all []string) {
	for _, one := range []struct {
		what  string
		known bool
		err   error
	}{
		{"the agent", p.Agent.known(), p.Agent.Err},
		{"the master target", p.Target.known(), p.Target.Err},
		{"the site, for its machine,", p.Machine.known(), p.Machine.Err},
	} {
		if !one.known {
			all = append(all, fmt.Sprintf("%s at %s cannot be asked: %v", one.what, p.name, one.err))
		}
	}
	if p.Machine.is() && p.Machine.V.Power != homeward.PowerOn && p.Machine.V.Power != homeward.PowerOff {
		all = append(all, "it is not known whether machine "+p.Machine.V.Ref.Native+" at "+p.name+" is on")
	}
	if p.Agent.is() && p.Agent.V.Base.IsZero() {
		all = append(all, "the agent at "+p.name+" does not tell where its leg began: update it")
	}
	if p.Target.is() && p.Target.V.Base.IsZero() {
		all = append(all, "the master target at "+p.name+" does not tell where its leg began: update it")
	}
	return all
}

// generations are all that the side's roles know of.
func (p party) generations() (all []homeward.Generation) {
	if p.Agent.is() {
		all = append(all, p.Agent.V.Generation, p.Agent.V.Base.Generation)
	}
	if p.Target.is() {
		all = append(all, p.Target.V.Generation, p.Target.V.Base.Generation)
	}
	if p.Process.is() {
		all = append(all, p.Process.V.Generation)
	}
	return all
}

// found tells what the side's roles and site say, one sentence each.
func (p party) found() (all []string) {
	switch c := p.Agent.V; {
	case p.Agent.is():
		ships := "ships nothing"
		if c.Sink != "" {
			ships = "ships to " + c.Sink
		}
		all = append(all, fmt.Sprintf("the agent at %s captures under generation %d (%s) and %s; it knows of generation %d",
			p.name, c.Base.Generation.Number, c.State, ships, c.Generation.Number))
	case p.Agent.known():
		all = append(all, "the agent at "+p.name+" has no such item")
	}
	switch r := p.Target.V; {
	case p.Target.is():
		text := fmt.Sprintf("the master target at %s is %s under generation %d, with %d points", p.name, r.State, r.Generation.Number, r.Points)
		if v, yes := p.serves(homeward.ReplicaFailedOver, homeward.ReplicaPromoting, homeward.ReplicaPromoted); yes {
			text += fmt.Sprintf("; what it serves is of generation %d", v.Generation.Number)
		}
		all = append(all, text)
	case p.Target.known():
		all = append(all, "the master target at "+p.name+" has no such item")
	}
	switch m := p.Machine.V; {
	case p.Machine.is():
		all = append(all, fmt.Sprintf("site %s has machine %s, which is %s", p.name, m.Ref.Native, m.Power))
	case p.Machine.known():
		all = append(all, "site "+p.name+" has no machine of the item")
	}
	return all
}

// sameDisks refuses a side whose agent captures other disks than the record's.
func (p party) sameDisks(m homeward.Machine) error {
	if !p.Agent.is() {
		return nil
	}
	var has, want []string
	for _, d := range p.Agent.V.Disks {
		has = append(has, string(d.Disk))
	}
	for _, d := range m.Disks {
		want = append(want, string(d.ID))
	}
	if slices.Equal(has, want) {
		return nil
	}
	return homeward.Errorf(adoptOp, homeward.Conflict, "item "+string(m.Item), "disable the item with force, and enable the machine anew",
		"the agent at %s captures disks %s, the record is of %s", p.name, strings.Join(has, ", "), strings.Join(want, ", "))
}
