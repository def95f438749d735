package readiness

import (
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Facts are everything the rules ask about one item at one instant. What the vault
// itself keeps (Item, names) is plain; everything that somebody else must say is a
// Value. The zero Facts knows nothing.
type Facts struct {
	Now     time.Time // by the vault's clock
	Version string    // of the vault
	Item    vault.Item

	Machine Value[homeward.Machine] // newest manifest; zero fields in it are not known
	Running MachineAt               // of From; while protected forward there is none yet
	Old     MachineAt               // of To: the side that is to become, or is, the copy

	From, To      Site // see EndsOf
	Agent         Node // of From
	ProcessServer Node // of From
	MasterTarget  Node // of To

	AgentToProcess Value[homeward.ProbeReport] // asked of the agent
	ProcessToMT    Value[homeward.ProbeReport] // asked of the process server

	Chosen   Chosen
	Policy   Value[vault.Policy] // the one associated with the way: of failback, or forward
	Group    Value[Group]        // absent: in no replication group
	Retained Value[bool]         // the machine kept its addresses when it failed over
	Need     Value[int64]        // bytes the retention volume will have to take; absent: no estimate was made
}

// MachineAt is what a site says of the item's machine there.
type MachineAt struct {
	Presence    Value[vault.Presence] // a site that cannot be asked makes it unknown; absent: the vault has no record of it
	Power       Value[homeward.PowerState]
	Guards      Value[[]homeward.Guard]
	Snapshots   Value[int]                   // absent: the site has no snapshots
	Attachments Value[[]homeward.Attachment] // its disks
}

// Site is one end's.
type Site struct {
	Name         string
	Connected    Value[bool]
	Capabilities Value[homeward.Capabilities]
}

// Node is an enrolled role that takes part. An empty name: none is assigned.
type Node struct {
	Name      string
	Site      string
	State     Value[vault.NodeState]
	Since     Value[time.Time] // since when it is registering: its enrolment, or the end of its last session
	Version   Value[string]
	Skew      Value[time.Duration]
	Addresses Value[[]vault.Address]
	Expires   Value[time.Time] // its certificate
	OSFamily  Value[string]
	OSVersion Value[string]
	Disks     Value[int] // replica disks it holds
	Volumes   Value[[]homeward.Volume]
	Snapshots Value[int] // of the machine it runs in; asked of master targets. Absent: its site has none, or none of its machines is it
}

// Chosen are the inputs of the reprotect that was asked for, or those that would
// be preselected. Absent: not given, and nothing is preselected.
type Chosen struct {
	Location  string // vault.OriginalLocation or vault.AlternateLocation; empty: original
	Datastore Value[string]
	Retention Value[string] // absent: the master target's default
	// Options are the fields of the placement at To, for judging Datastore.
	Options Value[[]homeward.Field]
}

// Group is a replication group.
type Group struct {
	Name    string
	Members []Member
}

// Member of a group.
type Member struct {
	Item         homeward.ItemID
	OSFamily     string // empty: not known
	MasterTarget string
}

// Stage is where an item stands on its round trip.
type Stage string

// The stages.
const (
	Forward   Stage = "forward"   // runs at home, protected: would it come home after a failover?
	Away      Stage = "away"      // failed over: reprotect is next
	Returning Stage = "returning" // replicates back: failback is next
	Home      Stage = "home"      // failed back: reprotect forward is next
	Over      Stage = "over"      // is being disabled, or was migrated
)

// StageOf is the stage of an item.
func StageOf(it vault.Item) Stage {
	atHome := it.ActiveSite == it.Original.Site
	switch it.State {
	case vault.Enabling, vault.Synchronizing, vault.Protected:
		if atHome {
			return Forward
		}
		return Returning
	case vault.FailedOver, vault.Committed:
		if atHome {
			return Home
		}
		return Away
	}
	return Over
}

// EndsOf are the sides that the facts speak of: home is To, but for an item that
// came home and is to be protected forward again.
func EndsOf(it vault.Item) (from, to vault.End) {
	if StageOf(it) == Home {
		return it.Original, it.Recovery
	}
	return it.Recovery, it.Original
}

// BackPolicy is the name of the policy that the way takes (R42).
func BackPolicy(it vault.Item) string {
	if StageOf(it) == Home {
		return it.Policy
	}
	return vault.FailbackName(it.Policy)
}

// original reports whether the machine is to come back onto its own disks.
func (f Facts) original() bool { return f.Chosen.Location != vault.AlternateLocation }
