package readiness

import (
	"fmt"
	"time"

	"github.com/homeward-dr/homeward/vault"
)

// Rule is one check.
type Rule struct {
	ID      string // "R35"
	Title   string
	Source  string // where the seeds state it: "000 L39"; ours: "Homeward"
	Facts   string // where its facts come from, live
	Blocks  bool   // its violation is a blocker: it must pass, and unknown does not
	Ignores bool   // an operator may let a violation, or an unknown fact, pass with a reason
	Check   func(*inquiry)
}

// Rules are all that are checked, in the order in which findings are shown.
func Rules() []Rule {
	var all []Rule
	for _, part := range [][]Rule{stageRules(), siteRules(), nodeRules(), wayRules(), masterTargetRules(), groupRules(), retentionRules(), inputRules(), copyRules(), policyRules()} {
		all = append(all, part...)
	}
	return all
}

// Check applies all rules. Every rule has at least one finding.
func Check(f Facts) []vault.Finding {
	var all []vault.Finding
	for _, r := range Rules() {
		all = append(all, r.on(f)...)
	}
	return all
}

func (r Rule) on(f Facts) []vault.Finding {
	q := &inquiry{Facts: f, rule: r}
	r.Check(q)
	return q.found
}

// ScoreOf sums findings up. Ready: no blocker, and no rule that must pass is unknown.
func ScoreOf(findings []vault.Finding, at time.Time) vault.Score {
	must := map[string]bool{}
	for _, r := range Rules() {
		must[r.ID] = r.Blocks
	}
	s := vault.Score{Ready: len(findings) > 0, At: at}
	for _, f := range findings {
		switch f.Verdict {
		case vault.Blocker:
			s.Blockers++
			s.Ready = false
		case vault.UnknownFact:
			s.Unknown++
			if must[f.Rule] {
				s.Ready = false
			}
		case vault.Warning:
			s.Warnings++
		}
	}
	return s
}

// inquiry is one rule at work on facts: a check asks it, and answers through it.
type inquiry struct {
	Facts
	rule  Rule
	found []vault.Finding
}

func (q *inquiry) add(v vault.Verdict, subject, remedy, text string, args ...any) {
	q.found = append(q.found, vault.Finding{
		Rule: q.rule.ID, Title: q.rule.Title, Verdict: v, Subject: subject,
		Text: fmt.Sprintf(text, args...), Remedy: remedy, At: q.Now,
		Overridable: q.rule.Ignores && (v == vault.Blocker || v == vault.UnknownFact),
	})
}

func (q *inquiry) ok(subject, text string, args ...any) {
	q.add(vault.OK, subject, "", text, args...)
}

func (q *inquiry) warn(subject, remedy, text string, args ...any) {
	q.add(vault.Warning, subject, remedy, text, args...)
}

// block is a violation; of a rule that does not block, a warning.
func (q *inquiry) block(subject, remedy, text string, args ...any) {
	v := vault.Warning
	if q.rule.Blocks {
		v = vault.Blocker
	}
	q.add(v, subject, remedy, text, args...)
}

func (q *inquiry) skip(subject, text string, args ...any) {
	q.add(vault.NotApplicable, subject, "", text, args...)
}

func (q *inquiry) unknown(subject, what, why string) {
	if why == "" {
		why = "nobody has told yet"
	}
	remedy := "make it known: connect its node or site, then 'homeward site refresh'"
	if q.rule.Ignores {
		remedy += "; or, if you know better, give --override " + q.rule.ID + "=REASON"
	}
	q.add(vault.UnknownFact, subject, remedy, "%s is not known: %s", what, why)
}

func (q *inquiry) item() string { return "item " + string(q.Item.ID) }

// need is the value of a fact, or false: then it is unknown, and the finding that
// says so is entered. An absent fact is a nil pointer.
func need[T any](q *inquiry, subject, what string, v Value[T]) (*T, bool) {
	switch v.Standing {
	case Known:
		return &v.V, true
	case Absent:
		return nil, true
	}
	why := v.Why
	if v.Source != "" && why != "" {
		why = v.Source + ": " + why
	}
	q.unknown(subject, what, why)
	return nil, false
}

// must is need for a fact that cannot be absent: there absence is unknown, too.
func must[T any](q *inquiry, subject, what string, v Value[T]) (T, bool) {
	p, known := need(q, subject, what, v)
	if p == nil {
		if known {
			q.unknown(subject, what, "none is told")
		}
		var zero T
		return zero, false
	}
	return *p, true
}

// in reports whether the item is in one of the stages; if not, the rule does not apply.
func (q *inquiry) in(stages ...Stage) bool {
	now := StageOf(q.Item)
	for _, s := range stages {
		if s == now {
			return true
		}
	}
	q.skip(q.item(), "not while the item is %s", stageText[now])
	return false
}

var stageText = map[Stage]string{
	Forward: "protected forward", Away: "failed over", Returning: "replicating back",
	Home: "failed back and not yet reprotected", Over: "migrated or being disabled",
}
