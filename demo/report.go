package demo

import (
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// Report is what the round trip was, as data.
type Report struct {
	Guest      string  `json:"guest"`
	DiskBytes  int64   `json:"disk_bytes"`
	LinkMbit   int     `json:"link_mbit,omitempty"`
	LinkDelay  float64 `json:"link_delay_seconds,omitempty"`
	Point      string  `json:"point"` // as asked for
	Steps      []Entry `json:"steps"`
	Seconds    float64 `json:"seconds"`
	Succeeded  bool    `json:"succeeded"`
	RPORecords uint64  `json:"rpo_records"` // records the guest was told are durable, lost by the failover
	RPOSeconds float64 `json:"rpo_seconds"` // age of the oldest of them when the site was lost
	RTOSeconds float64 `json:"rto_seconds"` // from the command to the guest's first durable record at the other site
	// Failback is the planned way home: both figures are of it.
	FailbackRPORecords uint64  `json:"failback_rpo_records"`
	FailbackSeconds    float64 `json:"failback_seconds"` // the guest did not run for this long
	Points             int     `json:"points"`           // recovery points at the other site when the first one was lost
	Error              string  `json:"error,omitempty"`
}

// Entry is one step of the round trip.
type Entry struct {
	Step    string  `json:"step"`
	Seconds float64 `json:"seconds"`
	*Reverse
	Proof *pki.SignedJSON `json:"proof,omitempty"` // signed; its payload is a homeward.Proof
}

// Reverse is what a reprotect predicted and took.
type Reverse struct {
	PredictedBytes int64             `json:"predicted_bytes"`
	DirtyBytes     int64             `json:"dirty_bytes"`
	WireBytes      int64             `json:"wire_bytes"`
	FullReads      int64             `json:"full_reads"` // bytes of disk read only to find differences
	ResyncSeconds  float64           `json:"resync_seconds"`
	DigestEqual    bool              `json:"digest_equal"`
	Estimate       homeward.Estimate `json:"estimate"`
	Branch         homeward.Point    `json:"branch"`
}

// entry adds a step that began at a time and ends now.
func (r *Report) entry(step string, began time.Time) *Entry {
	r.Steps = append(r.Steps, Entry{Step: step, Seconds: time.Since(began).Seconds()})
	return &r.Steps[len(r.Steps)-1]
}
