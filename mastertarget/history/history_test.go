package history_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

func FuzzParseSpan(f *testing.F) {
	f.Add(history.Span{Newer: 3, Older: 1, At: time.Unix(1, 5)}.Name())
	f.Add(history.Span{Newer: 1}.Name())
	f.Add("0000000000000001-0000000000000002-0000000000000000.undo")
	f.Fuzz(func(t *testing.T, name string) {
		s, ok := history.ParseSpan(name)
		if ok && s.Name() != name {
			t.Fatalf("%q reads as %+v, which is named %q", name, s, s.Name())
		}
	})
}

// line is a replica of one disk whose every boundary is remembered.
type line struct {
	t       testing.TB
	fs      *powerloss.FS
	disk    *block.Memory
	chain   *history.Chain
	tip     uint64
	content map[uint64][]byte
	held    map[uint64]bool
}

const blocks = 400

func newLine(t testing.TB) *line {
	l := &line{t: t, fs: powerloss.New(), disk: block.NewMemory(blocks * block.Size), content: map[uint64][]byte{}, held: map[uint64]bool{}}
	l.tip = 1
	l.load()
	l.remember()
	return l
}

func (l *line) load() history.Loaded {
	l.t.Helper()
	files := history.NewFiles(l.fs)
	l.t.Cleanup(files.Close)
	loaded, err := history.Load(l.fs, "/undo", l.tip, files, func(b uint64) bool { return l.held[b] })
	if err != nil {
		l.t.Fatal(err)
	}
	l.chain = loaded.Chain
	return loaded
}

func (l *line) remember() {
	p := make([]byte, l.disk.Size())
	if _, err := l.disk.ReadAt(p, 0); err != nil {
		l.t.Fatal(err)
	}
	l.content[l.tip] = p
}

func position(b uint64) homeward.Position {
	return homeward.Position{Generation: homeward.Generation{Number: 1}, Sequence: b}
}

// step overwrites some blocks, as an apply does.
func (l *line) step(rng *rand.Rand) {
	l.t.Helper()
	m := block.NewMap(blocks)
	for range 1 + rng.IntN(4) {
		start := rng.Int64N(blocks)
		m.Set(start, min(1+rng.Int64N(30), blocks-start))
	}
	machine := homeward.Machine{Item: "i", Disks: []homeward.Disk{{ID: "d", Size: l.disk.Size()}}, Name: fmt.Sprint(l.tip)}
	next := l.chain.Next()
	w, err := l.chain.Create(history.Span{Newer: next, Older: l.tip, At: time.Unix(int64(l.tip), 0)}, delta.Header{
		Item: "i", Disks: []delta.DiskInfo{{ID: "d", Size: l.disk.Size()}},
		Follows: position(next), To: position(l.tip), Machine: &machine})
	if err != nil {
		l.t.Fatal(err)
	}
	for run := range m.Runs(0) {
		p := make([]byte, run.Count*block.Size)
		_, _ = l.disk.ReadAt(p, run.Start*block.Size)
		if err := w.Add(0, run.Start, p); err != nil {
			l.t.Fatal(err)
		}
	}
	seg, err := w.Commit(homeward.Mark{Kind: homeward.MarkCrash, At: time.Unix(int64(l.tip), 0)})
	if err != nil {
		l.t.Fatal(err)
	}
	l.chain.Publish(seg)
	for run := range m.Runs(0) {
		p := make([]byte, run.Count*block.Size)
		for i := 0; i < len(p); i += 512 {
			p[i] = byte(rng.Uint32())
		}
		_, _ = l.disk.WriteAt(p, run.Start*block.Size)
	}
	l.tip = next
	l.remember()
}

