package vault

import "time"

// Event says that a resource changed; what it is now is asked for.
type Event struct {
	ID      int64     `json:"id"` // rises; Watch goes on after it
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`    // "item", "job", "alert", "node", "machine", "site", "policy"
	Subject string    `json:"subject"` // its id
	What    string    `json:"what"`    // "created", "changed", "removed"
}

// WatchRequest selects events.
type WatchRequest struct {
	After int64    `json:"after,omitempty"` // the last one seen; 0: from now on; older than what is kept answers NotFound: list anew
	Kinds []string `json:"kinds,omitempty"` // empty: all
}
