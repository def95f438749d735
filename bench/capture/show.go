package capture

import (
	"fmt"

	"github.com/homeward-dr/homeward/bench/measure"
)

// describe says what is measured and how it is to be shown.
func describe(p plan) measure.Figure {
	f := measure.Figure{Title: "What a guest pays", What: fmt.Sprintf(`fio (its nbd engine, one connection over a unix socket) writes and reads
an image of %d MiB filled with random bytes, through the page cache everywhere: nbdkit's file plugin as it is without
options, qemu-nbd and QEMU's mirror with --cache=writeback, and the bare file by fio's io_uring engine without O_DIRECT. "Homeward" is the
agent with capture on, "capture off" its NBD server alone. Server and client share the processors. Before it is measured,
every server is given checksummed blocks to keep, and they are read back.

With replication, an agent, a process server and a master target run as processes; a cut is made each second, shipped over mutual
TLS on loopback, stored with the old content, made durable, and applied. QEMU's storage daemon mirrors over plain NBD on loopback to a
qemu-nbd, and makes nothing durable before the end. After every run the writing ends, what is left is drained, and both disks are
compared byte by byte: a difference fails the run. The servers' processor time counts until then.

Holds are of cuts that are asked for each %v while fio writes.`, p.size>>20, holdInterval)}
	for _, place := range p.places {
		f.Tables = append(f.Tables, requestTables(place)...)
		f.Tables = append(f.Tables, replicationTable(place), holdTable(place))
		f.Plots = append(f.Plots, plots(place)...)
	}
	return f
}

func selected(part, place string) measure.Select {
	return measure.Select{{Name: "part", Value: part}, {Name: "image", Value: place}}
}

var rows = []string{"pattern", "queue depth"}

func requestTables(place string) []measure.Table {
	of := selected(partRequests, place)
	return []measure.Table{
		{Title: "Requests a second, image on " + place, Select: of, Rows: rows, Columns: []measure.Column{
			{Head: "Homeward", Contender: nameOn, Metric: "iops", Spread: true},
			{Head: "capture off", Contender: nameOff, Metric: "iops"},
			{Head: "nbdkit file", Contender: nameNbdkit, Metric: "iops", Spread: true},
			{Head: "qemu-nbd", Contender: nameQEMU, Metric: "iops"},
			{Head: "bare file", Contender: nameFile, Metric: "iops"},
			{Head: "Homeward / nbdkit", Contender: nameOn, Over: nameNbdkit, Metric: "iops", Unit: measure.Times, Spread: true},
			{Head: "Homeward / qemu-nbd", Contender: nameOn, Over: nameQEMU, Metric: "iops", Unit: measure.Times},
			{Head: "Homeward / capture off", Contender: nameOn, Over: nameOff, Metric: "iops", Unit: measure.Times},
		}},
		{Title: "Latency, image on " + place, Select: of, Rows: rows, Columns: latencies(nameOn, nameNbdkit, nameQEMU)},
		{Title: "Bytes a second, and processor time of a request, server + fio, image on " + place, Select: of, Rows: rows, Columns: []measure.Column{
			{Head: "Homeward", Contender: nameOn, Metric: "bytes_per_second", Unit: measure.Rate},
			{Head: "server", Contender: nameOn, Metric: "server_cpu", Unit: measure.Seconds},
			{Head: "fio", Contender: nameOn, Metric: "client_cpu", Unit: measure.Seconds},
			{Head: "nbdkit", Contender: nameNbdkit, Metric: "bytes_per_second", Unit: measure.Rate},
			{Head: "server", Contender: nameNbdkit, Metric: "server_cpu", Unit: measure.Seconds},
			{Head: "fio", Contender: nameNbdkit, Metric: "client_cpu", Unit: measure.Seconds},
			{Head: "qemu-nbd", Contender: nameQEMU, Metric: "bytes_per_second", Unit: measure.Rate},
			{Head: "server", Contender: nameQEMU, Metric: "server_cpu", Unit: measure.Seconds},
			{Head: "fio", Contender: nameQEMU, Metric: "client_cpu", Unit: measure.Seconds},
		}},
	}
}

func latencies(contenders ...string) (columns []measure.Column) {
	for _, c := range contenders {
		for _, p := range [][2]string{{"p50", "latency_p50"}, {"p99", "latency_p99"}, {"p99.9", "latency_p999"}} {
			columns = append(columns, measure.Column{Head: c + " " + p[0], Contender: c, Metric: p[1], Unit: measure.Seconds})
		}
	}
	return columns
}

