package homeward

import (
	"fmt"
	"time"
)

// Policy is how one leg of an item replicates.
type Policy struct {
	// MinInterval is the least time between two cuts; default 1 s, at least 50 ms.
	MinInterval time.Duration `json:"min_interval"`
	// AppEvery asks for an app-consistent mark this often; 0: never.
	AppEvery time.Duration `json:"app_every,omitempty"`
	// Freeze and Thaw bracket an app-consistent cut; both empty: no application marks.
	Freeze Hook `json:"freeze,omitzero"`
	// RPOThreshold: an age of the newest applied mark that raises an alarm.
	RPOThreshold time.Duration `json:"rpo_threshold,omitempty"`
	// Retention says which points are kept; see Tier. Empty: DefaultRetention.
	Retention []Tier `json:"retention,omitempty"`
	// CacheBytes bounds saved copies held in memory, SpillBytes those on disk, per
	// machine; 0: 32 MiB and 1 GiB.
	CacheBytes int64 `json:"cache_bytes,omitempty"`
	SpillBytes int64 `json:"spill_bytes,omitempty"`
	// Orphan decides what a returning side does when nobody can tell it the
	// generation in force: OrphanStart (the default: start, with an alarm) or OrphanHold.
	Orphan string `json:"orphan,omitempty"`
}

// The values of Policy.Orphan.
const (
	OrphanStart = "start"
	OrphanHold  = "hold"
)

// Hook freezes and thaws a guest around an application-consistent cut: commands,
// or the socket of the QEMU guest agent.
type Hook struct {
	FreezeCommand []string      `json:"freeze_command,omitempty"` // exit code 0: frozen
	ThawCommand   []string      `json:"thaw_command,omitempty"`   // must be safe to run when not frozen
	GuestAgent    string        `json:"guest_agent,omitempty"`    // path of a unix socket
	Timeout       time.Duration `json:"timeout,omitempty"`        // of each step; default 10 s
}

// IsZero reports that no hook is set.
func (h Hook) IsZero() bool { return len(h.FreezeCommand) == 0 && h.GuestAgent == "" }

// Tier keeps, for points younger than For, one point per Every (0: all of them).
// Tiers are ordered by For; a point older than the last tier goes. The oldest
// and the newest point of an item, and pinned ones, always stay.
type Tier struct {
	For   time.Duration `json:"for"`
	Every time.Duration `json:"every"`
}

// DefaultRetention: everything for ten minutes, one a minute for two hours, one
// every quarter of an hour for a day (R131: 24 h), one every six hours for three days.
func DefaultRetention() []Tier {
	return []Tier{
		{For: 10 * time.Minute},
		{For: 2 * time.Hour, Every: time.Minute},
		{For: 24 * time.Hour, Every: 15 * time.Minute},
		{For: 72 * time.Hour, Every: 6 * time.Hour},
	}
}

// WithDefaults fills in what was left zero.
func (p Policy) WithDefaults() Policy {
	if p.MinInterval == 0 {
		p.MinInterval = time.Second
	}
	if len(p.Retention) == 0 {
		p.Retention = DefaultRetention()
	}
	if p.CacheBytes == 0 {
		p.CacheBytes = 32 << 20
	}
	if p.SpillBytes == 0 {
		p.SpillBytes = 1 << 30
	}
	if p.Orphan == "" {
		p.Orphan = OrphanStart
	}
	return p
}

// Validate names the first field that is wrong.
func (p Policy) Validate() error {
	bad := func(field, fix, format string, args ...any) error {
		return Errorf("validate policy", Invalid, field, fix, format, args...)
	}
	if p.MinInterval < 50*time.Millisecond {
		return bad("min_interval", "give at least 50ms", "%v", p.MinInterval)
	}
	if p.CacheBytes < 1<<20 {
		return bad("cache_bytes", "give at least 1 MiB", "%d", p.CacheBytes)
	}
	if p.SpillBytes < 0 {
		return bad("spill_bytes", "give 0 or more", "%d", p.SpillBytes)
	}
	if p.Orphan != OrphanStart && p.Orphan != OrphanHold {
		return bad("orphan", `give "start" or "hold"`, "%q", p.Orphan)
	}
	for i, t := range p.Retention {
		if t.For <= 0 || t.Every < 0 || i > 0 && t.For <= p.Retention[i-1].For {
			return bad(fmt.Sprintf("retention[%d]", i), "order tiers by rising, positive 'for'", "%v every %v", t.For, t.Every)
		}
	}
	return nil
}
