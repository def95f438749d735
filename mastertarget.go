package homeward

import "context"

// Replica is what a master target does for an item that replicates to it. Its
// data face is a Sink.
type Replica interface {
	// Prepare opens (or creates) the replica's disks and begins a leg: deltas of
	// the request's generation that follow its base are applied from then on.
	// What the disks hold at that moment is kept as the first point; with a Branch
	// it is pinned under that name ("lost-writes") and can be served.
	Prepare(ctx context.Context, req ReplicaRequest) (ReplicaReport, error)
	// Points lists recovery points, oldest first.
	Points(ctx context.Context, req ItemRequest) (PointList, error)
	// Pin holds a point against thinning under a name; Unpin gives it up.
	Pin(ctx context.Context, req PinRequest) (Done, error)
	Unpin(ctx context.Context, req PinRequest) (Done, error)
	Report(ctx context.Context, req ItemRequest) (ReplicaReport, error)
}

// Recovery is what a master target does when its copy must run.
type Recovery interface {
	// FailOver raises the generation, durably records the blocks of everything
	// after the point as diverged, and serves a view of the point with a durable
	// overlay. Called again with a newer generation and another point (change
	// point) it drops the overlay and serves that one; not after Promote began.
	FailOver(ctx context.Context, req FailOverRequest) (View, error)
	// CancelFailOver drops view and overlay; the replica takes deltas again, of the
	// request's generation, and stands where it stood. Refused after Promote began.
	CancelFailOver(ctx context.Context, req GenerationRequest) (ReplicaReport, error)
	// Promote makes the view the replica, behind the machine that runs on it:
	// first call starts it, every call answers with its progress; it is finished
	// when State says Promoted. Points up to the view's stay.
	Promote(ctx context.Context, req GenerationRequest) (ReplicaReport, error)
	// RollBack takes a replica that is not served back to a point, under a new
	// generation, and keeps the blocks it changed as diverged.
	RollBack(ctx context.Context, req FailOverRequest) (ReplicaReport, error)
	// Diverged are the blocks that differ between the point of the last FailOver or
	// RollBack and the newest state this replica ever had from its source.
	Diverged(ctx context.Context, req ItemRequest) (Changes, error)
}

// Viewer serves points.
type Viewer interface {
	// OpenView serves a point over NBD, while replication goes on.
	OpenView(ctx context.Context, req ViewRequest) (View, error)
	// CloseView withdraws the exports; a scratch overlay is gone with it.
	CloseView(ctx context.Context, req ViewRequest) (Done, error)
}

// Keeper looks after what a master target stores.
type Keeper interface {
	// Verify checks everything stored for an item against its checksums.
	Verify(ctx context.Context, req ItemRequest) (VerifyReport, error)
	// Forget deletes points, undo and overlays of an item and releases its disks,
	// which stay as they are.
	Forget(ctx context.Context, req GenerationRequest) (Done, error)
}

// MasterTarget is everything a master target can be told. Prover.Freeze is
// refused there: its points are frozen already.
type MasterTarget interface {
	Replica
	Recovery
	Viewer
	Keeper
	Prover
	Fencer
}

// ReplicaRequest is for Replica.Prepare.
type ReplicaRequest struct {
	Machine    Machine    `json:"machine"`
	Disks      []string   `json:"disks"`  // references, in the machine's order
	Create     bool       `json:"create"` // make disks that do not exist, all zero
	Generation Generation `json:"generation"`
	Base       Position   `json:"base"`             // the state the disks are said to be in
	Branch     string     `json:"branch,omitempty"` // keep today's content as a pinned point of this name
	// Bootable says that what the disks hold now is a machine that could boot
	// (an old side), not an empty replica.
	Bootable bool `json:"bootable"`
	// From names the process server whose deltas are taken; empty: any. It can be
	// changed by preparing the same leg again.
	From   string `json:"from,omitempty"`
	Policy Policy `json:"policy"`
	// SpaceReserve is kept free on the retention volume, in bytes; 0: 64 MiB.
	SpaceReserve int64 `json:"space_reserve,omitempty"`
	// Retention is the volume the item's points are kept on: the path of one that the
	// node's health lists; empty: where they are, or the node's default one. It is
	// chosen by the first Prepare and does not change before Forget.
	Retention string `json:"retention,omitempty"`
}

