package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward/bench/measure"
)

// markdown writes the document; plots are looked for in the folder named.
func markdown(w io.Writer, r measure.Result, folder string) error {
	d := &document{out: w}
	d.head(r)
	d.goals(r)
	for _, f := range r.Figures {
		d.figure(f, folder)
	}
	return d.err
}

// document remembers the first error of writing.
type document struct {
	out io.Writer
	err error
}

func (d *document) say(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.out, format, args...)
	}
}

func (d *document) head(r measure.Result) {
	m := r.Machine
	d.say("# Homeward, measured\n\n")
	d.say("Everything here was measured on one machine, Homeward and its peers in turns (A B, B A,\nA B ...). Do it again: `make bench` is the quick mode, `make bench FULL=1` the full one, and each\nchapter says which it was. The numbers behind it are in [results.json](benchmarks/results.json).\n\n")
	d.say("* A value is the **median of its runs**, *(a to b)* the least and the most; each chapter says how many.\n")
	d.say("* A **ratio** is the median of ratios pair by pair, of runs that followed each other.\n")
	d.say("* After each run that copies, **all bytes of the disks are compared**. A fast wrong answer counts as failed.\n")
	d.say("* A contender that could not be had is listed as such, with the reason.\n\n")
	d.say("| | |\n| --- | --- |\n")
	for _, row := range [][2]string{
		{"machine", fmt.Sprintf("%d processors (%s), %d MiB of memory", m.Processors, m.Processor, m.MemoryMiB)},
		{"system", fmt.Sprintf("%s, kernel %s, %s", m.System, m.Kernel, m.FileSystem)},
		{"Homeward", fmt.Sprintf("%s, %s", m.Homeward, m.Go)},
		{"load before the first run", write(m.Load, measure.Times)},
		{"when, and how long", fmt.Sprintf("%s, %.0f minutes", r.Began.UTC().Format("2006-01-02 15:04 MST"), r.Took/60)},
		{"seed", fmt.Sprint(r.Seed)},
		{"tools", tools(r.Tools)},
	} {
		d.say("| %s | %s |\n", row[0], row[1])
	}
	d.say("\n")
}

func tools(versions map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		all = append(all, name+" "+versions[name])
	}
	return strings.Join(all, "; ")
}

// goals are told first: they are what a reader wants to know.
func (d *document) goals(r measure.Result) {
	d.say("## Goals\n\n| goal | wanted | measured | |\n| --- | --- | --- | --- |\n")
	for _, f := range r.Figures {
		for _, g := range f.Goals {
			have, verdict := write(g.Have, g.Unit), "held"
			if !g.Met() {
				verdict = "**missed**"
			}
			if g.Unknown != "" {
				have, verdict = "", "**not measured**: "+cell(g.Unknown)
			}
			if g.Why != "" && !g.Met() {
				verdict += ": " + cell(g.Why)
			}
			d.say("| [%s](#%s): %s | %s %s | %s | %s |\n", f.Name, anchor(f.Title), cell(g.Text), sign(g), write(g.Want, g.Unit), have, verdict)
		}
	}
	d.say("\n")
}

func sign(g measure.Goal) string {
	if g.Most {
		return "≤"
	}
	return "≥"
}

// anchor is how a heading is linked to.
func anchor(title string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(title) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteRune(c)
		case c == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

func (d *document) figure(f measure.Figure, folder string) {
	d.say("## %s\n\n%s\n\n*%s*\n\n", f.Title, strings.TrimSpace(f.What), taken(f))
	if f.Error != "" {
		d.say("**Not finished:** %s\n\n", f.Error)
	}
	for _, t := range f.Tables {
		d.table(f, t)
	}
	for _, p := range f.Plots {
		d.say("![%s](%s/%s.svg)\n\n", p.Title, folder, p.Name)
	}
	d.failures(f)
	for _, n := range f.Notes {
		d.say("* %s\n", n)
	}
	if len(f.Notes) > 0 {
		d.say("\n")
	}
}

// taken tells how a figure was measured.
func taken(f measure.Figure) string {
	mode := "quick"
	if f.Full {
		mode = "full"
	}
	least, most := 0, 0
	for _, s := range f.Series {
		for _, c := range s.Contenders() {
			n := 0
			for _, r := range s.Runs {
				if r.Contender == c && r.Error == "" {
					n++
				}
			}
			if n > 0 && (least == 0 || n < least) {
				least = n
			}
			most = max(most, n)
		}
	}
	runs := fmt.Sprintf("%d runs", most)
	switch {
	case least != most:
		runs = fmt.Sprintf("%d to %d runs", least, most)
	case most == 1:
		runs = "one run"
	}
	return fmt.Sprintf("Taken %s in %.0f minutes, %s mode, %s of each contender in each setting.", f.Began.UTC().Format("2006-01-02 15:04 MST"), max(1, f.Took/60), mode, runs)
}

func (d *document) table(f measure.Figure, t measure.Table) {
	d.say("**%s**\n\n", t.Title)
	heads, rules := slices.Clone(t.Rows), make([]string, len(t.Rows))
	for i := range rules {
		rules[i] = "---"
	}
	for _, c := range t.Columns {
		heads, rules = append(heads, c.Head), append(rules, "--:")
	}
	d.say("| %s |\n| %s |\n", strings.Join(heads, " | "), strings.Join(rules, " | "))
	for _, s := range f.Series {
		if !t.Select.Takes(s) {
			continue
		}
		var row []string
		for _, name := range t.Rows {
			row = append(row, cell(s.Label(name)))
		}
		for _, c := range t.Columns {
			row = append(row, value(s, c))
		}
		d.say("| %s |\n", strings.Join(row, " | "))
	}
	d.say("\n")
}

// value of a column in a series: a contender that failed or is missing says so.
func value(s measure.Series, c measure.Column) string {
	if _, missing := s.Missing[c.Contender]; missing {
		return "missing"
	}
	for _, r := range s.Runs {
		if r.Contender == c.Contender && r.Error != "" {
			return "failed"
		}
	}
	if c.Over != "" {
		return spread(s.Ratio(c.Contender, c.Over, c.Metric), c.Unit, c.Spread)
	}
	return spread(s.Of(c.Contender, c.Metric), c.Unit, c.Spread)
}

// failures lists who was missing or failed, and why, each reason once.
func (d *document) failures(f measure.Figure) {
	said := map[string]bool{}
	line := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !said[text] {
			said[text] = true
			d.say("* %s\n", text)
		}
	}
	for _, s := range f.Series {
		for _, name := range slices.Sorted(maps.Keys(s.Missing)) {
			line("*%s* is missing: %s", name, cell(s.Missing[name]))
		}
		for _, r := range s.Runs {
			if r.Error != "" {
				line("*%s* failed (%s): %s", r.Contender, setting(s), cell(r.Error))
			}
		}
	}
	if len(said) > 0 {
		d.say("\n")
	}
}

// setting names a series.
func setting(s measure.Series) string {
	var all []string
	for _, l := range s.Labels {
		all = append(all, l.Name+" "+l.Value)
	}
	return strings.Join(all, ", ")
}

// cell makes a text fit into a table.
func cell(s string) string { return strings.NewReplacer("\n", " ", "|", "\\|").Replace(s) }
