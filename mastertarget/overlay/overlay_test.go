package overlay_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget/overlay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// size is of a disk with two map sectors and a partial last block.
const size = 5000*block.Size + 1024

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newStore(t testing.TB, fs *powerloss.FS, boot string) *overlay.Store {
	t.Helper()
	must(0, fs.MkdirAll("/o", 0o700))(t)
	must(0, overlay.Create(fs, "/o/0", size))(t)
	return must(overlay.Open(fs, "/o/0", boot))(t)
}

func base(rng *rand.Rand) (*block.Memory, []byte) {
	m := block.NewMemory(size)
	p := make([]byte, size)
	for i := 0; i < len(p); i += 256 {
		p[i] = byte(rng.Uint32())
	}
	_, _ = m.WriteAt(p, 0)
	return m, p
}

// scribble writes anywhere, any length, and into the model.
func scribble(t testing.TB, rng *rand.Rand, d *overlay.Disk, model []byte) {
	t.Helper()
	n := 1 + rng.Int64N(60_000)
	off := rng.Int64N(size - n)
	if rng.IntN(6) == 0 {
		off = size - n
	}
	p := make([]byte, n)
	if rng.IntN(4) == 0 {
		must(0, d.Zero(off, n, true))(t)
	} else {
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		must(d.WriteAt(p, off))(t)
	}
	copy(model[off:], p)
}

func same(t testing.TB, d block.Disk, want []byte, what string) {
	t.Helper()
	got := make([]byte, size)
	must(d.ReadAt(got, 0))(t)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: not what was written", what)
	}
}

func TestDisk_KeepsWhatWasFlushed(t *testing.T) {
	rng := powerloss.Rand(t)
	fs := powerloss.New()
	store := newStore(t, fs, "one")
	memory, model := base(rng)
	untouched := bytes.Clone(model)
	d := overlay.NewDisk(memory, store)
	for round := range 6 {
		for range 10 {
			scribble(t, rng, d, model)
		}
		same(t, d, model, "running")
		if round%2 == 0 { // killed: the kernel still has it all
			store = must(overlay.Open(fs, "/o/0", "one"))(t)
			d = overlay.NewDisk(memory, store)
			same(t, d, model, "after a kill")
			continue
		}
		must(0, d.Flush())(t)
		fs = fs.Crash(rng)
		store = must(overlay.Open(fs, "/o/0", "one"))(t) // nothing was unflushed: even the same boot is right
		d = overlay.NewDisk(memory, store)
		same(t, d, model, "after a power loss")
	}
	same(t, memory, untouched, "the base")
	must(0, store.Verify())(t)
}

// After a power loss a block is what was flushed or what was written since, by
// sector; never the zeroes of a file that was not written yet.
func TestDisk_PowerLossBetweenFlushes(t *testing.T) {
	rng := powerloss.Rand(t)
	for range 20 {
		fs := powerloss.New()
		store := newStore(t, fs, "one")
		memory, flushed := base(rng)
		d := overlay.NewDisk(memory, store)
		for range 8 {
			scribble(t, rng, d, flushed)
		}
		must(0, d.Flush())(t)
		last := bytes.Clone(flushed)
		for range 1 { // one write, so that a sector has two candidates
			scribble(t, rng, d, last)
		}
		fs = fs.Crash(rng)
		got := make([]byte, size)
		must(overlay.NewDisk(memory, must(overlay.Open(fs, "/o/0", "two"))(t)).ReadAt(got, 0))(t)
		for s := 0; s < size; s += 512 {
			if p := got[s : s+512]; !bytes.Equal(p, flushed[s:s+512]) && !bytes.Equal(p, last[s:s+512]) {
				t.Fatalf("sector %d is neither old nor new", s/512)
			}
		}
	}
}

func TestStore_FailedSyncPoisons(t *testing.T) {
	fs := powerloss.New()
	store := newStore(t, fs, "one")
	d := overlay.NewDisk(block.NewMemory(size), store)
	must(d.WriteAt(make([]byte, 8192), 4096))(t)
	fs.Fail(powerloss.OpSync, "*.map", 1, syscall.EIO)
	for range 2 {
		if err := d.Flush(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("flush after a failed one: %v", err)
		}
	}
}

