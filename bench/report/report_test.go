package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/bench/measure"
)

func TestValues(t *testing.T) {
	for _, c := range []struct {
		v    float64
		u    measure.Unit
		want string
	}{
		{0.0000123, measure.Seconds, "12.3 µs"}, {0.5, measure.Seconds, "500 ms"}, {61, measure.Seconds, "61 s"},
		{1536, measure.Bytes, "1.50 KiB"}, {0, measure.Bytes, "0 B"}, {1.5 * (1 << 40), measure.Bytes, "1.50 TiB"},
		{123456789, measure.Rate, "123 MB/s"}, {0.123, measure.Percent, "12.3 %"}, {1234567, measure.Plain, "1,234,567"},
		{1.004, measure.Times, "1.00"}, {-12345.6, measure.Plain, "-12,346"},
	} {
		if got := write(c.v, c.u); got != c.want {
			t.Errorf("%v %s: %q, not %q", c.v, c.u, got, c.want)
		}
	}
}

// found is a result with a contender that failed and one that is missing.
func found() measure.Result {
	s := func(depth string, iops ...float64) (s measure.Series) {
		s.Labels = []measure.Label{{Name: "depth", Value: depth}}
		s.Missing = map[string]string{"ghost": "not in Debian"}
		for _, v := range iops {
			s.Runs = append(s.Runs, measure.Run{Contender: "Homeward", Values: measure.Values{"iops": v}},
				measure.Run{Contender: "peer", Values: measure.Values{"iops": v / 2}}, measure.Run{Contender: "liar", Error: "the disks | differ"})
		}
		return s
	}
	return measure.Result{Rounds: 2, Figures: []measure.Figure{{Name: "requests", Title: "Requests: what they cost", What: "We asked.",
		Series: []measure.Series{s("1", 100, 300), s("16", 1000, 2000)},
		Tables: []measure.Table{{Title: "Requests a second", Rows: []string{"depth"}, Columns: []measure.Column{
			{Head: "Homeward", Contender: "Homeward", Metric: "iops", Spread: true}, {Head: "ratio", Contender: "Homeward", Over: "peer", Metric: "iops", Unit: measure.Times},
			{Head: "liar", Contender: "liar", Metric: "iops"}, {Head: "ghost", Contender: "ghost", Metric: "iops"}}}},
		Plots: []measure.Plot{{Name: "bars", Title: "Bars", Kind: measure.Bars, X: "depth", Metric: "iops", LogY: true},
			{Name: "lines", Title: "Lines", Kind: measure.Lines, X: "depth", Metric: "iops", LogX: true}},
		Goals: []measure.Goal{{Text: "ratio", Want: 1, Have: 2, Unit: measure.Times}, {Text: "speed", Want: 5, Have: 2, Why: "it is slow"}, {Text: "ghosts", Unknown: "none came"}}}}}
}

// What was found is told, and so is who failed, who is missing, and which goals were
// missed; a stored result shows the same again.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, found()); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 1 | 200 (100 to 300) | 2 | failed | missing |", "| 16 | 1,500 (1,000 to 2,000) | 2 | failed | missing |",
		"*ghost* is missing: not in Debian", `*liar* failed (depth 1): the disks \| differ`,
		"| [requests](#requests-what-they-cost): ratio | ≥ 1 | 2 | held |", "**missed**: it is slow", "**not measured**: none came",
		"![Bars](benchmarks/bars.svg)",
	} {
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("no %q in\n%s", want, doc)
		}
	}
	for _, name := range []string{"bars", "lines"} {
		image, err := os.ReadFile(filepath.Join(dir, "benchmarks", name+".svg"))
		if err != nil || !strings.Contains(string(image), "Homeward") {
			t.Errorf("%s: %v, %d bytes", name, err, len(image))
		}
	}
	r, err := Read(filepath.Join(dir, "benchmarks", "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if err := Write(again, r); err != nil {
		t.Fatal(err)
	}
	if other, err := os.ReadFile(filepath.Join(again, "benchmarks.md")); err != nil || !bytes.Equal(doc, other) {
		t.Errorf("a stored result is shown differently: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func TestNumber(t *testing.T) {
	for s, want := range map[string]float64{"0.1": 0.1, "10 %": 10, "8 GiB": 8 << 30, "100ms": 0.1, "10 MB/s": 10 << 20} {
		if got, err := number(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := number("many"); err == nil {
		t.Error("many is a number")
	}
}
