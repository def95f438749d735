package recovery

import (
	"math"

	"github.com/homeward-dr/homeward/bench/measure"
)

// present says how the figure's series are shown, and which goals they hold.
func present(f *measure.Figure) {
	rpo, rto := measure.Select{label("figure", "rpo")}, measure.Select{label("figure", "rto")}
	column := func(head, metric string, u measure.Unit) measure.Column {
		return measure.Column{Head: head, Contender: ours, Metric: metric, Unit: u}
	}
	between := func(head, metric string, u measure.Unit) measure.Column {
		c := column(head, metric, u)
		c.Spread = true
		return c
	}
	f.Tables = []measure.Table{
		{Title: "Age of the newest point while fio writes 4 KiB at random", Select: rpo, Rows: []string{"interval", "load"}, Columns: []measure.Column{
			column("written", "bytes_per_second", measure.Rate), column("p50", "rpo_p50", measure.Seconds), column("p99", "rpo_p99", measure.Seconds),
			column("worst", "rpo_max", measure.Seconds), between("p99 in intervals", "intervals_p99", measure.Times), column("a cut holds writes, p99", "hold_p99", measure.Seconds)}},
		{Title: "Time to recover", Select: rto, Rows: []string{"points", "history"}, Columns: []measure.Column{
			between("newest point: own work", "work_latest", measure.Seconds), between("machine runs", "runs_latest", measure.Seconds),
			between("oldest point: own work", "work_past", measure.Seconds), between("machine runs", "runs_past", measure.Seconds)}},
		{Title: "Time to look", Select: rto, Rows: []string{"points", "history"}, Columns: []measure.Column{
			between("list the points", "list", measure.Seconds), between("first MiB of the newest read", "view_newest", measure.Seconds),
			between("first MiB of the oldest read", "view_oldest", measure.Seconds)}},
	}
	f.Plots = []measure.Plot{{Name: "recovery-rpo", Title: "Age of the newest point, p99, at 10 MB/s", Kind: measure.Bars, X: "interval", Metric: "rpo_p99", Unit: measure.Seconds,
		Select: append(rpo, label("load", "10 MB/s"))}}
	f.Goals = []measure.Goal{
		worst(f, append(rpo, label("load", "10 MB/s")), "intervals_p99", "RPO p99, in minimum intervals, at 10 MB/s", 2, measure.Times),
		worst(f, rto, "work_latest", "RTO latest, own work", 1, measure.Seconds),
		worst(f, rto, "view_newest", "a view of the newest point readable", 0.1, measure.Seconds),
		worst(f, rto, "view_oldest", "a view of the oldest point readable", 0.1, measure.Seconds),
	}
}

// worst is the goal that a metric's median is at most want, in each of the series.
func worst(f *measure.Figure, of measure.Select, metric, text string, want float64, u measure.Unit) measure.Goal {
	g := measure.Goal{Text: text, Want: want, Most: true, Unit: u, Have: math.Inf(-1)}
	for _, s := range f.Series {
		if v := s.Of(ours, metric); of.Takes(s) && v.N > 0 {
			g.Have = max(g.Have, v.Median)
		} else if of.Takes(s) {
			g.Unknown = "a run failed"
		}
	}
	if math.IsInf(g.Have, -1) {
		g.Have, g.Unknown = 0, "no run"
	}
	return g
}
