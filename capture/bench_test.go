package capture

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

const benchSize = 64 << 20

// nullDisk takes no time, so that only the engine's share is seen.
type nullDisk struct{ block.Disk }

func (nullDisk) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// benchWrites writes blocks of 4 KiB at changing places, from all processors.
func benchWrites(b *testing.B, d block.Disk) {
	b.SetBytes(block.Size)
	b.ReportAllocs()
	var seed atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, block.Size)
		at := seed.Add(1) * 7919
		for pb.Next() {
			at = (at*25214903917 + 11) & (1<<48 - 1)
			if _, err := d.WriteAt(p, at>>16%(benchSize/block.Size)*block.Size); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchMachine(b *testing.B, d block.Disk) *Machine {
	live, err := os.MkdirTemp("/dev/shm", "homeward-capture-")
	if err != nil {
		b.Fatal(err)
	}
	m, err := Open(context.Background(), Config{Disks: []block.Disk{d}, Dir: b.TempDir(), LiveDir: live, FS: durable.OS()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			b.Error(err)
		}
		os.RemoveAll(live)
	})
	return m
}

func benchDisk(b *testing.B) block.Disk {
	d, err := block.OpenFile(context.Background(), "file:"+filepath.Join(b.TempDir(), "disk"), block.Mode{Create: true, Size: benchSize})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d
}

// BenchmarkWrite compares a disk with the same disk captured.
func BenchmarkWrite(b *testing.B) {
	b.Run("bare", func(b *testing.B) { benchWrites(b, benchDisk(b)) })
	b.Run("captured", func(b *testing.B) { benchWrites(b, benchMachine(b, benchDisk(b)).Disk(0)) })
	b.Run("captured, frozen and shipped", func(b *testing.B) {
		m := benchMachine(b, benchDisk(b))
		benchWrites(b, m.Disk(0)) // warms the extents
		c, err := m.Cut(context.Background(), CutOptions{})
		if err != nil {
			b.Fatal(err)
		}
		c.Shipped(0, 0, benchSize/block.Size)
		b.ResetTimer()
		benchWrites(b, m.Disk(0))
	})
	b.Run("engine alone", func(b *testing.B) {
		benchWrites(b, benchMachine(b, nullDisk{block.NewMemory(benchSize)}).Disk(0))
	})
}

// BenchmarkCut is an empty cut with its whole release, and tells how long it held.
func BenchmarkCut(b *testing.B) {
	m := benchMachine(b, nullDisk{block.NewMemory(benchSize)})
	p := make([]byte, block.Size)
	for b.Loop() {
		if _, err := m.Disk(0).WriteAt(p, 0); err != nil {
			b.Fatal(err)
		}
		c, err := m.Cut(context.Background(), CutOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Applied(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(m.Stats().HoldP99.Nanoseconds()), "ns-hold-p99")
}
