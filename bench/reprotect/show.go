package reprotect

import (
	"strings"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/network"
)

const what = `Two sites are two network namespaces on one machine, joined by a link of the shape named
(*loopback*: a veth pair as it is; *1 Gbit/s*: a token bucket; *100 Mbit/s, 40 ms*: a forwarder
between two TUN devices that adds 20 ms each way). **Wire bytes** are those of the interfaces'
queues, both directions, every packet with its headers; for Homeward what its roles say to their
controller is included. **CPU** and **peak memory** are of each side's processes: for Homeward all
three roles of a site, for the others the programs that they are. What the kernel does in threads
of its own is in nobody's account. Images are on the same disk, in the page cache as far as they
fit; they hold data that does not compress in their first 4 GiB, the rest was never written.

Each run begins with two equal disks, of which one is then changed; this is not timed. It ends
when the other one is durable (fsync), and is followed by a comparison of all bytes.

* *Homeward, by map*: the home site is lost, the machine fails over, its disk changes, the
  failover is committed, the home site comes back. Timed is ` + "`Reprotect`" + `: maps are handed over and
  joined, the old disks become the replica and keep what they held as a branch, 64 blocks of each
  disk outside the maps are compared, what differs travels, the first recovery point stands.
* *Homeward, by digest*: the same, but the home site's agent has lost what it knew: every block is
  suspect, and both sides' digests are compared.
* *Homeward, full copy*: protection begins anew, to new disks.
* *rsync*: ` + "`--inplace --no-whole-file --ignore-times`" + ` to an rsync daemon, no encryption.
* *QEMU bitmap*: the disk changes through a qemu-storage-daemon that keeps a dirty bitmap of 64 KiB
  clusters; timed is ` + "`blockdev-backup sync=incremental`" + ` to qemu-nbd, no encryption.
* *btrfs send*: the disk is a file; timed are a snapshot and ` + "`btrfs send -p | btrfs receive`" + ` over a
  bare TCP connection, no encryption.
* *nbdcopy*: the whole image to nbdkit, no encryption.
* *restic*: ` + "`backup`" + ` to a repository that rclone serves, which has a snapshot from before the
  change, and ` + "`restore`" + ` there: a repository is no disk yet. No TLS; restic encrypts by itself.

*Digest speed*: one side alone digests its disk, read by both processors. *Bulk copy*: two
processes move bodies of 8 MiB, three at once, over mutual TLS 1.3 between the sites, and keep
nothing: Homeward's transport, and a bare HTTP/1.1 client and server.`

func present(f *measure.Figure) {
	part := measure.Select{label("part", "reprotect")}
	rows := []string{"disk", "changed", "pattern", "link"}
	peers := []string{byMap, byDigest, inFull, withBtrfs, withQEMU, withRsync, withRestic, withNbdcopy}
	table := func(title, metric string, unit measure.Unit, who []string, over string, spread bool) {
		t := measure.Table{Title: title, Select: part, Rows: rows}
		for _, name := range who {
			t.Columns = append(t.Columns, measure.Column{Head: name, Contender: name, Metric: metric, Over: over, Unit: unit, Spread: spread})
		}
		f.Tables = append(f.Tables, t)
	}
	table("Time", "seconds", measure.Seconds, peers, "", true)
	table("Time, in times of Homeward by map", "seconds", measure.Times, peers[1:], byMap, false)
	table("Wire bytes for each byte changed", "wire_over_dirty", measure.Times, peers, "", false)
	table("Bytes read, on both sides", "read_bytes", measure.Bytes, peers, "", false)
	table("Processor time at the source", "cpu_seconds.source", measure.Seconds, peers, "", false)
	table("Processor time at the target", "cpu_seconds.target", measure.Seconds, peers, "", false)
	table("Peak memory at the source", "peak_bytes.source", measure.Bytes, peers, "", false)
	table("Peak memory at the target", "peak_bytes.target", measure.Bytes, peers, "", false)
	speed := measure.Table{Title: "Digest speed", Select: measure.Select{label("part", "digest")}, Rows: []string{"disk", "machine's disk", "cache"}}
	for _, name := range []string{bareRead, atSource, atTarget} {
		speed.Columns = append(speed.Columns, measure.Column{Head: name, Contender: name, Metric: "rate", Unit: measure.Rate, Spread: true})
	}
	for _, name := range []string{atSource, atTarget} {
		speed.Columns = append(speed.Columns, measure.Column{Head: name + ": time over bare reading", Contender: name, Metric: "seconds", Over: bareRead, Unit: measure.Times})
	}
	bulk := measure.Table{Title: "Bulk copy over TLS", Select: measure.Select{label("part", "bulk")}, Rows: []string{"bytes"}}
	for _, name := range []string{ourTransport, bareHTTP} {
		bulk.Columns = append(bulk.Columns, measure.Column{Head: name, Contender: name, Metric: "rate", Unit: measure.Rate, Spread: true})
	}
	bulk.Columns = append(bulk.Columns, measure.Column{Head: "ratio", Contender: ourTransport, Metric: "rate", Over: bareHTTP, Unit: measure.Times, Spread: true})
	f.Tables = append(f.Tables, speed, bulk)
	f.Plots = plots(part)
	f.Goals = goals(f.Series)
}

