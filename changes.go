package homeward

// Certainty says how far a figure about changes may be believed.
type Certainty string

// The certainties, from best to worst.
const (
	Exact   Certainty = "exact"   // as of a position that is stated beside it
	Bound   Certainty = "bound"   // not more than this
	Unknown Certainty = "unknown" // nobody can tell before a digest or a full copy
)

// Changes are the blocks in which a copy differs, or may differ, from another
// one. It is how maps travel between roles (I-0).
type Changes struct {
	Item       ItemID        `json:"item"`
	Generation Generation    `json:"generation"`
	Since      Position      `json:"since,omitzero"`    // the newest state both copies are known to have shared
	Pending    []Position    `json:"pending,omitempty"` // states the other copy may have reached without our learning it
	Disks      []DiskChanges `json:"disks"`             // in the machine's order
	Suspects   ID            `json:"suspects,omitzero"` // names the suspect set: another one once anything was added to it
}

// DiskChanges are those of one disk. Maps are in the persisted form of
// block.Map, at 4 KiB.
type DiskChanges struct {
	Disk    DiskID `json:"disk"`
	Changed []byte `json:"changed,omitempty"` // known to have been written
	Suspect []byte `json:"suspect,omitempty"` // may have been written: compare by digest before shipping
	// Reasons tell why suspect ranges are suspect ("power loss: hot extents", "map
	// unreadable", "not detached cleanly", …), one sentence each.
	Reasons []string `json:"reasons,omitempty"`
	// ChangedBytes and SuspectBytes are the sizes of the maps in bytes.
	ChangedBytes int64 `json:"changed_bytes"`
	SuspectBytes int64 `json:"suspect_bytes"`
}

// Figure is one line of an estimate.
type Figure struct {
	Disk      DiskID    `json:"disk"`
	Cause     string    `json:"cause"` // "old side wrote after the point", "new side wrote since", "both (sent once)", …
	Bytes     int64     `json:"bytes"`
	Certainty Certainty `json:"certainty"`
	AsOf      Position  `json:"as_of,omitzero"`
	Why       string    `json:"why,omitempty"` // why it is not exact
}

// Estimate tells the cost of a reprotect, failback or resync before it starts.
type Estimate struct {
	Item      ItemID    `json:"item"`
	Figures   []Figure  `json:"figures"`
	Bytes     int64     `json:"bytes"`             // of disk content that will travel, both sides' blocks counted once
	Certainty Certainty `json:"certainty"`         // the worst of those that matter to Bytes
	WireBytes int64     `json:"wire_bytes"`        // Bytes and framing, before compression
	FullReads int64     `json:"full_reads"`        // bytes of disk that must be read only to find differences
	Seconds   float64   `json:"seconds,omitempty"` // at the stated rate; 0: no rate known
	Losses    []string  `json:"losses,omitempty"`  // what will be overwritten, and where it is kept
	Dearer    []string  `json:"dearer,omitempty"`  // what would make it cost more
	Stops     []string  `json:"stops,omitempty"`   // what stands in the way, each with its remedy
}
