package homeward

import (
	"context"
	"time"
)

// Every call of a role has the shape (ctx, request) (answer, error), is plain
// data both ways, and is idempotent: the same request again finds the work done
// or goes on with it. Requests that change who may write carry the generation
// they act for; an older one is refused with Fenced.

// ItemRequest names an item.
type ItemRequest struct {
	Item ItemID `json:"item"`
}

// GenerationRequest raises the generation of an item at a role: from then on
// everything older is refused. Raising to the one in force is no error.
type GenerationRequest struct {
	Item       ItemID     `json:"item"`
	Generation Generation `json:"generation"`
}

// Done answers calls that have nothing to tell.
type Done struct{}

// Fencer is part of every role.
type Fencer interface {
	SetGeneration(ctx context.Context, req GenerationRequest) (Done, error)
}

// MobilityAgent captures the writes of machines and ships them.
type MobilityAgent interface {
	// Prepare opens the disks, begins to capture and exports them to the guest.
	Prepare(ctx context.Context, req CaptureRequest) (CaptureReport, error)
	// Cut makes a marked point now.
	Cut(ctx context.Context, req CutRequest) (CutReport, error)
	// Drain makes a last cut and returns when it and all before it are applied.
	// With req.Stopped it refuses while a guest is connected, and afterwards the
	// replica holds everything the guest ever wrote.
	Drain(ctx context.Context, req DrainRequest) (CutReport, error)
	// Handover ends writing at this side (I-11): it durably records the new
	// generation, disconnects the guest, drains, flushes and locks the disks, and
	// only then answers with the map, which is final.
	Handover(ctx context.Context, req GenerationRequest) (Changes, error)
	// Report tells how a machine's capture stands.
	Report(ctx context.Context, req ItemRequest) (CaptureReport, error)
}

// ChangeKeeper reads and adds to the maps of a captured machine.
type ChangeKeeper interface {
	// Changes is the map as of now, without a handover: exact as of the answer.
	Changes(ctx context.Context, req ItemRequest) (Changes, error)
	// MarkChanged ORs blocks into the map of the running capture. With req.Complete
	// set the map is whole, and cuts may close with bootable marks again.
	MarkChanged(ctx context.Context, req MarkRequest) (Done, error)
	// Release gives up a machine that was handed over: forgets its map and unlocks
	// its disks. Refused while it captures.
	Release(ctx context.Context, req GenerationRequest) (Done, error)
}

// GroupMember is cut together with others. All members are held, then all cut
// with the same token, then all released; a hold that was not cut before its
// deadline expires by itself, and a cut with its token is then refused.
type GroupMember interface {
	Hold(ctx context.Context, req HoldRequest) (Done, error)
	CutHeld(ctx context.Context, req HoldRequest) (CutReport, error)
	ReleaseHold(ctx context.Context, req HoldRequest) (Done, error)
}

// Prover answers digests. Agent: of the disk as it is, or of a frozen cut.
// Master target: of any point, served or not.
type Prover interface {
	// Freeze makes a cut and keeps the whole content of all disks at that instant
	// readable until Unfreeze, as long as saved copies fit the budget.
	Freeze(ctx context.Context, req ItemRequest) (CutReport, error)
	Unfreeze(ctx context.Context, req ItemRequest) (Done, error)
	Digest(ctx context.Context, req DigestRequest) (DigestReport, error)
}

// LateCapture is for a machine whose first writes the agent does not see.
type LateCapture interface {
	// Baseline remembers the state of disks, before first power-on.
	Baseline(ctx context.Context, req BaselineRequest) (BaselineReport, error)
	// ChangedSince tells what was written since; a lost baseline makes all suspect.
	ChangedSince(ctx context.Context, req BaselineRequest) (Changes, error)
}

// Agent is everything a mobility agent can be told.
type Agent interface {
	MobilityAgent
	ChangeKeeper
	GroupMember
	Prover
	LateCapture
	Fencer
}

// CaptureRequest begins the leg of an item at its source.
type CaptureRequest struct {
	Machine    Machine       `json:"machine"`
	Disks      []string      `json:"disks"` // references, in the machine's order: "file:/…", "device:/…", "nbd+unix:…"
	Generation Generation    `json:"generation"`
	Base       Position      `json:"base"`              // where the replica stands: the first delta follows it
	Initial    []DiskChanges `json:"initial,omitempty"` // the set to ship first; empty with InitialAll false: nothing
	InitialAll bool          `json:"initial_all"`       // ship all data there is: a new replica that is all zero
	Incomplete bool          `json:"incomplete"`        // no bootable mark until MarkChanged says Complete (resync by digest)
	// Live begins the leg under the machine that runs: it keeps its disks, and what it
	// writes goes to another replica from now on. Of what the map says nothing is lost;
	// blocks are suspect that neither it nor Initial has, unless it leads to Base.
	Live   bool   `json:"live,omitempty"`
	Sink   string `json:"sink"` // URL of the process server, https://name@host:port; without a name: any process server there
	Policy Policy `json:"policy"`
	// Hosts are the names of the configuration servers whose hosts may attach the disks
	// over TCP; empty: those of any. They can be changed by preparing the same leg again.
	Hosts []string `json:"hosts,omitempty"`
}

// CutRequest asks for a marked point.
type CutRequest struct {
	Item  ItemID   `json:"item"`
	Kind  MarkKind `json:"kind"`            // MarkCrash or MarkApp
	Label string   `json:"label,omitempty"` // at most 200 bytes
	Wait  string   `json:"wait,omitempty"`  // WaitApplied (default), WaitSpooled or WaitCut
}

// The values of CutRequest.Wait.
const (
	WaitCut     = "cut"
	WaitSpooled = "spooled"
	WaitApplied = "applied"
)

