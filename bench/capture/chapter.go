package capture

import (
	"context"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/peer"
)

// The contenders' names.
const (
	nameOff         = "Homeward, capture off"
	nameOn          = "Homeward"
	nameReplicating = "Homeward, replicating"
	nameNbdkit      = "nbdkit file"
	nameQEMU        = "qemu-nbd"
	nameFile        = "bare file"
	nameMirror      = "QEMU mirror, write-blocking"
	nameBackground  = "QEMU mirror, background"
)

// The parts of the chapter, by their label.
const (
	partRequests    = "requests"
	partReplication = "replication"
	partHold        = "hold"
)

// Chapter is the cost of capture. Quick takes about a minute, full about 25.
func Chapter() measure.Chapter {
	return measure.Chapter{
		Name: "capture", What: "what a guest's requests cost with capture and with replication, and what a cut holds", Quick: true,
		Needs:   needs(),
		Measure: func(ctx context.Context, b *measure.Bench) (measure.Figure, error) { return chapter(ctx, b, planOf(b)) },
	}
}

// needs are the programs besides ours. Without fio nothing is measured.
func needs() []measure.Requirement {
	return []measure.Requirement{{Program: "fio", Package: "fio"}, {Program: "nbdkit", Package: "nbdkit"},
		{Program: "qemu-nbd", Package: "qemu-utils"}, {Program: "qemu-storage-daemon", Package: "qemu-system-common"}}
}

// missing says why one of them cannot be had; empty: it is there.
func missing(ctx context.Context, program string) string {
	for _, n := range needs() {
		if n.Program == program {
			return peer.Find(ctx, n, false).Missing
		}
	}
	return ""
}

// plan is which settings are measured, and how long.
type plan struct {
	places      []string // of requests and of replication
	size        int64    // of an image
	requests    []workload
	run         time.Duration // of one run of requests
	replication []workload
	replicated  time.Duration // of one run with replication
	rounds      int           // of runs with replication
	holds       []workload
	held        time.Duration // of one run for holds
}

const (
	onTmpfs      = "tmpfs"
	onFileSystem = "file system"
)

// planOf is the plan of a mode.
func planOf(b *measure.Bench) plan {
	if b.Smoke {
		w := []workload{{"randwrite", "4k", 4}}
		return plan{places: []string{onTmpfs}, size: 64 << 20, requests: w, run: 100 * time.Millisecond,
			replication: w, replicated: 100 * time.Millisecond, rounds: 1, holds: w, held: 500 * time.Millisecond}
	}
	if !b.Full {
		return plan{
			places: []string{onTmpfs}, size: 256 << 20,
			requests: []workload{{"randread", "4k", 16}, {"randwrite", "4k", 1}, {"randwrite", "4k", 16}, {"write", "1m", 16}},
			run:      250 * time.Millisecond, replication: []workload{{"randwrite", "4k", 16}}, replicated: 1500 * time.Millisecond,
			rounds: min(b.Rounds, 3), holds: []workload{{"randwrite", "4k", 16}}, held: 3 * time.Second,
		}
	}
	p := plan{places: []string{onTmpfs, onFileSystem}, size: 512 << 20, run: 400 * time.Millisecond, replicated: 2 * time.Second,
		rounds: b.Rounds, held: 5 * time.Second}
	for _, w := range []workload{{rw: "randread", size: "4k"}, {rw: "randwrite", size: "4k"}, {rw: "randwrite", size: "64k"},
		{rw: "read", size: "1m"}, {rw: "write", size: "1m"}} {
		for _, w.depth = range []int{1, 16, 32} {
			p.requests = append(p.requests, w)
		}
	}
	p.replication = []workload{{"randread", "4k", 16}, {"randwrite", "4k", 1}, {"randwrite", "4k", 16}, {"randwrite", "64k", 16}, {"write", "1m", 16}}
	p.holds = []workload{{"randwrite", "4k", 1}, {"randwrite", "4k", 16}, {"randwrite", "64k", 16}, {"write", "1m", 16}}
	return p
}

// at is the plan of a place: all of it in memory; on the file system, whose writing
// back makes runs differ more than servers do, one queue depth.
func (p plan) at(place string) plan {
	if place != onFileSystem {
		return p
	}
	deep := func(all []workload) (some []workload) {
		for _, w := range all {
			if w.depth == 16 {
				some = append(some, w)
			}
		}
		return some
	}
	p.requests = deep(p.requests)
	p.replication, p.holds = []workload{{"randwrite", "4k", 16}}, []workload{{"randwrite", "4k", 16}}
	return p
}

// chapter measures the plan. What was measured before something failed is kept.
func chapter(ctx context.Context, b *measure.Bench, p plan) (f measure.Figure, err error) {
	f = describe(p)
	if why := missing(ctx, "fio"); why != "" {
		return f, fmt.Errorf("nothing can be measured without fio: %s", why)
	}
	for _, name := range p.places {
		parent := b.Memory
		if name == onFileSystem {
			parent = b.Dir
		}
		if err := onePlace(ctx, b, p.at(name), name, parent, &f); err != nil {
			return f, fmt.Errorf("image on %s: %w", name, err)
		}
	}
	f.Goals = goals(f.Series)
	return f, nil
}

// onePlace measures all parts in one place.
func onePlace(ctx context.Context, b *measure.Bench, p plan, name, parent string, f *measure.Figure) (err error) {
	for _, part := range []func(context.Context, *measure.Bench, plan, *place, *measure.Figure) error{requests, replication} {
		at, err := openPlace(ctx, b, name, parent, p.size)
		if err != nil {
			return err
		}
		err = part(ctx, b, p, at, f)
		if e := at.close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}
