package recovery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
)

// adoptOp is what the errors of Adopt are about. It is no list: none is unfinished by it.
const adoptOp = "adopt"

// Adoption is what Adopt makes of what was found.
type Adoption struct {
	Record   Record   `json:"-"`
	Recorded string   `json:"recorded"`          // the state of the record, in words
	Found    string   `json:"found"`             // the state found
	Evidence []string `json:"evidence"`          // what says so, one sentence each
	Changes  []string `json:"changes"`           // what will be another in the record
	Again    string   `json:"again,omitempty"`   // the list that has to be called again: it was cut short
	Unknown  []string `json:"unknown,omitempty"` // what nobody could be asked, passed over by force
	Lost     []string `json:"lost,omitempty"`    // what only the newer record knew, and what comes of that
}

// Adopt finds the true record of an item that was moved without this one: by another
// vault, after the backup that this one was restored from, or by a recovery with nothing
// else alive. Sights are what both sides say now, by name; newest is the newest
// generation that any node has told of (zero: not known). It asks nobody and changes
// nothing.
//
// It never guesses. Errors: Conflict, what contradicts itself, such as a machine that
// is on at both sides, or that there is nothing to adopt; Unavailable, what is unknown.
// With force the side where the machine does not run may be unknown: of the other one
// everything must be known all the same.
func Adopt(r Record, sights map[string]Sight, newest homeward.Generation, force bool) (Adoption, error) {
	a := &adopting{was: r, newest: newest, force: force}
	for i, name := range []string{r.RunsAt, r.StandsAt} {
		s, asked := sights[name]
		if !asked {
			return Adoption{}, a.refuse(homeward.Invalid, "tell what both sides say", "nothing is told of side %q", name)
		}
		a.sides[i] = party{name, s}
		if err := a.sides[i].sameDisks(r.Machine); err != nil {
			return Adoption{}, err
		}
	}
	if err := a.rank(); err != nil {
		return Adoption{}, err
	}
	now, err := a.read()
	if err == nil {
		err = a.trust(now)
	}
	if err == nil {
		err = a.agree(now)
	}
	if err != nil {
		return Adoption{}, err
	}
	return a.write(now), nil
}

// adopting is one call of Adopt.
type adopting struct {
	was     Record
	sides   [2]party
	newest  homeward.Generation // of all that are known of
	force   bool
	unknown []string
}

// picture is what was found, and what it means.
type picture struct {
	state    State
	runs     party // Record.RunsAt
	stands   party
	g        homeward.Generation // in force
	view     homeward.View       // while FailedOver or Committed
	paused   bool
	list     Unfinished
	at       *party // where the machine is, or is to be; nil: nowhere until the list is called again
	evidence *party // of whom everything must be known
}

func (a *adopting) refuse(kind homeward.Kind, remedy, format string, args ...any) error {
	return homeward.Errorf(adoptOp, kind, "item "+string(a.was.Machine.Item), remedy, format, args...)
}

func (a *adopting) contradiction(format string, args ...any) error {
	return a.refuse(homeward.Conflict, "see at both sites where the machine runs and with which disks; if it cannot be mended, disable the item with force and enable the machine anew", format, args...)
}

func (a *adopting) other(p party) party {
	if a.sides[0].name == p.name {
		return a.sides[1]
	}
	return a.sides[0]
}

// rank finds the newest generation. Two of one number are two controllers that knew
// nothing of each other: neither is the true one.
func (a *adopting) rank() error {
	for _, p := range a.sides {
		for _, g := range p.generations() {
			if g.Number == a.newest.Number && g.ID != a.newest.ID && g.Number > a.was.Generation.Number {
				return a.contradiction("two generations of number %d are known to its nodes: it was moved twice, by who knew nothing of each other", g.Number)
			}
			if g.Number > a.newest.Number {
				a.newest = g
			}
		}
	}
	return nil
}

// trust demands that what decides is known.
func (a *adopting) trust(now picture) error {
	mine := now.evidence.unknown()
	if len(mine) > 0 {
		return a.refuse(homeward.Unavailable, "bring it back, then adopt again: force does not help here", "what decides is not known: %s", strings.Join(mine, "; "))
	}
	others := a.other(*now.evidence)
	a.unknown = others.unknown()
	if len(a.unknown) > 0 && !a.force {
		return a.refuse(homeward.Unavailable, "bring it back; or see there that the machine does not run, and adopt with force",
			"it looks %s; but %s", now.words(), strings.Join(a.unknown, "; "))
	}
	return nil
}

// agree demands that the machine is on nowhere but where the roles have it.
func (a *adopting) agree(now picture) error {
	if a.sides[0].on() && a.sides[1].on() {
		return a.refuse(homeward.Conflict, "see which of them is wanted, power the other one off at its site, then adopt again",
			"the machine is on at both %s and %s", a.sides[0].name, a.sides[1].name)
	}
	for _, p := range a.sides {
		if p.on() && (now.at == nil || now.at.name != p.name) {
			return a.contradiction("by its nodes it is %s; but its machine is on at %s", now.words(), p.name)
		}
	}
	return nil
}