func TestDisk_FullVolume(t *testing.T) {
	rng := powerloss.Rand(t)
	fs := powerloss.New()
	store := newStore(t, fs, "one")
	memory, model := base(rng)
	d := overlay.NewDisk(memory, store)
	scribble(t, rng, d, model)
	fs.Fail(powerloss.OpWrite, "*.data", 1, syscall.ENOSPC)
	if _, err := d.WriteAt(make([]byte, 4096), 100*4096); homeward.KindOf(err) != homeward.NoSpace {
		t.Fatalf("write to a full volume: %v", err)
	}
	must(0, d.Flush())(t)
}

func TestStore_DamagedMapIsSeen(t *testing.T) {
	rng := powerloss.Rand(t)
	fs := powerloss.New()
	store := newStore(t, fs, "")
	model := make([]byte, size)
	d := overlay.NewDisk(block.NewMemory(size), store)
	for range 20 {
		scribble(t, rng, d, model)
	}
	must(0, d.Flush())(t)
	f := must(fs.OpenFile("/o/0.map", os.O_RDWR, 0))(t)
	bit := rng.Int64N(512 * 8)
	b := make([]byte, 1)
	must(f.ReadAt(b, bit/8))(t)
	b[0] ^= 1 << (bit % 8)
	must(f.WriteAt(b, bit/8))(t)
	if _, err := overlay.Open(fs, "/o/0", ""); homeward.KindOf(err) != homeward.Corrupt {
		t.Fatalf("bit %d flipped: %v", bit, err)
	}
	if err := store.Verify(); homeward.KindOf(err) != homeward.Corrupt {
		t.Fatalf("verify: %v", err)
	}
}

// A disk becomes another one under writers, which see every write of theirs.
func TestDisk_BecomesAnotherWhileWritten(t *testing.T) {
	rng := powerloss.Rand(t)
	store := newStore(t, powerloss.New(), "one")
	memory, model := base(rng)
	target := block.NewMemory(size)
	must(target.WriteAt(model, 0))(t)
	d := overlay.NewDisk(memory, store)
	var writers sync.WaitGroup
	const stripe = size / 4 / block.Size * block.Size
	for w := range int64(4) {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		writers.Go(func() {
			for range 150 {
				n := 1 + own.Int64N(20_000)
				off := w*stripe + own.Int64N(stripe-n)
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(own.Uint32())
				}
				if _, err := d.WriteAt(p, off); err != nil {
					t.Error(err)
				}
				copy(model[off:], p)
				got := make([]byte, n)
				if _, err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, p) {
					t.Errorf("a write cannot be read back: %v", err)
				}
			}
		})
	}
	d.Mirror(target)
	for start := int64(0); start < block.BlocksOf(size); start += 64 {
		run := block.Run{Start: start, Count: min(64, block.BlocksOf(size)-start)}
		must(0, d.Cover(run, func() error {
			return store.ReadBlocks(run.Start, run.Count, func(b int64, p []byte) error {
				_, err := target.WriteAt(p, b*block.Size)
				return err
			})
		}))(t)
	}
	d.Pause()
	must(0, d.Mirrored())(t)
	d.Resume(target)
	writers.Wait()
	same(t, d, model, "after it became the target")
	same(t, target, model, "the target")
}

// Whatever bytes a map file has: an error or a map, never a panic.
func FuzzOpen(f *testing.F) {
	f.Add(make([]byte, 1024))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := powerloss.New()
		newStore(t, fs, "")
		file := must(fs.OpenFile("/o/0.map", os.O_RDWR|os.O_TRUNC, 0))(t)
		must(file.WriteAt(data, 0))(t)
		if s, err := overlay.Open(fs, "/o/0", ""); err == nil {
			_ = s.Close()
		}
	})
}
