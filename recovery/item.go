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
	SinkURL   string   // of Process, as this side's agent reaches it
	TargetURL string   // of Target, as the other side's process server reaches it
	Disks     []string // references of this side's copies, in the machine's order
	// AgentName and ProcessName are the names in the certificates of Agent and
	// Process: deltas are taken from nobody else then. Empty: from any peer of the role.
	AgentName, ProcessName string
}

// State is where an item stands.
type State string

// The states, in the order of the round trip.
const (
	Unprotected State = "unprotected"
	Protected   State = "protected"
	FailedOver  State = "failed-over" // the standby side runs; not committed
	Committed   State = "committed"   // sides swapped; not protected
)

// Item is a machine and its two sides. It is owned by one caller at a time.
type Item struct {
	Record
	Running *Side // where the machine ran when the item was last protected or committed
	Standby *Side

	// Save writes Snapshot down durably. It is called before the first effect of every
	// list and after every change, and an error stops the list there; nil: the item
	// does not outlive its process.
	Save  func(*Item) error
	Watch func(Step) // told of every step's begin and end; may be nil
	Log   *slog.Logger
}

// New begins an item that is not yet protected.
func New(m homeward.Machine, p homeward.Policy, running, standby *Side, log *slog.Logger) *Item {
	return &Item{Record: Record{Machine: m, Policy: p.WithDefaults(), State: Unprotected, RunsOn: running.Disks, Refs: map[string]homeward.Ref{}},
		Running: running, Standby: standby, Log: log}
}

// ID names the item.
func (it *Item) ID() homeward.ItemID { return it.Machine.Item }

func (it *Item) require(op string, states ...State) error {
	for _, s := range states {
		if it.State == s {
			return nil
		}
	}
	return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()),
		"see the lifecycle in ARCHITECTURE.md for what is possible now", "the item is %s", it.State)
}
