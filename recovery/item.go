package recovery

import (
	"log/slog"

	"github.com/homeward-dr/homeward"
)

// Side is what one site offers to an item.
type Side struct {
	Name      string
	Site      homeward.Site
	Agent     homeward.Agent
	Process   homeward.ProcessServer // spools what leaves this side
	Target    homeward.MasterTarget
	SinkURL   string // of Process, as this side's agent reaches it
	TargetURL string // of Target, as the other side's process server reaches it
	// Disks are references of this side's copies, in the machine's order, as they were
	// when the item was made; Item.Copies tells those of now.
	Disks []string
	// Retention is the volume of Target that the item's points are kept on; empty: where
	// they are, or its default one.
	Retention string
	// AgentName and ProcessName are the names in the certificates of Agent and
	// Process: deltas are taken from nobody else then. Empty: from any peer of the role.
	AgentName, ProcessName string
	TargetName             string // of Target: what Reassociate tells master targets of a side by
}

// State is where an item stands.
type State string

// The states, in the order of the round trip.
const (
	Unprotected   State = "unprotected"
	Synchronizing State = "synchronizing" // replication is enabled; its first point does not stand yet
	Protected     State = "protected"
	FailedOver    State = "failed-over" // the standby side runs; not committed
	Committed     State = "committed"   // sides swapped; not protected
)

// Item is a machine and its two sides. It is owned by one caller at a time.
type Item struct {
	Record
	Running *Side // where the machine ran when the item was last protected or committed
	Standby *Side
	// To is the standby side with the master target that the replica is on its way to,
	// while Leaving says that it is.
	To *Side

	// Save writes Snapshot down durably. It is called before the first effect of every
	// list and after every change, and an error stops the list there; nil: the item
	// does not outlive its process.
	Save  func(*Item) error
	Watch func(Step) // told of every step's begin and end; may be nil
	Log   *slog.Logger
	// Weight is the item's part of bandwidth, homeward.RouteRequest.Weight; the process
	// server hears it when it is next told where deltas go.
	Weight int
}

// New begins an item that is not yet protected.
func New(m homeward.Machine, p homeward.Policy, running, standby *Side, log *slog.Logger) *Item {
	return &Item{Record: Record{Machine: m, Policy: p.WithDefaults(), State: Unprotected,
		Origin: running.Name, RunsOn: running.Disks, Refs: map[string]homeward.Ref{}, Moved: map[string][]string{}},
		Running: running, Standby: standby, Log: log}
}

// ID names the item.
func (it *Item) ID() homeward.ItemID { return it.Machine.Item }

// Copies are references of a side's disks, in the machine's order: those it had
// from the beginning, or those that Relocate made there since.
func (it *Item) Copies(side *Side) []string {
	if moved, ok := it.Moved[side.Name]; ok {
		return moved
	}
	return side.Disks
}

// side is the one of a name.
func (it *Item) side(name string) *Side {
	if it.Running.Name == name {
		return it.Running
	}
	return it.Standby
}

// Bound reports whether the master target of the standby side takes what is written at
// the running one, or may do so by a list that is not ended: then it cannot be another.
func (r *Record) Bound() bool {
	switch r.State {
	case Synchronizing, Protected:
		return true
	}
	switch r.List.Op {
	case opProtect:
		return r.List.Done[claimStep]
	case opReprotect:
		return r.List.Done[joinStep]
	case opRelocate:
		return r.List.Done[moveStep]
	}
	return false
}

func (it *Item) require(op string, states ...State) error {
	for _, s := range states {
		if it.State == s {
			return nil
		}
	}
	remedy := "see 'homeward item show " + string(it.ID()) + "' for what is possible now"
	if it.State == Synchronizing {
		remedy = "wait until the first recovery point of this direction stands (R3)"
	}
	return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), remedy, "the item is %s", it.State)
}
