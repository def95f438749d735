package vault

import (
	"time"

	"github.com/homeward-dr/homeward"
)

// Meta is part of every stored resource.
type Meta struct {
	// Revision rises with every change; a change that names an older one is refused
	// (Conflict), so that two operators cannot overwrite each other unseen.
	Revision int64     `json:"revision"`
	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"`
}

// MaxPage is the most entries of one page.
const MaxPage = 1000

// Query selects a page of a list. Filters left empty select all.
type Query struct {
	Limit int    `json:"limit,omitempty"` // at most MaxPage; 0: 100
	After string `json:"after,omitempty"` // Page.Next of the page before
	Site  string `json:"site,omitempty"`
	Item  string `json:"item,omitempty"`
	State string `json:"state,omitempty"`
	Role  string `json:"role,omitempty"`
}

// Validate names the first field that is wrong; it fills in the default of Limit.
func (q *Query) Validate() error {
	if q.Limit == 0 {
		q.Limit = 100
	}
	if q.Limit < 1 || q.Limit > MaxPage {
		return homeward.Errorf("list", homeward.Invalid, "limit", "ask for 1 to 1000 entries, and for the rest with after", "%d entries", q.Limit)
	}
	return nil
}

// Page is a part of a list, in a stable order.
type Page[T any] struct {
	Entries []T    `json:"entries"`
	Next    string `json:"next,omitempty"` // Query.After of the next page; empty: this is the last
}
