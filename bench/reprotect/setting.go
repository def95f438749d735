package reprotect

import (
	"fmt"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/network"
)

// Contenders besides Homeward's own.
const (
	withRsync   = "rsync"
	withQEMU    = "QEMU bitmap"
	withBtrfs   = "btrfs send"
	withNbdcopy = "nbdcopy"
	withRestic  = "restic"
)

// Sets of them: who reads everything, or copies it, is not asked everywhere.
var (
	byWatching = []string{byMap, withBtrfs, withQEMU}
	byReading  = append([]string{byDigest, withRsync}, byWatching...)
	everybody  = append([]string{inFull, withNbdcopy, withRestic}, byReading...)
)

// setting is what contenders are compared in.
type setting struct {
	disk    int64
	bytes   int64  // that change
	share   string // of the disk, as it is told
	pattern pattern
	link    network.Shape
	who     []string
}

func (s setting) labels() []measure.Label {
	return []measure.Label{{Name: "part", Value: "reprotect"}, {Name: "disk", Value: size(s.disk)}, {Name: "changed", Value: s.share},
		{Name: "bytes", Value: s.amount()}, {Name: "pattern", Value: string(s.pattern)}, {Name: "link", Value: s.link.Name}}
}

// amount is the change in bytes, as it is told.
func (s setting) amount() string { return fmt.Sprintf("%.1f MiB", float64(s.bytes)/float64(mib)) }

func size(n int64) string {
	if n%gib == 0 {
		return fmt.Sprintf("%d GiB", n/gib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

// The share of a disk's bytes that most is told of.
const usual = "1 %"

// growing is the same change for all disks: 1 % of 2 GiB.
const growing = 2 * gib / 100

// settings are those of a mode, by disk size: the images of one are made at a time.
// The full mode takes a cross of settings, not all combinations: every share and
// pattern on the one disk and link, then every link and every disk size with the
// usual change. Who reads everything takes as long whatever changed, and is asked
// where that says something.
func settings(b *measure.Bench) [][]setting {
	plain := network.Plain()
	switch {
	case b.Smoke:
		return [][]setting{{{64 * mib, 64 * mib / 100, usual, random, plain, everybody}}}
	case !b.Full:
		return [][]setting{{{2 * gib, growing, usual, random, plain, byReading}}}
	}
	share := func(percent float64, p pattern, link network.Shape, who []string) setting {
		return setting{2 * gib, int64(2 * float64(gib) * percent / 100), fmt.Sprintf("%g %%", percent), p, link, who}
	}
	const same = "as 1 % of 2 GiB"
	return [][]setting{
		{
			share(0.1, random, plain, byWatching), share(1, random, plain, everybody),
			share(1, random, network.Gigabit(), byWatching), share(1, random, network.Wide(), byWatching),
			share(1, sequential, plain, byWatching), share(10, sequential, plain, byWatching),
		},
		{{32 * gib, growing, same, random, plain, []string{byMap, withQEMU}}},
		{{8 * gib, growing, same, random, plain, byWatching}},
		{share(10, random, plain, byReading), share(50, random, plain, byWatching)}, // last, for they take longest
	}
}
