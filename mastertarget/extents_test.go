package mastertarget_test

import (
	"iter"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// ragged is a disk whose extents begin and end anywhere.
type ragged struct{ plugDisk }

func (d ragged) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		p := make([]byte, d.Size())
		if _, err := d.ReadAt(p, 0); err != nil {
			yield(block.Extent{}, err)
			return
		}
		for end := off + n; off < end; {
			to := min(off+512, end)
			zero := block.IsZero(p[off:to])
			for to < end && block.IsZero(p[to:min(to+512, end)]) == zero {
				to = min(to+512, end)
			}
			if !yield(block.Extent{Off: off, Len: to - off, Zero: zero, Hole: zero}, nil) {
				return
			}
			off = to
		}
	}
}

// A zero run over everything journals what was there, however the disk's extents lie.
func TestApply_LongZeroRuns(t *testing.T) {
	r := newRig(t)
	r.ragged = true
	r.open()
	r.prepare()
	for range 6 {
		maps := r.scribble()
		for i, p := range r.source {
			fill(r.rng, p[512*r.rng.IntN(100):512*(101+r.rng.IntN(100))])
			maps[i].Set(0, maps[i].Blocks())
		}
		body, to := r.cut(homeward.MarkCrash, maps)
		if err := r.put(body, to); err != nil {
			t.Fatal(err)
		}
		for i, p := range r.source {
			clear(p)
			maps[i].Set(0, maps[i].Blocks())
		}
		if body, to = r.cut(homeward.MarkCrash, maps); len(body) > 8192 {
			t.Fatalf("zeroes take %d bytes", len(body))
		}
		if err := r.put(body, to); err != nil {
			t.Fatal(err)
		}
	}
	r.check()
}