// words are where an item stands, for people.
func (now picture) words() string {
	r := Record{State: now.state, RunsAt: now.runs.name, StandsAt: now.stands.name, Generation: now.g, Paused: now.paused, List: now.list}
	return r.Words()
}

// Words tell where an item stands, in one sentence.
func (r *Record) Words() string {
	var s string
	switch r.State {
	case Synchronizing:
		s = fmt.Sprintf("synchronizing: runs at %s, replicates to %s", r.RunsAt, r.StandsAt)
	case Protected:
		s = fmt.Sprintf("protected: runs at %s, replicates to %s", r.RunsAt, r.StandsAt)
	case FailedOver:
		s = fmt.Sprintf("failed over from %s to %s, not committed", r.RunsAt, r.StandsAt)
	case Committed:
		s = fmt.Sprintf("committed: runs at %s, not protected", r.RunsAt)
	default:
		s = fmt.Sprintf("%s: runs at %s", r.State, r.RunsAt)
	}
	s += fmt.Sprintf(", generation %d", r.Generation.Number)
	if r.Paused {
		s += ", paused"
	}
	if r.List.Op != "" && r.State != Synchronizing {
		s += fmt.Sprintf(", %q cut short", r.List.Op)
	}
	return s
}

// write makes the record of a picture.
func (a *adopting) write(now picture) Adoption {
	r := a.was
	r.RunsAt, r.StandsAt, r.State, r.Generation, r.Paused, r.List = now.runs.name, now.stands.name, now.state, now.g, now.paused, now.list
	r.Took, r.Parting, r.Attached, r.Leaving = nil, Parting{}, false, nil
	lost := a.legs(&r, now)
	r.Next = a.next(r)
	lost = append(lost, interrupted(&r, now)...)
	lost = append(lost, strayed(&r, now)...)
	r.Planned = r.State == FailedOver && now.runs.Agent.is() && now.runs.Agent.V.State == homeward.CaptureHandedOff
	r.Refs, r.Moved = maps.Clone(r.Refs), maps.Clone(r.Moved)
	for _, p := range a.sides {
		lost = append(lost, place(&r, p)...)
	}
	if l := a.was.Leaving; l != nil && len(l.Disks) > 0 && !slices.Equal(r.Moved[a.was.StandsAt], l.Disks) {
		lost = append(lost, fmt.Sprintf("disks %s, made for master target %s at %s, have no part in it: what is left of them is for you to remove", strings.Join(l.Disks, ", "), l.To, a.was.StandsAt))
	}
	lost = append(lost, test(&r, now.stands)...)
	out := Adoption{Record: r, Recorded: a.was.Words(), Found: r.Words(), Unknown: a.unknown, Lost: lost, Again: r.List.Op}
	for _, p := range a.sides {
		out.Evidence = append(out.Evidence, p.found()...)
	}
	out.Changes = a.was.changes(r)
	return out
}

// legs fills in where the leg began, what was failed over to, and the disks.
func (a *adopting) legs(r *Record, now picture) (lost []string) {
	runner := now.runs
	if r.State == FailedOver {
		r.View, r.Point, r.Base = now.view, now.view.Point, now.view.Point.Position.Base(now.g)
		switch {
		case runner.Agent.is():
			r.RunsOn = refsOf(runner.Agent.V)
		case a.was.RunsAt == runner.name: // as it was recorded
		default:
			r.RunsOn = runner.Disks
			if v, yes := runner.serves(homeward.ReplicaPromoted); yes {
				r.RunsOn = viewRefs(v)
			}
		}
		return lost
	}
	if runner.Agent.is() {
		r.RunsOn, r.Base = refsOf(runner.Agent.V), runner.Agent.V.Base
	}
	if r.State == Committed {
		r.View, r.Point = now.view, now.view.Point
		if now.view.ByHand && !r.Unseen {
			r.Unseen = true
			lost = append(lost, "what was written while it ran by hand, without an agent, may be in no map: the next reprotect compares all blocks of both sides, by digest")
		}
	}
	if r.State == Synchronizing {
		return a.synchronizes(r, runner)
	}
	return lost
}

// synchronizes lets the second half of a reversal go on. What it was to compare went
// with the record that knew it: unless that is done, everything is compared.
func (a *adopting) synchronizes(r *Record, runner party) (lost []string) {
	r.List.Began = time.Now().UTC()
	if r.List.Op != opReprotect {
		return nil
	}
	set := (&Item{Record: *r}).noDifferences()
	if runner.Agent.V.Complete {
		r.List.Done[compareStep] = true
	} else {
		set.suspectAll(forgotten)
		lost = append(lost, forgotten+": the synchronization compares all blocks of both sides, by digest")
	}
	r.List.Differ, r.List.Before = set, runner.Agent.V
	return lost
}

const forgotten = "which blocks were to be compared is not known any more"

