package mastertarget

import (
	"iter"
	"slices"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/mastertarget/overlay"
)

// guard is a replica disk that a machine writes to itself, once its view was
// promoted. Before a block is overwritten for the first time its content at the
// promoted point is kept, durably, in the past: so that point and older ones can
// still be served. A region that was kept before costs nothing.
type guard struct {
	disk  block.Disk // the replica
	point *pointDisk // the promoted point, which looks into past first
	past  *overlay.Store
	size  int64
	// lose is asked what to do when something cannot be kept: nil says that older
	// points were given up and the write may go on.
	lose func(error) error

	latch overlay.Latch
	saved *block.Map // blocks that are in past, durably
}

// regionBlocks is what is kept at once for a machine's write: 256 KiB, for one
// pair of flushes.
const regionBlocks = 64

func newGuard(disk block.Disk, point *pointDisk, past *overlay.Store, lose func(error) error) *guard {
	return &guard{disk: disk, point: point, past: past, size: point.Size(), lose: lose,
		saved: block.NewMap(block.BlocksOf(point.Size()))}
}

func (g *guard) Size() int64                             { return g.size }
func (g *guard) Close() error                            { return nil }
func (g *guard) Flush() error                            { return g.disk.Flush() }
func (g *guard) ReadAt(p []byte, off int64) (int, error) { return g.disk.ReadAt(p, off) }

func (g *guard) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return block.Extents(g.disk, off, n)
}

func (g *guard) WriteAt(p []byte, off int64) (int, error) {
	if err := g.keep(off, int64(len(p))); err != nil {
		return 0, err
	}
	return g.disk.WriteAt(p, off)
}

func (g *guard) Zero(off, n int64, punch bool) error {
	if err := g.keep(off, n); err != nil {
		return err
	}
	return g.disk.Zero(off, n, punch)
}

// keep makes sure that what a range held at the point is in the past.
func (g *guard) keep(off, n int64) error {
	if n <= 0 || off < 0 || off+n > g.size {
		return nil // the disk will refuse it, or there is nothing to do
	}
	if g.isSaved(off/block.Size, (off+n-1)/block.Size+1) {
		return nil
	}
	const region = regionBlocks * block.Size
	first, last := off/region, (off+n-1)/region
	const step = 64 // regions flushed together
	for ; first <= last; first += step {
		if err := g.keepRegions(block.Run{Start: first, Count: min(step, last-first+1)}); err != nil {
			return err
		}
	}
	return nil
}

func (g *guard) isSaved(start, end int64) bool {
	return g.saved.CountRange(start, end-start) == end-start
}

func (g *guard) keepRegions(regions block.Run) error {
	g.latch.Lock(regions)
	defer g.latch.Unlock(regions)
	start := regions.Start * regionBlocks
	end := min(start+regions.Count*regionBlocks, block.BlocksOf(g.size))
	if g.isSaved(start, end) {
		return nil
	}
	return g.save(func(each func(start, end int64) error) error { return each(start, end) })
}

// keepBlocks keeps those blocks of [start, end) that are in a map, and no others,
// all with one pair of flushes: what a promotion is about to overwrite is known.
func (g *guard) keepBlocks(start, end int64, blocks *block.Map) error {
	end = min(end, block.BlocksOf(g.size))
	if start >= end || !blocks.HasAny(start, end-start) {
		return nil
	}
	regions := block.Run{Start: start / regionBlocks, Count: (end-1)/regionBlocks - start/regionBlocks + 1}
	g.latch.Lock(regions)
	defer g.latch.Unlock(regions)
	runs := slices.Collect(within(blocks, start, end)) // the machine may add to the map meanwhile
	return g.save(func(each func(start, end int64) error) error {
		for _, r := range runs {
			if err := each(r.Start, r.Start+r.Count); err != nil {
				return err
			}
		}
		return nil
	})
}

// within are the runs of a map in [start, end).
func within(m *block.Map, start, end int64) iter.Seq[block.Run] {
	return func(yield func(block.Run) bool) {
		for r := range m.Runs(start) {
			if r.Start >= end || !yield(block.Run{Start: r.Start, Count: min(r.Count, end-r.Start)}) {
				return
			}
		}
	}
}

// save copies ranges into the past and makes them durable there; the caller holds
// the latch of their regions.
func (g *guard) save(ranges func(each func(start, end int64) error) error) error {
	if g.point.replica.pastLost.Load() {
		return nil
	}
	err := ranges(g.copyToPast)
	if err == nil {
		err = g.past.Flush()
	}
	if err != nil {
		return g.lose(err)
	}
	return ranges(func(start, end int64) error {
		g.saved.Set(start, end-start)
		return nil
	})
}

// copyToPast copies the blocks of [start, end) that the past has not yet.
func (g *guard) copyToPast(start, end int64) error {
	buf := pieces.Get().(*piece)
	defer pieces.Put(buf)
	for start < end {
		if g.past.Held().Has(start) {
			start++
			continue
		}
		n := int64(1)
		for start+n < end && n < windowBlocks && !g.past.Held().Has(start+n) {
			n++
		}
		off := start * block.Size
		p := buf[:min(n*block.Size, g.size-off)]
		if _, err := g.point.ReadAt(p, off); err != nil {
			return err
		}
		var err error
		if block.IsZero(p) {
			err = g.past.Zero(off, int64(len(p)))
		} else {
			err = g.past.WriteAt(p, off)
		}
		if err != nil {
			return err
		}
		start += n
	}
	return nil
}
