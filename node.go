package homeward

import (
	"context"
	"time"
)

// Member is part of every role: how a node tells that it lives, what it sees, and
// whom it can reach.
type Member interface {
	// Health is the heartbeat: asked for every few seconds, it must be cheap.
	Health(ctx context.Context, req HealthRequest) (HealthReport, error)
	// Probe measures the way to a peer's data face: reachability, round-trip time,
	// and with Bytes the throughput. An unreachable peer is an answer, not an error.
	Probe(ctx context.Context, req ProbeRequest) (ProbeReport, error)
}

// HealthRequest asks for a heartbeat.
type HealthRequest struct {
	// Generations also asks for the newest generation of every item the node knows.
	Generations bool `json:"generations,omitempty"`
	// Revocations brings the newest revocation list of the vault's authority (DER), when
	// the node may not have it yet: handshakes go by it from then on, and open
	// connections with peers on it are closed.
	Revocations []byte `json:"revocations,omitempty"`
}

// HealthReport is a heartbeat.
type HealthReport struct {
	At          time.Time             `json:"at"` // by the node's clock
	OSFamily    string                `json:"os_family,omitempty"`
	OSVersion   string                `json:"os_version,omitempty"`
	Machine     string                `json:"machine,omitempty"` // UUID of the machine it runs in, as its firmware tells; empty: not known
	Volumes     []Volume              `json:"volumes,omitempty"` // of a master target: what it could keep points on
	Disks       int                   `json:"disks"`             // replica disks it holds open (R77)
	Generations map[ItemID]Generation `json:"generations,omitempty"`
	Alarms      []Alarm               `json:"alarms,omitempty"`
	// Revocations are lists (DER) of the vault's authority that tell of more than the one
	// that the request brought.
	Revocations [][]byte `json:"revocations,omitempty"`
}

// Volume is a mounted file system as a master target sees it. Every field is what
// the kernel said; what could not be found out is named in Unknown.
type Volume struct {
	Path     string   `json:"path"` // mount point
	Device   string   `json:"device"`
	FSType   string   `json:"fs_type"`
	Size     int64    `json:"size"` // bytes
	Free     int64    `json:"free"`
	ReadOnly bool     `json:"read_only"`         // mounted, or locked, read-only (R105)
	Uses     []string `json:"uses,omitempty"`    // "retention", "replica", "installation", "cache", "system" (R104, R106)
	Default  bool     `json:"default,omitempty"` // the one items get unless told otherwise
	Unknown  []string `json:"unknown,omitempty"` // names of fields
}

// ProbeRequest names a peer.
type ProbeRequest struct {
	Peer    string        `json:"peer"`              // node name: the peer's certificate must be of it
	URL     string        `json:"url"`               // of its data face, https://host:port
	Bytes   int64         `json:"bytes"`             // to send for the throughput, at most 16 MiB; 0: none
	Timeout time.Duration `json:"timeout,omitempty"` // 0: 5 s; at most 30 s
}

// ProbeReport is what a probe found.
type ProbeReport struct {
	Peer      string        `json:"peer"`
	URL       string        `json:"url"`
	At        time.Time     `json:"at"`
	Reachable bool          `json:"reachable"`
	Why       string        `json:"why,omitempty"` // not reachable
	RTT       time.Duration `json:"rtt"`           // of an empty request on an open connection
	Rate      float64       `json:"rate"`          // bytes a second; 0: not measured
}
