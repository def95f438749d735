package lifecycle

import "github.com/homeward-dr/homeward/vault"

// None is the state of a machine that is not protected: there is no item, or the
// item is gone.
const None vault.State = ""

// Truth of a fact that may be unknown. The zero value is Unknown, and Unknown
// never passes a check.
type Truth uint8

// The truths.
const (
	Unknown Truth = iota
	No
	Yes
)

// TruthOf is a fact that is known.
func TruthOf(b bool) Truth {
	if b {
		return Yes
	}
	return No
}

// Count is a number that may be unknown; the zero value is unknown.
type Count struct {
	N     int
	Known bool
}

// End is one of the two sites of an item.
type End string

// The ends.
const (
	AtOriginal End = "original" // where the machine was first protected
	AtRecovery End = "recovery"
)

// Leg is a direction of replication.
type Leg string

// The legs.
const (
	Forward Leg = "forward" // original to recovery
	Reverse Leg = "reverse" // recovery to original
)

// From is the end that a leg leaves.
func (l Leg) From() End {
	if l == Reverse {
		return AtRecovery
	}
	return AtOriginal
}

// To is the end that a leg goes to.
func (l Leg) To() End { return l.other().From() }

func (l Leg) other() Leg {
	if l == Reverse {
		return Forward
	}
	return Reverse
}

// Facts are all that a decision depends on.
type Facts struct {
	State vault.State // None, or that of the item
	At    End         // where the machine runs
	Leg   Leg         // in force, or the last one that was
	Test  vault.TestState

	Job         string // that runs on the item now, or waits for a person; empty: none
	JobScenario string // of Job
	Unfinished  string // recovery.Unfinished.Op: a list that was cut short; empty: none

	Points     Count // recovery points at the side that stands by (or serves, after a failover)
	FirstPoint Truth // a point of the leg in force stands
	Other      Truth // the site where the machine does not run is connected
	Committing Truth // the failed-over copy already is being made the replica
	Machine    Truth // the original machine is still in its site's inventory
	Foreign    Truth // the nodes report another state of the item than its record
	Paused     bool  // replication
	// Interrupted says that the failover gave a synchronization up, which its cancel goes
	// on with.
	Interrupted bool
	Doomed      bool // a copy waits to be removed once the leg is in sync (R169)

	Group string // of machines that recover together; empty: none
	Plan  bool   // asked for by a recovery plan, for the whole group

	// What was asked for, where it matters here.
	Location string // of Reprotect: vault.OriginalLocation, vault.AlternateLocation; empty: not chosen yet
	Force    bool   // of Disable: give up what is unfinished; of Failback: go on without the source
	Older    bool   // of Failover, Failback: a certain point, not the newest
	Discard  bool   // of Disable: what the side that stands by held before goes, too
}

// After are the facts once a transition has succeeded. What can only be seen, as
// points, is as unknown as it then is.
func (f Facts) After(t Transition) Facts {
	f.State, f.Test = t.Next, t.Test.Next
	f.Job, f.JobScenario, f.Unfinished = "", "", ""
	f.Interrupted = t.Next == vault.FailedOver && (f.Interrupted || t.Begun == vault.Synchronizing)
	if t.Moves {
		f.At = other(f.At)
	}
	if t.Turns {
		f.Leg = f.Leg.other()
	}
	if t.Moves || t.Turns {
		f.Points, f.FirstPoint, f.Other, f.Committing = Count{}, Unknown, Unknown, Unknown
	}
	if t.Adopts {
		f.Foreign, f.Points, f.FirstPoint, f.Other, f.Committing = No, Count{}, Unknown, Unknown, Unknown
	}
	if f.State == None {
		f = Facts{}
	}
	return f
}

func other(e End) End {
	if e == AtRecovery {
		return AtOriginal
	}
	return AtRecovery
}

// standing tells what is wrong with the row that the facts name; empty: nothing.
func (f Facts) standing() string {
	if f.State == None {
		return ""
	}
	if f.At != AtOriginal && f.At != AtRecovery {
		return "it is not known where the machine runs"
	}
	if f.Leg != Forward && f.Leg != Reverse {
		return "it is not known in which direction it was replicated last"
	}
	var expected End
	switch f.State {
	case vault.Enabling:
		if f.Leg == Reverse {
			return "it is being enabled, and yet it is the way back"
		}
		expected = AtOriginal
	case vault.Synchronizing, vault.Protected:
		expected = f.Leg.From()
	case vault.FailedOver, vault.Committed, vault.Migrated:
		expected = f.Leg.To()
	case vault.Disabling:
		return ""
	default:
		return "its state " + string(f.State) + " is not one this version knows"
	}
	if f.At != expected {
		return "it is " + string(f.State) + " with a " + string(f.Leg) + " leg, and yet runs at its " + string(f.At) + " site"
	}
	return ""
}
