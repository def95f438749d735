package block_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward/block"
)

// image is a raw image full of random bytes, in the page cache.
func image(b testing.TB, size int64) block.Disk {
	d, err := block.OpenFile(context.Background(), "file:"+filepath.Join(b.TempDir(), "image"),
		block.Mode{Size: size, Create: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	buf := make([]byte, 1<<20)
	source := rand.NewChaCha8([32]byte{1})
	for off := int64(0); off < size; off += int64(len(buf)) {
		_, _ = source.Read(buf)
		if _, err := d.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
	}
	return d
}

func BenchmarkRead4K(b *testing.B) {
	d := image(b, 64<<20)
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := d.ReadAt(p, int64(i%16384)*4096); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite4K(b *testing.B) {
	d := image(b, 64<<20)
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := d.WriteAt(p, int64(i%16384)*4096); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteFUA4K(b *testing.B) {
	d := image(b, 64<<20).(block.FUAWriter)
	p := make([]byte, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := d.WriteAtFUA(p, int64(i%16384)*4096); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigestCachedImage(b *testing.B) {
	d := image(b, 512<<20)
	b.SetBytes(d.Size())
	for b.Loop() {
		if _, err := block.NewTree(d).Root(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigestEmptyTiB(b *testing.B) {
	d := block.NewMemory(1 << 40)
	for b.Loop() {
		if _, err := block.NewTree(d).Root(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

const tib = 1 << 40 / block.Size

func BenchmarkMapRunsEmptyTiB(b *testing.B) {
	m := block.NewMap(tib)
	for b.Loop() {
		for range m.Runs(0) {
			b.Fatal("not empty")
		}
	}
}

func BenchmarkMapCountTiB(b *testing.B) {
	m := block.NewMap(tib)
	m.Set(0, tib)
	for b.Loop() {
		if m.Count() != tib {
			b.Fatal("wrong")
		}
	}
}

func BenchmarkMapSetOne(b *testing.B) {
	m := block.NewMap(tib)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		m.SetBytes(i*7919*4096%(1<<40), 4096)
	}
}

func BenchmarkMapMarshalSparseTiB(b *testing.B) {
	m := block.NewMap(tib)
	for at := int64(0); at < tib; at += 100003 {
		m.Set(at, 3)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.MarshalBinary(); err != nil {
			b.Fatal(err)
		}
	}
}
