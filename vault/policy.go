package vault

import (
	"errors"
	"strings"
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
	// Resync says whether an item whose agent lost track of what was written is
	// resynchronized by the vault itself. That of a failback policy is ResyncAutomatic.
	Resync ResyncRule `json:"resync,omitempty"`
}

// PolicyRequest makes or changes a forward policy.
type PolicyRequest struct {
	Name     string          `json:"name"`
	Settings homeward.Policy `json:"settings"`
	Resync   ResyncRule      `json:"resync,omitempty"`
	Revision int64           `json:"revision,omitempty"`
}

// ResyncRule says when an item that needs it is resynchronized without anybody asking:
// ResyncAutomatic (the default; also empty), ResyncManual (never), or the hours of the
// vault's local day in which it may begin, as "18:00-08:00". The field begins an
// automatic resync outside office hours (asr.md 2.3, repairReplication), because it reads
// whole disks; here only what is suspect is compared, and no recovery point is made
// before: so the default does not wait.
type ResyncRule string

// The rules that are no hours.
const (
	ResyncAutomatic ResyncRule = "automatic"
	ResyncManual    ResyncRule = "manual"
)

// Validate refuses what is no rule.
func (r ResyncRule) Validate() error {
	if r == "" || r == ResyncAutomatic || r == ResyncManual {
		return nil
	}
	if _, _, err := r.hours(); err != nil {
		return homeward.Errorf("validate policy", homeward.Invalid, "resync", `give "automatic", "manual", or hours such as "18:00-08:00"`, "%q: %w", string(r), err)
	}
	return nil
}

// Begins reports whether a resync may begin at t, whose clock the hours are by.
func (r ResyncRule) Begins(t time.Time) bool {
	switch r {
	case "", ResyncAutomatic:
		return true
	case ResyncManual:
		return false
	}
	from, to, err := r.hours()
	if err != nil {
		return false
	}
	now := minutes(t)
	if from < to {
		return now >= from && now < to
	}
	return now >= from || now < to // over midnight
}

// hours are minutes since midnight, and differ.
func (r ResyncRule) hours() (from, to int, err error) {
	a, b, _ := strings.Cut(string(r), "-")
	first, err := time.Parse("15:04", a)
	if err != nil {
		return 0, 0, err
	}
	last, err := time.Parse("15:04", b)
	if err == nil && first.Equal(last) {
		err = errors.New("no time lies between them")
	}
	return minutes(first), minutes(last), err
}

func minutes(t time.Time) int { return t.Hour()*60 + t.Minute() }

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
