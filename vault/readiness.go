package vault

import "time"

// Verdict of a check.
type Verdict string

// The verdicts. Unknown never passes a check that must pass.
const (
	OK            Verdict = "ok"
	Warning       Verdict = "warning"
	Blocker       Verdict = "blocker"
	UnknownFact   Verdict = "unknown"
	NotApplicable Verdict = "not-applicable"
)

// Finding is what one check found.
type Finding struct {
	Rule        string    `json:"rule"` // "R35"
	Title       string    `json:"title"`
	Verdict     Verdict   `json:"verdict"`
	Subject     string    `json:"subject"`
	Text        string    `json:"text"`
	Remedy      string    `json:"remedy,omitempty"`
	Overridable bool      `json:"overridable,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

// Readiness is the standing failback score of an item, with all findings.
type Readiness struct {
	Item     string    `json:"item"`
	Score    Score     `json:"score"`
	Findings []Finding `json:"findings"`
	History  []Score   `json:"history,omitempty"` // newest first, at most 500: one per change
}

// Severity of an alert.
type Severity string

// The severities.
const (
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Alert is something somebody should know. It stays until its cause is gone.
type Alert struct {
	Meta
	ID       string    `json:"id"`
	Code     string    `json:"code"` // stable, lower-case words with dashes
	Severity Severity  `json:"severity"`
	Subject  string    `json:"subject"` // "node mt-home", "item web01"
	Text     string    `json:"text"`
	Remedy   string    `json:"remedy"`
	Raised   time.Time `json:"raised"`
	Cleared  time.Time `json:"cleared,omitzero"`
	AckedBy  string    `json:"acknowledged_by,omitempty"`
}
