package vault

import (
	"time"

	"github.com/homeward-dr/homeward"
)

// Policy is how items replicate. With every forward policy its failback policy
// comes into being, associated by itself, and not editable in any field
// (R129 to R133).
type Policy struct {
	Meta
	Name     string          `json:"name"`
	Failback bool            `json:"failback"` // it is the failback policy of Of
	Of       string          `json:"of,omitempty"`
	Pair     string          `json:"pair,omitempty"` // the failback policy of a forward one
	Settings homeward.Policy `json:"settings"`
}

// PolicyRequest makes or changes a forward policy.
type PolicyRequest struct {
	Name     string          `json:"name"`
	Settings homeward.Policy `json:"settings"`
	Revision int64           `json:"revision,omitempty"`
}

// FailbackName is the name of a forward policy's failback policy.
func FailbackName(forward string) string { return forward + "-failback" }

// FailbackSettings are those of every failback policy: RPO threshold 15 minutes,
// recovery points for 24 hours, an application-consistent one each hour (R133).
func FailbackSettings() homeward.Policy {
	return homeward.Policy{
		RPOThreshold: 15 * time.Minute,
		AppEvery:     60 * time.Minute,
		Retention: []homeward.Tier{
			{For: 10 * time.Minute},
			{For: 2 * time.Hour, Every: time.Minute},
			{For: 24 * time.Hour, Every: 15 * time.Minute},
		},
	}
}
