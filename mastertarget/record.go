package mastertarget

import (
	"github.com/homeward-dr/homeward"
)

// record is what the item file says. It is written before the effect it
// announces, so that opening can finish what a crash cut off:
//
//	Leg.Boundary beyond the tip    a Prepare is under way: seal, then store the tip
//	RollBack set                   a roll-back is under way
//	State promoting                a promotion is under way
type record struct {
	State ReplicaState `json:"state"`
	Leg   leg          `json:"leg"`
	// FailOver is the view that runs, while State says failed over, promoting or promoted.
	FailOver *failOver `json:"fail_over,omitempty"`
	RollBack *rollBack `json:"roll_back,omitempty"`
	// Diverged is what the last FailOver or RollBack gave up; until the next Prepare.
	Diverged *divergence `json:"diverged,omitempty"`
	// RolledBack is the part of Diverged that a RollBack gave up: a FailOver that is
	// cancelled leaves it.
	RolledBack *divergence `json:"rolled_back,omitempty"`
	// PastLost: older points went, because what a promoted machine overwrote could
	// not be kept.
	PastLost string `json:"past_lost,omitempty"`
}

// ReplicaState is homeward.ReplicaState; zero before the first Prepare.
type ReplicaState = homeward.ReplicaState

// leg is one direction of the item, as Prepare began it.
type leg struct {
	Generation homeward.Generation `json:"generation"`
	Base       homeward.Position   `json:"base"`
	Boundary   uint64              `json:"boundary"` // beyond the tip as long as the base is no boundary of the chain
	Mark       homeward.Mark       `json:"mark"`     // of the base
	Machine    homeward.Machine    `json:"machine"`
	Disks      []string            `json:"disks"`
	Branch     string              `json:"branch,omitempty"`
	From       string              `json:"from,omitempty"` // the only sender of deltas; empty: any
	Policy     homeward.Policy     `json:"policy"`
	Reserve    int64               `json:"reserve"`
	// Seal: what a promoted machine overwrote becomes a segment of the chain, so that
	// older points go on to be served. Fresh: they cannot be (other disks, or the past
	// was lost), and the chain goes.
	Seal  bool `json:"seal,omitempty"`
	Fresh bool `json:"fresh,omitempty"`
}

// endLegAt notes that the replica goes back to a boundary that may be older than
// the leg: a leg beyond the tip would look like a Prepare that is under way.
func (r *record) endLegAt(boundary uint64) { r.Leg.Boundary = min(r.Leg.Boundary, boundary) }

// failOver is the point that runs.
type failOver struct {
	Generation homeward.Generation `json:"generation"`
	Tip        tip                 `json:"tip"` // the point; what the tip becomes when the view is promoted
	// ByHand: Recover gave the view out. Recorded before it is served, and never taken back.
	ByHand bool `json:"by_hand,omitempty"`
}

// rollBack is a roll-back that has begun.
type rollBack struct {
	Generation homeward.Generation `json:"generation"`
	Tip        tip                 `json:"tip"` // where it leads
}

// divergence is a set of maps, one per disk, in a directory of the item.
type divergence struct {
	Dir    string            `json:"dir"`
	Since  homeward.Position `json:"since"`  // the point
	Newest homeward.Position `json:"newest"` // the newest state given up
}
