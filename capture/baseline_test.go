package capture

import (
	"context"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

func TestBaseline(t *testing.T) {
	rng := powerloss.Rand(t)
	ctx := context.Background()
	fsys := powerloss.New()
	disks := []block.Disk{block.NewMemory(40<<20 + 512), block.NewMemory(1 << 20)}
	write := func(disk int, off int64, n int, with byte) {
		p := make([]byte, n)
		for i := range p {
			p[i] = with
		}
		if _, err := disks[disk].WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 5<<20, 300<<10, 'a')
	write(0, 40<<20, 512, 'a')
	l := Late{Disks: disks, Dir: "/late", FS: fsys}
	b, err := l.Baseline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fsys = fsys.Crash(rng) // it is durable
	l.FS = fsys
	want := []*block.Map{block.NewMap(10241), block.NewMap(256)}
	for range 100 {
		disk := rng.IntN(2)
		n := 1 + rng.IntN(9000)
		off := rng.Int64N(disks[disk].Size() - int64(n))
		write(disk, off, n, 'b')
		want[disk].SetBytes(off, int64(n))
	}
	write(0, 40<<20, 512, 'b')
	want[0].Set(10240, 1)
	write(0, 5<<20, 100, 'a') // the same again is no change
	if err := disks[0].Zero(5<<20+4096, 4096, true); err != nil {
		t.Fatal(err)
	}
	want[0].Set(1281, 1)
	c, err := l.ChangedSince(ctx, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	want[0].AndNot(unchanged(disks[0], 1280))
	for i := range disks {
		if c.Suspect[i].Count() != 0 || len(c.Reasons[i]) != 0 {
			t.Errorf("disk %d: suspect: %v", i, c.Reasons[i])
		}
		extra := c.Changed[i].Clone()
		extra.AndNot(want[i])
		missing := want[i].Clone()
		missing.AndNot(c.Changed[i])
		if extra.Count() != 0 || missing.Count() != 0 {
			t.Errorf("disk %d: %d blocks too many, %d missing", i, extra.Count(), missing.Count())
		}
	}
	c, err = l.ChangedSince(ctx, homeward.NewID())
	if err != nil {
		t.Fatal(err)
	}
	if c.Suspect[0].Count() != 10241 || len(c.Reasons[0]) != 1 {
		t.Errorf("a lost baseline leaves %d blocks suspect: %v", c.Suspect[0].Count(), c.Reasons[0])
	}
}

// unchanged is block at alone when it still is what the test began with.
func unchanged(d block.Disk, at int64) *block.Map {
	m := block.NewMap(block.BlocksOf(d.Size()))
	p := make([]byte, block.Size)
	if _, err := d.ReadAt(p, at*block.Size); err != nil {
		panic(err)
	}
	for _, b := range p {
		if b != 'a' {
			return m
		}
	}
	m.Set(at, 1)
	return m
}

// Any flipped bit is found, or does not matter.
func TestBaselineDamage(t *testing.T) {
	rng := powerloss.Rand(t)
	ctx := context.Background()
	fsys := powerloss.New()
	disk := block.NewMemory(3 << 20)
	fill := func(with byte) {
		if _, err := disk.WriteAt(pattern(300, with), 0); err != nil {
			t.Fatal(err)
		}
	}
	fill('a')
	l := Late{Disks: []block.Disk{disk}, Dir: "/late", FS: fsys}
	b, err := l.Baseline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fill('b')
	for range 150 {
		undo := flip(t, fsys, l.path(b.ID, 0), rng)
		c, err := l.ChangedSince(ctx, b.ID)
		if err != nil {
			t.Fatal(err)
		}
		c.Changed[0].Or(c.Suspect[0])
		all := block.NewMap(768)
		all.Set(0, 300)
		all.AndNot(c.Changed[0])
		if all.Count() != 0 {
			t.Fatalf("%d changed blocks are missing", all.Count())
		}
		undo()
	}
	if err := l.Forget(); err != nil {
		t.Fatal(err)
	}
}

func TestBaselineOfGrownDisk(t *testing.T) {
	ctx := context.Background()
	l := Late{Disks: []block.Disk{block.NewMemory(1<<20 + 512)}, Dir: "/late", FS: powerloss.New()}
	b, err := l.Baseline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l.Disks[0] = block.NewMemory(4 << 20)
	c, err := l.ChangedSince(ctx, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantRuns(t, "changed", c.Changed[0], block.Run{Start: 256, Count: 768})
	l.Disks[0] = block.NewMemory(512 << 10)
	if _, err := l.ChangedSince(ctx, b.ID); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("a shrunk disk: %v", err)
	}
}