// ReplicaState is where a master target stands with an item.
type ReplicaState string

// The states.
const (
	ReplicaReplicating ReplicaState = "replicating" // takes deltas
	ReplicaFailedOver  ReplicaState = "failed-over" // serves a view with a durable overlay, takes no deltas
	ReplicaPromoting   ReplicaState = "promoting"
	ReplicaPromoted    ReplicaState = "promoted" // the view is the replica; a machine runs on it, or a new Prepare comes
)

// ReplicaReport tells how a replica stands.
type ReplicaReport struct {
	Item           ItemID       `json:"item"`
	Generation     Generation   `json:"generation"`
	State          ReplicaState `json:"state"`
	Base           Position     `json:"base,omitzero"`   // where the newest leg began; zero: a target that does not tell
	Disks          []string     `json:"disks,omitempty"` // references of the replica's, in the machine's order
	Applied        Position     `json:"applied"`
	Points         int          `json:"points"`
	NewestPoint    Point        `json:"newest_point,omitzero"`
	Retention      string       `json:"retention,omitempty"` // path of the volume that holds its points
	RetentionBytes int64        `json:"retention_bytes"`     // used by this item
	VolumeFree     int64        `json:"volume_free"`         // of the retention volume
	Views          []View       `json:"views,omitempty"`
	Progress       Progress     `json:"progress"`        // of Promote
	AppliedBytes   int64        `json:"applied_bytes"`   // of blocks applied since Prepare, zero ones included
	Fault          string       `json:"fault,omitempty"` // why deltas are refused now
	Remedy         string       `json:"remedy,omitempty"`
	Alarms         []Alarm      `json:"alarms,omitempty"`
}

// PointList answers Points.
type PointList struct {
	Points []Point `json:"points"`
}

// PinRequest is for Pin and Unpin.
type PinRequest struct {
	Item  ItemID   `json:"item"`
	Point Position `json:"point"`
	Name  string   `json:"name"` // "hold:audit"; at most 80 bytes
}

// FailOverRequest is for FailOver and RollBack.
type FailOverRequest struct {
	Item       ItemID     `json:"item"`
	Generation Generation `json:"generation"`     // the new one
	Point      Position   `json:"point,omitzero"` // zero: the newest
}

// ViewKind says what becomes of writes to a view.
type ViewKind string

// The kinds of view.
const (
	ViewReadOnly ViewKind = "read-only"
	ViewScratch  ViewKind = "scratch" // writes go to an overlay that is dropped with the view: test failover
	ViewDurable  ViewKind = "durable" // writes are as durable as a disk's: failover
)

// ViewRequest is for OpenView and CloseView.
type ViewRequest struct {
	Item  ItemID   `json:"item"`
	Name  string   `json:"name"`           // chosen by the caller; opening the same again finds it
	Point Position `json:"point,omitzero"` // zero: the newest
	Kind  ViewKind `json:"kind"`           // ViewReadOnly or ViewScratch; FailOver makes the durable one
}

// View is a served point.
type View struct {
	Item         ItemID     `json:"item"`
	Name         string     `json:"name"`
	Kind         ViewKind   `json:"kind"`
	Generation   Generation `json:"generation"`
	Point        Point      `json:"point"`
	Machine      Machine    `json:"machine"` // as it was at the point
	Disks        []ViewDisk `json:"disks"`
	OverlayBytes int64      `json:"overlay_bytes"`
	// ByHand says that the view was given out offline, without vault or agent: what was
	// written to it may be in no map. Stays as long as the view.
	ByHand bool `json:"by_hand,omitempty"`
}

// ViewDisk is one disk of a view.
type ViewDisk struct {
	Disk DiskID `json:"disk"`
	URI  string `json:"uri"` // an NBD URI; a unix socket unless the target listens on TCP
}

// VerifyReport answers Verify.
type VerifyReport struct {
	Files  int      `json:"files"`
	Bytes  int64    `json:"bytes"`
	Faults []string `json:"faults,omitempty"` // one per damaged file: what, where, what it costs, what to do
}
