package block_test

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"testing"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// naive computes a whole tree the slow way.
func naive(d block.Disk) [][]block.Hash {
	data := make([]byte, d.Size())
	if _, err := d.ReadAt(data, 0); err != nil {
		panic(err)
	}
	var level []block.Hash
	for len(data) > 0 {
		n := min(block.Size, len(data))
		level = append(level, blake3.Sum256(data[:n]))
		data = data[n:]
	}
	levels := [][]block.Hash{level}
	if len(level) > 1 {
		level = nil
		for off := int64(0); off < d.Size(); off += 1 << 20 {
			data := make([]byte, min(1<<20, d.Size()-off))
			_, _ = d.ReadAt(data, off)
			level = append(level, blake3.Sum256(data))
		}
		levels = append(levels, level)
	}
	for len(level) > 1 {
		var up []block.Hash
		for len(level) > 0 {
			n := min(block.Fanout, len(level))
			var all []byte
			for _, h := range level[:n] {
				all = append(all, h[:]...)
			}
			up = append(up, blake3.Sum256(all))
			level = level[n:]
		}
		levels = append(levels, up)
		level = up
	}
	return levels
}

func drawDisk(t *rapid.T, size int64) *block.Memory {
	d := block.NewMemory(size)
	for range rapid.IntRange(0, 12).Draw(t, "writes") {
		scribble(t, d)
	}
	return d
}

func scribble(t *rapid.T, d block.Disk) {
	off := rapid.Int64Range(0, d.Size()-1).Draw(t, "off")
	n := rapid.Int64Range(1, min(300<<10, d.Size()-off)).Draw(t, "n")
	fill := rapid.Byte().Draw(t, "fill") // 0 too: data that is zero
	if _, err := d.WriteAt(bytes.Repeat([]byte{fill}, int(n)), off); err != nil {
		t.Fatal(err)
	}
}

var sizes = rapid.OneOf(
	rapid.SampledFrom([]int64{512, 4096, 4608, 1 << 20, 1<<20 + 512, 256<<12 + 4096}),
	rapid.Custom(func(t *rapid.T) int64 { return 512 * rapid.Int64Range(1, 8<<11).Draw(t, "sectors") }))

func TestTreeAgainstNaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDisk(t, sizes.Draw(t, "size"))
		want := naive(d)
		tree := block.NewTree(d)
		ctx := context.Background()
		for range 3 {
			level := rapid.IntRange(0, len(want)-1).Draw(t, "level")
			index := rapid.IntRange(0, len(want[level])-1).Draw(t, "index")
			count := rapid.IntRange(0, len(want[level])-index).Draw(t, "count")
			got, err := tree.Hashes(ctx, level, int64(index), int64(count))
			if err != nil || len(got) != count {
				t.Fatalf("%d hashes: %v", len(got), err)
			}
			for i := range got {
				if got[i] != want[level][index+i] {
					t.Fatalf("level %d node %d differs", level, index+i)
				}
			}
		}
		root, err := tree.Root(ctx)
		if err != nil || root != want[len(want)-1][0] {
			t.Fatalf("the root differs: %v", err)
		}
		if done, total := tree.Progress(); len(want) > 1 && (done != total || total != d.Size()) {
			t.Fatalf("progress is %d of %d", done, total)
		}
		if _, err := tree.Hashes(ctx, len(want), 0, 1); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("a level above the root: %v", err)
		}
		if _, err := tree.Hashes(ctx, 0, int64(len(want[0])), 1); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("a node beyond the last: %v", err)
		}
	})
}

func TestCompareAgainstNaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := sizes.Draw(t, "size")
		a, b := drawDisk(t, size), block.NewMemory(size)
		data := make([]byte, size)
		_, _ = a.ReadAt(data, 0)
		_, _ = b.WriteAt(data, 0)
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			scribble(t, b)
		}
		var within *block.Map
		if rapid.Bool().Draw(t, "within") {
			within = block.NewMap(block.BlocksOf(size))
			for range rapid.IntRange(0, 4).Draw(t, "ranges") {
				start := rapid.Int64Range(0, within.Blocks()).Draw(t, "start")
				within.Set(start, rapid.Int64Range(0, within.Blocks()-start).Draw(t, "count"))
			}
		}
		want := block.NewMap(block.BlocksOf(size))
		na, nb := naive(a)[0], naive(b)[0]
		for i := range na {
			if na[i] != nb[i] && (within == nil || within.Has(int64(i))) {
				want.Set(int64(i), 1)
			}
		}
		ta := &limited{Tree: block.NewTree(a), within: within}
		got, stats, err := block.Compare(context.Background(), ta, block.NewTree(b), within)
		if err != nil || !got.Equal(want) || stats.Differ != want.Count() {
			t.Fatalf("found %d blocks, want %d: %v", got.Count(), want.Count(), err)
		}
		if ta.outside {
			t.Fatal("looked at a block outside of the map")
		}
	})
}

// limited is a Tree that notices being asked about blocks outside a map.
type limited struct {
	*block.Tree
	within  *block.Map
	outside bool
}

