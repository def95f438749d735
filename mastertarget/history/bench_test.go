package history_test

import (
	"math/rand/v2"
	"testing"

	"github.com/homeward-dr/homeward/block"
)

// BenchmarkReadAt reads 64 KiB at random as of the oldest of many boundaries.
func BenchmarkReadAt(b *testing.B) {
	l := newLine(b)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		l.step(rng)
		delete(l.content, l.tip)
	}
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		off := rng.Int64N(l.disk.Size()-int64(len(p))) / block.Size * block.Size
		if err := l.chain.ReadAt(l.disk, 0, 1, p, off); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(l.chain.Segments())), "segments")
}
