package crowd

import (
	"fmt"

	"github.com/homeward-dr/homeward/bench/measure"
)

// present says how the figure's series are shown, and which goals the largest holds.
func present(f *measure.Figure) {
	column := func(head, metric string, u measure.Unit) measure.Column {
		return measure.Column{Head: head, Contender: ours, Metric: metric, Unit: u}
	}
	rows := []string{"store", "items", "nodes", "jobs"}
	f.Tables = []measure.Table{
		{Title: "What it costs to watch them", Rows: rows, Columns: []measure.Column{
			column("heartbeats a second", "beats_per_second", measure.Plain), column("processor, nodes alone", "cpu_nodes", measure.Percent),
			column("questions about items a second", "asked_per_second", measure.Plain), column("processor, with items", "cpu_items", measure.Percent),
			column("memory", "peak_bytes", measure.Bytes)}},
		{Title: "A page of 100 entries, meanwhile", Rows: rows, Columns: []measure.Column{
			column("items, p50", "page_p50.items", measure.Seconds), column("p99", "page_p99.items", measure.Seconds),
			column("jobs, p50", "page_p50.jobs", measure.Seconds), column("p99", "page_p99.jobs", measure.Seconds),
			column("nodes, p50", "page_p50.nodes", measure.Seconds), column("p99", "page_p99.nodes", measure.Seconds)}},
	}
	for _, s := range f.Series {
		if s.Label("items") != "10000" {
			continue
		}
		on := fmt.Sprintf(" (%s, 10,000 items, 1,000 nodes, 100,000 jobs)", s.Label("store"))
		f.Goals = append(f.Goals,
			most(s, "a page of items, p50"+on, "page_p50.items", 0.05, measure.Seconds),
			most(s, "a page of jobs, p50"+on, "page_p50.jobs", 0.05, measure.Seconds),
			most(s, "a page of nodes, p50"+on, "page_p50.nodes", 0.05, measure.Seconds),
			most(s, "memory"+on, "peak_bytes", 512<<20, measure.Bytes),
			most(s, "processor for heartbeats every 10 s"+on, "cpu_nodes", 0.1, measure.Percent))
	}
}

func most(s measure.Series, text, metric string, want float64, u measure.Unit) measure.Goal {
	v := s.Of(ours, metric)
	g := measure.Goal{Text: text, Want: want, Have: v.Median, Most: true, Unit: u}
	if v.N == 0 {
		g.Unknown = "the run failed"
	}
	return g
}
