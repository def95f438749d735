package growth

import "github.com/homeward-dr/homeward/bench/measure"

// present says how the figure's series are shown.
func present(f *measure.Figure) {
	column := func(head, metric string, u measure.Unit) measure.Column {
		return measure.Column{Head: head, Contender: ours, Metric: metric, Unit: u}
	}
	crowd, past, large := measure.Select{label("figure", "machines")}, measure.Select{label("figure", "history")}, measure.Select{label("figure", "sparse")}
	f.Tables = []measure.Table{
		{Title: "Machines on one process server and one master target", Select: crowd, Rows: []string{"machines"}, Columns: []measure.Column{
			column("processors: agent", "cpu.agent", measure.Times), column("process server", "cpu.process_server", measure.Times), column("master target", "cpu.master_target", measure.Times),
			column("master target, each machine", "cpu_each.master_target", measure.Percent),
			column("memory: agent", "peak_bytes.agent", measure.Bytes), column("process server", "peak_bytes.process_server", measure.Bytes), column("master target", "peak_bytes.master_target", measure.Bytes),
			column("age of the newest point, p99", "rpo_p99", measure.Seconds)}},
		{Title: "A day of one-second cuts", Select: past, Rows: []string{"cuts"}, Columns: []measure.Column{
			column("points kept", "points", measure.Plain), column("written", "written_bytes", measure.Bytes), column("volume used", "retention_bytes", measure.Bytes),
			column("memory", "peak_bytes", measure.Bytes), column("cuts a second", "cuts_per_second", measure.Plain), column("slowest", "longest_apply", measure.Seconds),
			column("list the points", "list", measure.Seconds), column("open the oldest", "view_oldest", measure.Seconds), column("a middle one", "view_middle", measure.Seconds), column("the newest", "view_newest", measure.Seconds)}},
		{Title: "Large sparse disks", Select: large, Rows: []string{"disk", "filled"}, Columns: []measure.Column{
			column("map in memory", "map_bytes", measure.Bytes), column("map as it travels", "packed_bytes", measure.Bytes), column("packing it", "pack_seconds", measure.Seconds),
			column("compare by digest", "digest_seconds", measure.Seconds), column("processor", "cpu_seconds", measure.Seconds), column("memory, both sides", "peak_bytes", measure.Bytes)}},
	}
	f.Plots = []measure.Plot{
		{Name: "growth-memory", Title: "Memory of the master target", Kind: measure.Lines, X: "machines", Metric: "peak_bytes.master_target", Unit: measure.Bytes, Select: crowd, LogX: true},
		{Name: "growth-volume", Title: "Volume that history takes", Kind: measure.Lines, X: "cuts", Metric: "retention_bytes", Unit: measure.Bytes, Select: past, LogX: true},
	}
}
