package homeward

import (
	"context"
	"io"
	"time"
)

// MaxDelta is the most bytes (stored form) a delta may have on its way between
// roles. A larger set travels as several deltas, all but the last closed by
// MarkNone: so every hop can hold one whole delta in memory, verify it before it
// acts, and a resync resumes where it stopped. Deltas on disk (merged undo) are
// not bounded by it.
const MaxDelta = 32 << 20

// Sink takes the deltas of items, each following the one before. Every hop of
// the data path is one: process server, master target, the HTTP client that
// stands for either, and the twin used in tests. All run one conformance suite
// (package ship/shiptest).
//
// Safe for concurrent use; deltas of one item may be put concurrently and are
// taken in the order of their positions.
type Sink interface {
	// Put hands over one delta, in the format of package delta. It returns when the
	// delta is at least spooled durably.
	//
	// Errors: Conflict with a *PositionError when the delta does not follow the
	// position of the item here; Fenced with a *FencedError; NoSpace, Busy,
	// Unavailable and Timeout may be retried with the same bytes; Corrupt when the
	// bytes do not verify: nothing was taken. Putting a delta again that was taken
	// already is no error: the answer says how far it is.
	Put(ctx context.Context, item ItemID, body io.Reader) (Ack, error)

	// Standing tells how far the item is. With req.Applied set it waits until that
	// position (or a later one) is applied, or ctx or req.Wait ends: then it answers
	// what is true and no error.
	Standing(ctx context.Context, req StandingRequest) (Standing, error)
}

// Ack answers Put. It counts for the sender only if the position matches what
// was sent in all four parts (I-7).
type Ack struct {
	Position    Position `json:"position"`    // of the delta that was put, as the receiver computed it
	Applied     bool     `json:"applied"`     // durable and applied; else durable in a spool
	Incarnation ID       `json:"incarnation"` // of the spool that holds it: another one later means it was lost
}

// StandingRequest asks for a Standing.
type StandingRequest struct {
	Item    ItemID        `json:"item"`
	Applied Position      `json:"applied,omitzero"` // wait for this one
	Wait    time.Duration `json:"wait,omitempty"`   // at most this long; bounded by the receiver at 60 s
}

// Standing is how far an item is at a hop.
type Standing struct {
	Item        ItemID     `json:"item"`
	Generation  Generation `json:"generation"`          // in force here
	Applied     Position   `json:"applied,omitzero"`    // as the master target last said; zero: nothing yet or not known (see Known)
	Known       bool       `json:"known"`               // Applied is what the master target said; false: it could not be asked
	Spooled     Position   `json:"spooled,omitzero"`    // newest durable here, at least Applied
	Incarnation ID         `json:"incarnation"`         // of this hop's spool; zero for a master target
	SpoolBytes  int64      `json:"spool_bytes"`         // held for this item
	Fault       string     `json:"fault,omitempty"`     // why Applied does not advance, for people
	Remedy      string     `json:"remedy,omitempty"`    // what to do about Fault
	WireBytes   int64      `json:"wire_bytes"`          // sent onward for this item since its Prepare
	AppliedAt   time.Time  `json:"applied_at,omitzero"` // mark time of the newest applied bootable mark
}