// CutReport tells what a cut became.
type CutReport struct {
	Position Position      `json:"position"` // complete when spooled or applied was waited for
	Mark     Mark          `json:"mark"`
	Hold     time.Duration `json:"hold"`  // how long the guest's writes were held
	Bytes    int64         `json:"bytes"` // of changed blocks in the cut
}

// DrainRequest is for MobilityAgent.Drain.
type DrainRequest struct {
	Item    ItemID `json:"item"`
	Stopped bool   `json:"stopped"`
}

// MarkRequest is for ChangeKeeper.MarkChanged.
type MarkRequest struct {
	Item       ItemID        `json:"item"`
	Generation Generation    `json:"generation"`
	Disks      []DiskChanges `json:"disks,omitempty"` // Changed is used
	Complete   bool          `json:"complete"`
	// Suspects, with Complete, is Changes.Suspects of the set that was compared: if
	// blocks became suspect since, the answer is Conflict, and they have to be compared.
	Suspects  ID    `json:"suspects,omitzero"`
	FullReads int64 `json:"full_reads"` // bytes read to find these blocks, for the report
}

// HoldRequest is for GroupMember.
type HoldRequest struct {
	Item     ItemID        `json:"item"`
	Token    ID            `json:"token"`
	Deadline time.Duration `json:"deadline,omitempty"` // of the hold, from its start; default 2 s, at most 10 s
}

// DigestRequest asks for hashes of the digest tree of a disk (package block).
type DigestRequest struct {
	Item  ItemID   `json:"item"`
	Disk  DiskID   `json:"disk"`
	At    Position `json:"at,omitzero"` // a point (master target), the frozen cut (agent); zero: the disk as it is
	Level int      `json:"level"`
	Index int64    `json:"index"`
	Count int64    `json:"count"` // at most 65,536
	// Within restricts the reading to these blocks (persisted block.Map); empty: all.
	Within []byte `json:"within,omitempty"`
}

// DigestReport answers it.
type DigestReport struct {
	Size   int64  `json:"size"`   // of the disk in bytes
	Hashes []byte `json:"hashes"` // 32 bytes each
	Read   int64  `json:"read"`   // bytes of disk read for it
}

// BaselineRequest is for LateCapture.
type BaselineRequest struct {
	Machine Machine  `json:"machine"`
	Disks   []string `json:"disks"` // references
}

// BaselineReport answers Baseline.
type BaselineReport struct {
	ID   ID    `json:"id"`
	Read int64 `json:"read"` // bytes read to make it
}

// CaptureState is where an agent stands with a machine.
type CaptureState string

// The states.
const (
	CaptureHeld      CaptureState = "held"        // prepared, not exported: the generation in force is not known (Policy.Orphan) or it is fenced
	CaptureRunning   CaptureState = "running"     // exported and cut
	CaptureHandedOff CaptureState = "handed-over" // locked, map final
)

// CaptureReport tells how a machine's capture stands.
type CaptureReport struct {
	Item       ItemID        `json:"item"`
	Generation Generation    `json:"generation"`
	State      CaptureState  `json:"state"`
	Base       Position      `json:"base,omitzero"`  // where the leg began: its generation is the one captured under; zero: an agent that does not tell
	Sink       string        `json:"sink,omitempty"` // where it ships to; empty: nowhere
	Disks      []DiskReport  `json:"disks"`
	Clients    int           `json:"clients"`  // connected guests
	Complete   bool          `json:"complete"` // false while the set to ship is not whole
	Newest     CutReport     `json:"newest"`   // last cut
	Spooled    Position      `json:"spooled,omitzero"`
	Applied    Position      `json:"applied,omitzero"`
	AppliedAt  time.Time     `json:"applied_at,omitzero"` // instant of the newest applied bootable mark: now minus it is the RPO
	Demotions  int64         `json:"demotions"`           // cuts given up since the start, in all
	Phase      string        `json:"phase"`               // "initial sync", "resync", "replicating", "waiting: …"
	Progress   Progress      `json:"progress"`
	Sent       Traffic       `json:"sent"`
	HoldP99    time.Duration `json:"hold_p99"` // of the last 1,000 cuts
	Alarms     []Alarm       `json:"alarms,omitempty"`
}

// DiskReport is one disk of a CaptureReport.
type DiskReport struct {
	Disk         DiskID `json:"disk"`
	Ref          string `json:"ref"`
	URI          string `json:"uri"`           // where the guest attaches: an NBD URI
	DirtyBytes   int64  `json:"dirty_bytes"`   // not yet applied
	SuspectBytes int64  `json:"suspect_bytes"` // to be compared by digest
}

// Traffic counts bytes of a leg since its Prepare.
type Traffic struct {
	DirtyBytes int64 `json:"dirty_bytes"` // of blocks that had to travel, each cut counted
	PlainBytes int64 `json:"plain_bytes"` // of disk content read and put into deltas
	WireBytes  int64 `json:"wire_bytes"`  // of deltas handed to the next hop, retries included
	FullReads  int64 `json:"full_reads"`  // of disk read only to find differences
}

// Progress is told wherever somebody waits.
type Progress struct {
	Done  int64   `json:"done"`  // bytes
	Total int64   `json:"total"` // bytes; 0: not known
	Rate  float64 `json:"rate"`  // bytes a second, over the last seconds
	Left  float64 `json:"left"`  // seconds; 0: not known
}

// Alarm is something an operator should know; it stays until its cause is gone.
type Alarm struct {
	Code   string    `json:"code"` // stable, lower-case words with dashes
	Text   string    `json:"text"`
	Remedy string    `json:"remedy"`
	Since  time.Time `json:"since"`
}