func plots(part measure.Select) []measure.Plot {
	with := func(more ...measure.Label) measure.Select { return append(append(measure.Select{}, part...), more...) }
	here, there := label("link", network.Plain().Name), label("pattern", string(random))
	small := label("disk", size(2*gib))
	who := []string{byMap, byDigest, withBtrfs, withQEMU, withRsync}
	return []measure.Plot{
		{Name: "reprotect-share", Title: "Time, by the share of 2 GiB that changed (random 4 KiB)", Select: with(here, there, small), Kind: measure.Bars,
			X: "changed", Metric: "seconds", Unit: measure.Seconds, Contenders: who, LogY: true},
		{Name: "reprotect-wire", Title: "Wire bytes for each byte changed (random 4 KiB of 2 GiB)", Select: with(here, there, small), Kind: measure.Bars,
			X: "changed", Metric: "wire_over_dirty", Unit: measure.Times, Contenders: who, LogY: true},
		{Name: "reprotect-link", Title: "Time, by link (1 % of 2 GiB, random 4 KiB)", Select: with(there, small, label("changed", usual)), Kind: measure.Bars,
			X: "link", Metric: "seconds", Unit: measure.Seconds, Contenders: who, LogY: true},
		{Name: "reprotect-size", Title: "Time, by size of the disk, the same bytes changed", Select: with(here, there, label("bytes", setting{bytes: growing}.amount())), Kind: measure.Lines,
			X: "disk", Metric: "seconds", Unit: measure.Seconds, Contenders: who, LogX: true, LogY: true},
	}
}

// found is the series that has all these labels; without any, an empty one.
func found(all []measure.Series, want ...measure.Label) measure.Series {
	for _, s := range all {
		if measure.Select(want).Takes(s) {
			return s
		}
	}
	return measure.Series{}
}

func goals(all []measure.Series) (goals []measure.Goal) {
	add := func(text string, want float64, most bool, unit measure.Unit, s measure.Series, v measure.Spread, who ...string) {
		g := measure.Goal{Text: text, Want: want, Have: v.Median, Most: most, Unit: unit}
		if v.N == 0 {
			g.Unknown = whyNot(s, who...)
		}
		goals = append(goals, g)
	}
	most, least := true, false
	s := found(all, label("part", "reprotect"), label("changed", usual), label("pattern", string(random)), label("link", network.Plain().Name))
	of := "reprotect by map, 1 % random 4 KiB: "
	add(of+"wire bytes, of those changed", 1.10, most, measure.Times, s, s.Of(byMap, "wire_over_dirty"), byMap)
	add(of+"bytes read to find the differences", 0, most, measure.Bytes, s, s.Of(byMap, "search_bytes"), byMap)
	add(of+"time, of btrfs send and receive", 1, most, measure.Times, s, s.Ratio(byMap, withBtrfs, "seconds"), byMap, withBtrfs)
	add(of+"times as fast as rsync", 10, least, measure.Times, s, s.Ratio(withRsync, byMap, "seconds"), byMap, withRsync)
	add(of+"times as fast as restic", 3, least, measure.Times, s, s.Ratio(withRestic, byMap, "seconds"), byMap, withRestic)

	large := found(all, label("part", "reprotect"), label("disk", size(32*gib)))
	grown := large.Of(byMap, "seconds")
	if small := s.Of(byMap, "seconds"); small.N > 0 {
		grown.Median /= small.Median
	} else {
		grown.N = 0
	}
	add("reprotect by map: time for 32 GiB, of that for 2 GiB with as many bytes changed", 1.2, most, measure.Times, large, grown, byMap)

	for _, side := range []string{atSource, atTarget} {
		d := found(all, label("part", "digest"), label("machine's disk", itsOwn), label("cache", cached))
		add("digest speed of the "+side+", cached", 2e9, least, measure.Rate, d, d.Of(side, "rate"), side)
		d = found(all, label("part", "digest"), label("machine's disk", itsOwn), label("cache", uncached))
		add("digest of the "+side+", not cached: time, of bare reading", 1.3, most, measure.Times, d, d.Ratio(side, bareRead, "seconds"), side, bareRead)
	}
	b := found(all, label("part", "bulk"))
	add("bulk copy over TLS, of bare HTTP/1.1 over TLS 1.3", 0.8, least, measure.Times, b, b.Ratio(ourTransport, bareHTTP, "rate"), ourTransport, bareHTTP)
	return goals
}

// whyNot says why a series has no values of contenders.
func whyNot(s measure.Series, who ...string) string {
	var why []string
	for _, name := range who {
		if text := s.Missing[name]; text != "" {
			why = append(why, name+": "+text)
		}
		for _, r := range s.Runs {
			if r.Contender == name && r.Error != "" {
				line, _, _ := strings.Cut(r.Error, "\n")
				why = append(why, name+": "+line)
			}
		}
	}
	if len(why) == 0 {
		return "only the full mode measures it"
	}
	return strings.Join(why, "; ")
}
