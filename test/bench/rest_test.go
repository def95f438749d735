package bench

import (
	"testing"

	"github.com/homeward-dr/homeward/bench/crowd"
	"github.com/homeward-dr/homeward/bench/example"
	"github.com/homeward-dr/homeward/bench/growth"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/recovery"
)

// The chapters that have no peers, in small: each run ends well, and each column of
// each table has a value.
func TestChaptersWithoutPeers(t *testing.T) {
	for _, c := range []measure.Chapter{recovery.Chapter(), example.Chapter(), growth.Chapter(), crowd.Chapter()} {
		t.Run(c.Name, func(t *testing.T) {
			f, err := c.Measure(t.Context(), small(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range f.Series {
				for _, r := range s.Runs {
					if r.Error != "" {
						t.Errorf("%v: %s", s.Labels, r.Error)
					}
				}
			}
			for _, table := range f.Tables {
				complete(t, f, table)
			}
		})
	}
}

// complete fails where a table would have an empty cell, or no rows.
func complete(t *testing.T, f measure.Figure, table measure.Table) {
	t.Helper()
	rows := 0
	for _, s := range f.Series {
		if !table.Select.Takes(s) {
			continue
		}
		rows++
		for _, c := range table.Columns {
			if s.Of(c.Contender, c.Metric).N == 0 {
				t.Errorf("%s: no %s of %s at %v", table.Title, c.Metric, c.Contender, s.Labels)
			}
		}
	}
	if rows == 0 {
		t.Errorf("%s has no rows", table.Title)
	}
}