func replicationTable(place string) measure.Table {
	return measure.Table{Title: "Requests a second while they are replicated, image on " + place, Select: selected(partReplication, place), Rows: rows,
		Columns: []measure.Column{
			{Head: "Homeward, replicating", Contender: nameReplicating, Metric: "iops", Spread: true},
			{Head: "without", Contender: nameOn, Metric: "iops", Spread: true},
			{Head: "mirror, write-blocking", Contender: nameMirror, Metric: "iops", Spread: true},
			{Head: "mirror, background", Contender: nameBackground, Metric: "iops", Spread: true},
			{Head: "with / without", Contender: nameReplicating, Over: nameOn, Metric: "iops", Unit: measure.Times, Spread: true},
			{Head: "with / write-blocking", Contender: nameReplicating, Over: nameMirror, Metric: "iops", Unit: measure.Times, Spread: true},
			{Head: "with / background", Contender: nameReplicating, Over: nameBackground, Metric: "iops", Unit: measure.Times},
			{Head: "p99", Contender: nameReplicating, Metric: "latency_p99", Unit: measure.Seconds},
			{Head: "write-blocking p99", Contender: nameMirror, Metric: "latency_p99", Unit: measure.Seconds},
			{Head: "servers' CPU per request", Contender: nameReplicating, Metric: "server_cpu", Unit: measure.Seconds},
			{Head: "write-blocking's", Contender: nameMirror, Metric: "server_cpu", Unit: measure.Seconds},
		}}
}

func holdTable(place string) measure.Table {
	return measure.Table{Title: "How long cuts hold writes, image on " + place, Select: selected(partHold, place), Rows: rows,
		Columns: []measure.Column{
			{Head: "cuts", Contender: nameReplicating, Metric: "cuts"},
			{Head: "p50", Contender: nameReplicating, Metric: "hold_p50", Unit: measure.Seconds},
			{Head: "p99", Contender: nameReplicating, Metric: "hold_p99", Unit: measure.Seconds},
			{Head: "longest", Contender: nameReplicating, Metric: "hold_max", Unit: measure.Seconds},
		}}
}

func plots(place string) []measure.Plot {
	short := map[string]string{onTmpfs: "tmpfs", onFileSystem: "fs"}[place]
	with := func(s measure.Select, name, value string) measure.Select {
		return append(s, measure.Label{Name: name, Value: value})
	}
	return []measure.Plot{
		{Name: "capture-requests-" + short, Title: "Requests a second at queue depth 16, image on " + place, Kind: measure.Bars,
			Select: with(selected(partRequests, place), "queue depth", "16"), X: "pattern", Metric: "iops", LogY: true,
			Contenders: []string{nameOn, nameOff, nameNbdkit, nameQEMU, nameFile}},
		{Name: "capture-cpu-" + short, Title: "Servers' processor time of a request at queue depth 16, image on " + place, Kind: measure.Bars,
			Select: with(selected(partRequests, place), "queue depth", "16"), X: "pattern", Metric: "server_cpu", Unit: measure.Seconds, LogY: true,
			Contenders: []string{nameOn, nameOff, nameNbdkit, nameQEMU}},
		{Name: "capture-replication-" + short, Title: "Requests a second while replicating, queue depth 16, image on " + place, Kind: measure.Bars,
			Select: with(selected(partReplication, place), "queue depth", "16"), X: "pattern", Metric: "iops", LogY: true,
			Contenders: []string{nameOn, nameReplicating, nameMirror, nameBackground}},
	}
}

// goals holds what was found against what Homeward set itself.
func goals(series []measure.Series) []measure.Goal {
	over := func(part, a, b string) (medians []float64, where []string) {
		for _, s := range series {
			if s.Label("part") != part {
				continue
			}
			if r := s.Ratio(a, b, "iops"); r.N > 0 {
				medians = append(medians, r.Median)
				where = append(where, fmt.Sprintf("%s at depth %s on %s", s.Label("pattern"), s.Label("queue depth"), s.Label("image")))
			}
		}
		return medians, where
	}
	least := func(text, part, a, b string, want float64) measure.Goal {
		g := measure.Goal{Text: text, Want: want, Unit: measure.Times}
		medians, where := over(part, a, b)
		if len(medians) == 0 {
			g.Unknown = b + " was not measured"
			return g
		}
		at, below := 0, 0
		for i, m := range medians {
			if m < medians[at] {
				at = i
			}
			if m < want {
				below++
			}
		}
		if g.Have = medians[at]; !g.Met() {
			g.Why = fmt.Sprintf("%d of %d rows are below; the least is %s", below, len(medians), where[at])
		}
		return g
	}
	most := measure.Goal{Text: "requests with capture on, over nbdkit file: in most rows (the median of rows)", Want: 1.2, Unit: measure.Times}
	if medians, _ := over(partRequests, nameOn, nameNbdkit); len(medians) > 0 {
		most.Have = measure.SpreadOf(medians).Median
	} else {
		most.Unknown = nameNbdkit + " was not measured"
	}
	return []measure.Goal{
		least("requests with capture on, over nbdkit file: in every row (the least of rows)", partRequests, nameOn, nameNbdkit, 1),
		most,
		least("requests while replicating, over those without (the least of rows)", partReplication, nameReplicating, nameOn, 0.6),
		least("requests while replicating, over QEMU's mirror, write-blocking (the least of rows)", partReplication, nameReplicating, nameMirror, 1),
		holdGoal(series),
	}
}

func holdGoal(series []measure.Series) measure.Goal {
	g := measure.Goal{Text: "hold of a cut, 99th percentile (the largest of rows)", Want: 0.005, Most: true, Unit: measure.Seconds, Unknown: "no cut was made"}
	for _, s := range series {
		if hold := s.Of(nameReplicating, "hold_p99"); hold.N > 0 {
			g.Have, g.Unknown = max(g.Have, hold.Max), ""
		}
	}
	return g
}
