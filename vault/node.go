package vault

import (
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// NodeState is where a node stands with the vault.
type NodeState string

// The node states.
const (
	NodeRegistering  NodeState = "registering"  // its certificate is issued, its first heartbeat has not come (R34)
	NodeReady        NodeState = "ready"        // heartbeats come
	NodeDisconnected NodeState = "disconnected" // they have stopped
	NodeRevoked      NodeState = "revoked"      // it may not come back
)

// Purpose labels an address: replicated machines that kept their addresses are
// reached over another network than before (R55, R56).
type Purpose string

// The purposes.
const (
	Production Purpose = "production"
	Failback   Purpose = "failback"
)

// Address of a node's data face, or of the vault.
type Address struct {
	Host    string  `json:"host"` // host:port
	Purpose Purpose `json:"purpose"`
}

// Node is an enrolled role.
type Node struct {
	Meta
	Name      string        `json:"name"`
	Role      pki.Role      `json:"role"`
	Site      string        `json:"site"`
	State     NodeState     `json:"state"`
	Addresses []Address     `json:"addresses,omitempty"`
	Version   string        `json:"version,omitempty"`
	Enrolled  time.Time     `json:"enrolled"`
	Heartbeat time.Time     `json:"heartbeat,omitzero"` // the newest, by the vault's clock
	Skew      time.Duration `json:"skew"`               // its clock minus the vault's, in nanoseconds
	Expires   time.Time     `json:"expires"`            // of its certificate
	Serial    string        `json:"serial"`             // of its newest certificate
	// Certificates are all it was issued and that have not expired, oldest first; at
	// least the newest.
	Certificates []pki.Issued           `json:"certificates,omitempty"`
	Health       homeward.HealthReport  `json:"health"`               // of the newest heartbeat
	Reachables   []homeward.ProbeReport `json:"reachables,omitempty"` // newest probe of each peer it was told to reach
}

// EnrolmentToken admits one node once: the seeds' passphrase. Its secret is told
// once; the vault keeps a hash.
type EnrolmentToken struct {
	Meta
	ID      string    `json:"id"`
	Role    pki.Role  `json:"role"`
	Site    string    `json:"site"`
	Node    string    `json:"node,omitempty"` // the only name it admits; empty: any
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`
	UsedBy  string    `json:"used_by,omitempty"`
	Secret  string    `json:"secret,omitempty"` // only in the answer that made it; carries the fingerprint of the vault's authority
}

// EnrolmentRequest asks for a token.
type EnrolmentRequest struct {
	Role     pki.Role      `json:"role"`
	Site     string        `json:"site"`
	Node     string        `json:"node,omitempty"`
	Lifetime time.Duration `json:"lifetime,omitempty"` // 0: one hour; at most seven days
}
