package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// when is a time for people; empty: never.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// span is a duration without needless digits.
func span(d time.Duration) string {
	if d.Abs() >= time.Second {
		d = d.Round(time.Second)
	} else {
		d = d.Round(time.Millisecond)
	}
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "" || !strings.HasSuffix(s, "m") && !strings.HasSuffix(s, "h") {
		return d.String()
	}
	return s
}

func seconds(s float64) string { return span(time.Duration(s * float64(time.Second))) }

// rpo is the age of the newest point; -1: not known.
func rpo(s float64) string {
	if s < 0 {
		return "unknown"
	}
	return seconds(s)
}

func size(n int64) string { return lab.Size(n) }

// progress is how far something is: percent, bytes, rate, time left.
func progress(p homeward.Progress) string {
	if p.Total == 0 && p.Done == 0 {
		return ""
	}
	parts := []string{size(p.Done)}
	if p.Total > 0 {
		parts = []string{fmt.Sprintf("%d%%", percent(p)), size(p.Done) + " of " + size(p.Total)}
	}
	if p.Rate > 0 {
		parts = append(parts, size(int64(p.Rate))+"/s")
	}
	if p.Left > 0 {
		parts = append(parts, seconds(p.Left)+" left")
	}
	return strings.Join(parts, ", ")
}

func percent(p homeward.Progress) int {
	if p.Total <= 0 {
		return 0
	}
	return int(100 * float64(p.Done) / float64(p.Total))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func score(s vault.Score) string {
	if s.At.IsZero() {
		return "unknown"
	}
	says := []string{}
	for _, part := range []struct {
		n    int
		what string
	}{{s.Blockers, "blocker"}, {s.Warnings, "warning"}, {s.Unknown, "unknown"}} {
		if part.n == 0 {
			continue
		}
		plural := ""
		if part.n > 1 && part.what != "unknown" {
			plural = "s"
		}
		says = append(says, fmt.Sprintf("%d %s%s", part.n, part.what, plural))
	}
	word := "not ready"
	if s.Ready {
		word = "ready"
	}
	if len(says) == 0 {
		return word
	}
	return word + " (" + strings.Join(says, ", ") + ")"
}

// words joins them for a cell.
func words[T ~string](all []T) string {
	s := make([]string, len(all))
	for i, w := range all {
		s[i] = string(w)
	}
	return strings.Join(s, ", ")
}

// findingRows are findings as a table, without those that say nothing to do unless
// all are wanted.
func findingRows(findings []vault.Finding, all bool) [][]any {
	rows := [][]any{{"RULE", "VERDICT", "SUBJECT", "FINDING", "WHAT TO DO"}}
	for _, f := range findings {
		if !all && (f.Verdict == vault.OK || f.Verdict == vault.NotApplicable) {
			continue
		}
		verdict := string(f.Verdict)
		if f.Overridable {
			verdict += " (override with a reason)"
		}
		rows = append(rows, []any{f.Rule, verdict, f.Subject, f.Text, f.Remedy})
	}
	return rows
}
