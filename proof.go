package homeward

import "time"

// Proof says that the disks of two copies were identical at a point, or where
// they were not. It is signed as a whole (package pki) and kept.
type Proof struct {
	Item      ItemID      `json:"item"`
	Point     Position    `json:"point"`
	At        time.Time   `json:"at"`
	Source    string      `json:"source"` // name of the node that digested the source side
	Target    string      `json:"target"`
	Disks     []DiskProof `json:"disks"`
	Equal     bool        `json:"equal"`
	Frozen    string      `json:"frozen"` // how the source was held still: "guest stopped", "frozen cut"
	ReadBytes int64       `json:"read_bytes"`
}

// DiskProof is the root of each side's digest tree for one disk.
type DiskProof struct {
	Disk   DiskID `json:"disk"`
	Size   int64  `json:"size"`
	Source string `json:"source"` // BLAKE3 root, hex
	Target string `json:"target"`
	Differ int64  `json:"differ"` // blocks that differ
}
