package vault

import (
	"time"

	"github.com/homeward-dr/homeward"
)

// Site is a place where machines run. It is reached only through its configuration
// server, and may be gone: what is told of it then is what was last seen.
type Site struct {
	Meta
	Name         string                 `json:"name"` // 1 to 64 letters, digits, '-' and '_'
	Label        string                 `json:"label,omitempty"`
	Node         string                 `json:"node,omitempty"` // its configuration server; empty: none has enrolled
	Connected    bool                   `json:"connected"`
	Seen         time.Time              `json:"seen,omitzero"` // when its inventory was last read whole
	Capabilities *homeward.Capabilities `json:"capabilities,omitempty"`
	Why          string                 `json:"why,omitempty"` // why it is not connected, or its inventory could not be read
}

// SiteRequest makes or changes a site.
type SiteRequest struct {
	Name     string `json:"name"`
	Label    string `json:"label,omitempty"`
	Revision int64  `json:"revision,omitempty"` // of the site that is changed; 0: any
}

// Presence says whether a machine is there. A site that is not connected changes
// nothing: what it had is Unseen, never Gone.
type Presence string

// The presences.
const (
	Present Presence = "present"
	Gone    Presence = "gone"   // a connected site's whole inventory does not list it any more
	Unseen  Presence = "unseen" // its site cannot be asked
)

// Machine is one that was discovered at a site.
type Machine struct {
	Meta
	ID       string               `json:"id"` // site + "/" + native id
	Site     string               `json:"site"`
	Found    homeward.SiteMachine `json:"found"` // as last seen
	Presence Presence             `json:"presence"`
	Seen     time.Time            `json:"seen"`
	Item     homeward.ItemID      `json:"item,omitempty"`     // that protects it
	Findings []Finding            `json:"findings,omitempty"` // disk added, grown, machine moved, …
}

// PlacementRequest asks which inputs an action takes at its target site.
type PlacementRequest struct {
	Item homeward.ItemID `json:"item"`
	// Direction is the one that will be; zero: the one that follows from the item's state.
	Direction homeward.Direction `json:"direction,omitzero"`
}

// PlacementFields are these inputs, with the values preselected (R38, R42) and why
// others are not eligible (R103 to R108).
type PlacementFields struct {
	Direction homeward.Direction `json:"direction"`
	Policy    string             `json:"policy"` // chosen by itself (R42)
	Fields    []homeward.Field   `json:"fields"`
}