// interrupted is what a synchronization had still to do when its running side was given
// up. Marks of a leg are bootable once all is compared: without one, it is not known.
func interrupted(r *Record, now picture) (lost []string) {
	r.Interrupted = nil
	from, to := now.runs, now.stands
	switch {
	case r.State == Committed:
		from, to = to, from
	case r.State != FailedOver && r.List.Op != opCancel:
		return nil
	}
	newest := to.Target.V.NewestPoint.Position
	compared := newest.Sequence > 0 && newest.Generation.Number >= to.Target.V.Base.Generation.Number
	if compared || from.Agent.is() && from.Agent.V.Complete {
		return nil
	}
	list := reversing(r.Generation)
	list.Differ = (&Item{Record: *r}).noDifferences()
	list.Differ.suspectAll(forgotten)
	r.Interrupted = &list
	return []string{forgotten + ": the next reprotect, or the cancel, compares all blocks of both sides, by digest"}
}

// strayed tells of a failover to a replica that the leg of the side that was left did
// not go to any more: that side's map is of another one.
func strayed(r *Record, now picture) (lost []string) {
	r.Strayed = false
	from, to := now.runs, now.stands
	switch r.State {
	case Committed:
		from, to = to, from
	case FailedOver:
	default:
		return nil
	}
	got := to.Target.V.Applied
	switch leg, live := from.leg(); {
	case live: // one that began at what the replica has, as a cancel's, need not have shipped
		r.Strayed = leg.Number > got.Generation.Number && from.Agent.V.Base != got.Base(leg)
	case !from.Agent.known(): // what came between, if anything did, is not known
		r.Strayed = now.view.Generation.Number > got.Generation.Number+1
	}
	if !r.Strayed {
		return nil
	}
	return []string{"which state of the replica the map at " + from.name + " is of is not known any more: the next reprotect compares all blocks of both sides, by digest"}
}

func refsOf(c homeward.CaptureReport) (refs []string) {
	for _, d := range c.Disks {
		refs = append(refs, d.Ref)
	}
	return refs
}

// next is what the record's next move is given: nodes that have heard of a newer
// generation than that in force obey who acts for it.
func (a *adopting) next(r Record) homeward.Generation {
	switch {
	case r.List.Op != "" && r.List.Next.Fences(r.Generation):
		return r.List.Next
	case a.newest.Fences(r.Generation):
		return a.newest
	case r.Next.Number > r.Generation.Number:
		return r.Next
	}
	return homeward.Generation{}
}

// place notes the machine of a side, and where its copies are.
func place(r *Record, p party) (lost []string) {
	if r.Refs == nil {
		r.Refs = map[string]homeward.Ref{}
	}
	switch {
	case p.Machine.is():
		r.Refs[p.name] = p.Machine.V.Ref
	case p.Machine.known():
		delete(r.Refs, p.name)
	}
	if on := p.Target.V.Disks; p.takes() && len(on) > 0 && !slices.Equal(on, p.Disks) {
		if r.Moved == nil {
			r.Moved = map[string][]string{}
		}
		r.Moved[p.name] = slices.Clone(on)
		if len(p.Disks) > 0 {
			lost = append(lost, fmt.Sprintf("its copy at %s is on other disks than before (%s): what is left of those (%s), and of a machine on them, is for you to remove",
				p.name, strings.Join(on, ", "), strings.Join(p.Disks, ", ")))
		}
	}
	return lost
}

// test keeps the open test failover, or finds one by the view that it runs on.
func test(r *Record, stands party) (lost []string) {
	if !stands.Target.is() {
		return nil
	}
	i := slices.IndexFunc(stands.Target.V.Views, func(v homeward.View) bool { return v.Name == testView && v.Kind == homeward.ViewScratch })
	switch {
	case i < 0:
		r.Test = nil
	case r.Test == nil || r.Test.Side != stands.name:
		r.Test = &Test{ID: homeward.NewID(), Side: stands.name, View: stands.Target.V.Views[i], Opened: time.Now().UTC()}
		lost = append(lost, "a test failover is open at "+stands.name+": remove its machine there by hand, then clean it up here")
	}
	return lost
}

// changes tell how another record differs in what matters.
func (r *Record) changes(now Record) (all []string) {
	note := func(what string, was, is any) {
		if was, is := fmt.Sprint(was), fmt.Sprint(is); was != is {
			all = append(all, fmt.Sprintf("%s: %s, was %s", what, is, was))
		}
	}
	note("state", r.State, now.State)
	note("running side", r.RunsAt, now.RunsAt)
	note("standby side", r.StandsAt, now.StandsAt)
	note("generation", fmt.Sprintf("%d (%.8s)", r.Generation.Number, r.Generation.ID), fmt.Sprintf("%d (%.8s)", now.Generation.Number, now.Generation.ID))
	note("paused", r.Paused, now.Paused)
	note("unfinished", words(r.List.Op), words(now.List.Op))
	note("runs on", r.RunsOn, now.RunsOn)
	if now.State == FailedOver {
		note("point", r.Point.At.UTC().Format(time.RFC3339), now.Point.At.UTC().Format(time.RFC3339))
	}
	for _, side := range []string{r.RunsAt, r.StandsAt} {
		note("machine at "+side, words(r.Refs[side].Native), words(now.Refs[side].Native))
		note("copies at "+side, r.Moved[side], now.Moved[side])
	}
	note("test failover open", r.Test != nil, now.Test != nil)
	return all
}

// words is a text, or none.
func words(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
