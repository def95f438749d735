package homeward

import "time"

// MarkKind says what a guest finds when it boots from the state a mark closes.
type MarkKind string

// The kinds, from weakest to strongest.
const (
	// MarkNone: a part of a larger set (initial sync, pre-copy round, demoted cut).
	// The replica is not bootable at it, and it is no recovery point.
	MarkNone MarkKind = "none"
	// MarkCrash: as after a power failure at the instant of the cut.
	MarkCrash MarkKind = "crash-consistent"
	// MarkApp: the guest was frozen through the cut and still frozen after it.
	MarkApp MarkKind = "app-consistent"
	// MarkGroup: crash-consistent, and at the same instant as the other members of a
	// replication group (Mark.Group names the instant).
	MarkGroup MarkKind = "group-consistent"
)

// Bootable reports whether the kind closes a recovery point.
func (k MarkKind) Bootable() bool { return k == MarkCrash || k == MarkApp || k == MarkGroup }

// Mark closes a delta.
type Mark struct {
	Kind  MarkKind  `json:"kind"`
	At    time.Time `json:"at"`              // the instant of the cut by the agent's clock, UTC
	Group ID        `json:"group,omitzero"`  // the hold token that cut all members, for MarkGroup
	Label string    `json:"label,omitempty"` // free text for people, at most 200 bytes
}

// Point is a recovery point: a mark that a master target can serve.
type Point struct {
	Position Position `json:"position"`
	Mark     Mark     `json:"mark"`
	// At is Mark.At clamped so that points of an item never go back in time.
	At        time.Time `json:"at"`
	Pins      []string  `json:"pins,omitempty"` // who holds it against thinning: "view:…", "hold:…", "branch:lost-writes"
	UndoBytes int64     `json:"undo_bytes"`     // bytes on the retention volume between this point and the next newer one
	Latest    bool      `json:"latest"`
}
