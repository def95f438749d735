package role

import (
	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// MaxBody is the most bytes a request or an answer may have: enough for the
// worst-case map of 1.5 TiB of disk (1 bit per 4 KiB, in base64), and for those of
// far larger disks whose changes are not scattered over every page.
const MaxBody = 64 << 20

// Answers that are asked for often, or of everybody, are shorter.
const (
	maxHello     = 64 << 10
	maxHeartbeat = 8 << 20 // with the generations of 50000 items
	maxProbe     = 64 << 10
)

const (
	helloPath   = "session/hello"
	goodbyePath = "session/goodbye"
)

// Welcome is the first thing a controller says.
type Welcome struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of the controller's build, for people
	// Epoch of the vault; 0: it has none. A role refuses one older than it has met. A
	// role that does not know the field is greeted without.
	Epoch uint64 `json:"epoch,omitempty"`
}

// Hello is what a role answers: who it is, as in its certificate.
type Hello struct {
	pki.Peer
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of the role's build, for people
}

// Goodbye tells a role why the controller closes the connection.
type Goodbye struct {
	Reason string `json:"reason"`
	Remedy string `json:"remedy"`
}

// understands checks the other side's protocol number.
func understands(theirs int, who string) error {
	if theirs >= 1 && theirs >= Protocol-1 && theirs <= Protocol+1 {
		return nil
	}
	return homeward.Errorf("greet", homeward.Unsupported, who,
		"bring both sides to the same version", "it speaks protocol %d, this side %d", theirs, Protocol)
}