// check reads every boundary that the chain has, in uneven pieces.
func (l *line) check(rng *rand.Rand) {
	l.t.Helper()
	for _, s := range l.chain.Segments() {
		want := l.content[s.Older]
		got := make([]byte, len(want))
		for off := int64(0); off < int64(len(got)); {
			n := min(1+rng.Int64N(700_000), int64(len(got))-off)
			if err := l.chain.ReadAt(l.disk, 0, s.Older, got[off:off+n], off); err != nil {
				l.t.Fatal(err)
			}
			off += n
		}
		if !bytes.Equal(got, want) {
			l.t.Fatalf("content at boundary %d is not what it was", s.Older)
		}
		m, err := s.Machine()
		if err != nil || m.Name != fmt.Sprint(s.Older) {
			l.t.Fatalf("machine at boundary %d is %q: %v", s.Older, m.Name, err)
		}
	}
}

func TestChain_MergesAndDropsWithoutChangingContent(t *testing.T) {
	rng := powerloss.Rand(t)
	l := newLine(t)
	for range 60 {
		l.step(rng)
		segments := l.chain.Segments()
		switch n := len(segments); {
		case n > 3 && rng.IntN(3) == 0:
			first := rng.IntN(n - 2)
			if err := l.chain.Merge(ctx, segments[first:first+2+rng.IntN(min(n-first-1, 4))]); err != nil {
				t.Fatal(err)
			}
		case n > 20:
			if err := l.chain.DropOlder(segments[3].Older); err != nil {
				t.Fatal(err)
			}
		}
		if rng.IntN(5) == 0 {
			before := len(l.chain.Segments())
			l.fs = l.fs.Crash(rng)
			if loaded := l.load(); len(loaded.Lost)+len(loaded.Hot) > 0 || len(l.chain.Segments()) != before {
				t.Fatalf("after a crash: %d segments of %d, lost %v", len(l.chain.Segments()), before, loaded.Lost)
			}
		}
	}
	l.check(rng)
}

func TestChain_HeldBoundariesStay(t *testing.T) {
	rng := powerloss.Rand(t)
	l := newLine(t)
	for range 8 {
		l.step(rng)
	}
	l.held[4] = true
	s := l.chain.Segments()
	if err := l.chain.Merge(ctx, s[2:5]); err != nil { // over boundary 4
		t.Fatal(err)
	}
	if len(l.chain.Segments()) != len(s) {
		t.Fatal("a merge ended a held boundary")
	}
	if err := l.chain.DropOlder(6); err != nil {
		t.Fatal(err)
	}
	if got := l.chain.Segments()[0].Older; got != 4 {
		t.Fatalf("the oldest boundary is %d, 4 is held", got)
	}
	l.check(rng)
}