func (l *limited) Hashes(ctx context.Context, level int, index, count int64) ([]block.Hash, error) {
	if l.within != nil {
		per := int64(1)
		for range level {
			per *= block.Fanout
		}
		end := min((index+count)*per, l.within.Blocks())
		if l.within.CountRange(index*per, end-index*per) != end-index*per {
			l.outside = true
		}
	}
	return l.Tree.Hashes(ctx, level, index, count)
}

func TestCompareEqualAsksOnce(t *testing.T) {
	a, b := block.NewMemory(1<<30), block.NewMemory(1<<30)
	_, stats, err := block.Compare(context.Background(), block.NewTree(a), block.NewTree(b), nil)
	if err != nil || stats.Nodes != 1 || stats.Leaves != 0 {
		t.Fatalf("%+v, %v", stats, err)
	}
	_, _ = b.WriteAt([]byte{1}, 500<<20)
	differ, stats, err := block.Compare(context.Background(), block.NewTree(a), block.NewTree(b), nil)
	if err != nil || !differ.Has(500<<8) || differ.Count() != 1 {
		t.Fatalf("%d blocks, %v", differ.Count(), err)
	}
	if stats.Leaves != block.Fanout {
		t.Errorf("%d leaves were compared, want one node's", stats.Leaves)
	}
}

func TestCompareRefusesOtherSizes(t *testing.T) {
	a, b := block.NewTree(block.NewMemory(4096)), block.NewTree(block.NewMemory(8192))
	if _, _, err := block.Compare(context.Background(), a, b, nil); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("other size: %v", err)
	}
	if _, _, err := block.Compare(context.Background(), a, a, block.NewMap(2)); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("map of another disk: %v", err)
	}
}

// unreadable is a disk of which only the holes are known.
type unreadable struct {
	block.Disk
	reads chan int64
	err   error
}

func (u unreadable) ReadAt(p []byte, off int64) (int, error) {
	select {
	case u.reads <- off:
	default:
	}
	if u.err != nil {
		return 0, u.err
	}
	return u.Disk.ReadAt(p, off)
}

func (u unreadable) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return block.Extents(u.Disk, off, n)
}

func TestTreeReadsNoHoles(t *testing.T) {
	m := block.NewMemory(1 << 40)
	_, _ = m.WriteAt([]byte("data"), 1<<39)
	d := unreadable{Disk: m, reads: make(chan int64, 10)}
	tree := block.NewTree(d)
	if _, err := tree.Root(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(d.reads); n != 1 || <-d.reads != 1<<39 {
		t.Errorf("%d reads, want the one block of data", n)
	}
}

func TestTreeReportsReadErrors(t *testing.T) {
	m := block.NewMemory(64 << 20)
	for off := int64(0); off < m.Size(); off += 1 << 20 {
		_, _ = m.WriteAt([]byte{1}, off)
	}
	fault := homeward.Errorf("read disk", homeward.IO, "sda", "replace it", "bad sector")
	tree := block.NewTree(unreadable{Disk: m, err: fault})
	if _, err := tree.Root(context.Background()); homeward.KindOf(err) != homeward.IO {
		t.Errorf("the disk's error is lost: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := block.NewTree(m).Root(ctx); homeward.KindOf(err) != homeward.Canceled {
		t.Errorf("canceled: %v", err)
	}
}

// A disk large enough for four levels, compared with every shape of range.
func TestTreeOfFourLevels(t *testing.T) {
	m := block.NewMemory(300<<20 + 512)
	for _, off := range []int64{0, 7 << 20, 255<<20 + 4095, 256 << 20, 300 << 20} {
		_, _ = m.WriteAt([]byte("data"), off)
	}
	want := naive(m)
	if len(want) != 4 {
		t.Fatalf("%d levels", len(want))
	}
	tree := block.NewTree(m)
	for level := range want {
		got, err := tree.Hashes(context.Background(), level, 0, int64(len(want[level])))
		must(t, err)
		for i := range got {
			if got[i] != want[level][i] {
				t.Fatalf("level %d node %d differs", level, i)
			}
		}
	}
	all := block.NewMap(block.BlocksOf(m.Size()))
	all.Set(0, all.Blocks()) // the whole disk is its root, though its last nodes are not full
	_, stats, err := block.Compare(context.Background(), tree, tree, all)
	if err != nil || stats.Nodes != 1 || stats.Leaves != 0 {
		t.Fatalf("%+v, %v", stats, err)
	}
	other := block.NewMemory(m.Size())
	within := block.NewMap(block.BlocksOf(m.Size()))
	within.Set(100, within.Blocks()-100) // the end of the disk, and no node from its start
	differ, _, err := block.Compare(context.Background(), tree, block.NewTree(other), within)
	must(t, err)
	runs := slices.Collect(differ.Runs(0))
	if found := []block.Run{{7 << 8, 1}, {255 << 8, 2}, {256 << 8, 1}, {300 << 8, 1}}; !slices.Equal(runs, found) {
		t.Fatalf("runs %v, want %v", runs, found)
	}
}