func TestLoad_TellsHotAndLostApart(t *testing.T) {
	rng := powerloss.Rand(t)
	l := newLine(t)
	for range 6 {
		l.step(rng)
	}
	l.tip-- // the last step did not commit
	loaded := l.load()
	if len(loaded.Hot) != 1 || loaded.Hot[0].Newer != l.tip+1 {
		t.Fatalf("hot: %v", loaded.Hot)
	}
	l.check(rng)
	middle := l.chain.Segments()[2]
	f, err := l.fs.OpenFile(middle.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(100); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	loaded = l.load()
	if len(loaded.Lost) != 3 {
		t.Fatalf("lost: %q", loaded.Lost)
	}
	if got := l.chain.Segments()[0].Older; got != middle.Newer {
		t.Fatalf("the chain begins at %d, want %d", got, middle.Newer)
	}
	l.check(rng)
}

// back takes the replica itself back to an older boundary.
func (l *line) back(to uint64) {
	l.t.Helper()
	_, _ = l.disk.WriteAt(l.content[to], 0)
	l.tip = to
	if err := l.chain.DropNewer(to); err != nil {
		l.t.Fatal(err)
	}
}

// What is left of steps that were taken back is no part of the chain, also when a
// reader kept their files until a crash, with another step behind them or amid it.
func TestChain_NumbersAreNotUsedTwice(t *testing.T) {
	rng := powerloss.Rand(t)
	for _, committed := range []bool{true, false} {
		l := newLine(t)
		for range 6 {
			l.step(rng)
		}
		began := false
		for _, start := range []int64{0, blocks - 257} { // what was overwritten may be anywhere
			err := l.chain.Old(0, 5, start, 257, func(int64, []byte) error {
				if !began {
					began = true
					l.back(5)
					l.step(rng)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if l.tip != 8 {
			t.Fatalf("boundary %d follows 5, from which 7 was taken back", l.tip)
		}
		if files, _ := l.fs.ReadDir("/undo"); len(files) != 5 {
			t.Fatalf("%d files for the 5 segments of the chain", len(files))
		}
		l.check(rng)
		// As if the reader had not ended before a crash: the files are still there.
		for _, s := range [][2]uint64{{6, 5}, {7, 6}} {
			l.leftOver(history.Span{Newer: s[0], Older: s[1], At: time.Unix(int64(s[1]), 0)})
		}
		if !committed {
			l.tip = 5
		}
		if loaded := l.load(); committed != (len(loaded.Hot) == 0) || len(loaded.Lost) > 0 {
			t.Fatalf("hot %v, lost %v", loaded.Hot, loaded.Lost)
		}
		if got := l.chain.Segments(); got[len(got)-1].Newer != 8 || len(got) != 5 {
			t.Fatalf("the chain ends at %d after %d segments", got[len(got)-1].Newer, len(got))
		}
		l.check(rng)
	}
}

// leftOver makes a segment file that is not of the chain.
func (l *line) leftOver(s history.Span) {
	l.t.Helper()
	w, err := l.chain.Create(s, delta.Header{Item: "i", Disks: []delta.DiskInfo{{ID: "d", Size: l.disk.Size()}},
		Follows: position(s.Newer), To: position(s.Older)})
	if err == nil {
		err = w.Add(0, 0, make([]byte, block.Size))
	}
	if err == nil {
		_, err = w.Commit(homeward.Mark{Kind: homeward.MarkCrash, At: s.At})
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// A boundary that the chain does not reach is not read as a newer one.
func TestChain_UnreachedBoundaryIsCorrupt(t *testing.T) {
	rng := powerloss.Rand(t)
	l := newLine(t)
	for range 6 {
		l.step(rng)
	}
	for _, at := range []uint64{2, 4} {
		if err := l.chain.DropOlder(5); err != nil {
			t.Fatal(err)
		}
		m := block.NewMap(blocks)
		for what, err := range map[string]error{
			"read":  l.chain.ReadAt(l.disk, 0, at, make([]byte, 512), 0),
			"since": l.chain.Since(ctx, 0, at, m),
		} {
			if homeward.KindOf(err) != homeward.Corrupt {
				t.Fatalf("%s at %d: %v", what, at, err)
			}
		}
		if _, err := l.chain.Touched(0, at, 0, blocks); homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("touched at %d: %v", at, err)
		}
	}
	if err := l.chain.Since(ctx, 0, l.tip, block.NewMap(blocks)); err != nil {
		t.Fatalf("the tip: %v", err)
	}
}

// A reader keeps the files it began with.
func TestChain_ReadersKeepMergedFiles(t *testing.T) {
	rng := powerloss.Rand(t)
	l := newLine(t)
	for range 6 {
		l.step(rng)
	}
	s := l.chain.Segments()
	inputs := s[1:4]
	err := l.chain.Old(0, 1, 0, 256, func(int64, []byte) error {
		if len(l.chain.Segments()) == len(s) {
			if err := l.chain.Merge(ctx, inputs); err != nil {
				t.Fatal(err)
			}
		}
		for _, in := range inputs {
			if _, err := l.fs.Stat(in.Path()); err != nil {
				t.Fatal("an input went while somebody reads it")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range inputs {
		if _, err := l.fs.Stat(in.Path()); err == nil {
			t.Fatal("an input stayed after its last reader")
		}
	}
	l.check(rng)
}
