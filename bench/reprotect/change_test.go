package reprotect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/network"
)

// A change is as large as it says, lies on the disk, touches nothing twice, and is
// another one for another seed.
func TestChange(t *testing.T) {
	const disk = 16 * mib
	for _, c := range []change{
		{random, disk / 100, disk, 1}, {random, disk / 2, disk, 2}, {random, disk, disk, 3}, {random, 1, disk, 4},
		{sequential, disk / 100, disk, 5}, {sequential, disk / 10, disk, 6}, {sequential, disk, disk, 7},
	} {
		at, length := c.pieces()
		seen := map[int64]bool{}
		for _, off := range at {
			if off < 0 || off+length > disk || off%length != 0 || seen[off] {
				t.Fatalf("%+v: piece at %d", c, off)
			}
			seen[off] = true
		}
		v := measure.Values{"wire_bytes": float64(c.bytes)}
		c.tell(v)
		if got := int64(v["dirty_bytes"]); got > max(c.bytes, length) || got < c.bytes-length {
			t.Errorf("%+v: %d bytes", c, got)
		}
		before := filepath.Join(t.TempDir(), "disk")
		if err := fill(t.Context(), 9, disk, before); err != nil {
			t.Fatal(err)
		}
		if got := differing(t, before, c); got != int64(v["dirty_bytes"]) {
			t.Errorf("%+v: %d bytes of blocks differ, told %v", c, got, v["dirty_bytes"])
		}
	}
	a, _ := change{random, disk / 100, disk, 1}.pieces()
	b, _ := change{random, disk / 100, disk, 2}.pieces()
	if a[0] == b[0] && a[1] == b[1] && a[2] == b[2] {
		t.Error("two seeds make one change")
	}
}

// differing are the bytes of blocks that a change makes differ.
func differing(t *testing.T, path string, c change) (n int64) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.apply(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(old); at += homeward.BlockSize {
		if string(old[at:at+homeward.BlockSize]) != string(now[at:at+homeward.BlockSize]) {
			n += homeward.BlockSize
		}
	}
	return n
}

// Disks that differ in one byte are told apart, also where one of them was never
// written.
func TestSame(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := fill(t.Context(), 1, 8*mib, a, b); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{a, b} {
		if err := os.Truncate(path, 32*mib+5); err != nil {
			t.Fatal(err)
		}
	}
	if err := same(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 3*mib + 17, 20 * mib, 32*mib + 4} {
		f, err := os.OpenFile(b, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		old := make([]byte, 1)
		if _, err := f.ReadAt(old, at); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{old[0] ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if err := same(t.Context(), a, b); err == nil || !strings.Contains(err.Error(), "differ") {
			t.Errorf("a byte at %d: %v", at, err)
		}
		if _, err := f.WriteAt(old, at); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := os.Truncate(b, 33*mib); err != nil {
		t.Fatal(err)
	}
	if err := same(t.Context(), a, b); err == nil {
		t.Error("disks of two sizes are the same")
	}
}

// Each goal is computed of its series, and one that was not measured says why.
func TestGoals(t *testing.T) {
	run := func(who string, v measure.Values) measure.Run { return measure.Run{Contender: who, Values: v} }
	main := setting{2 * gib, growing, usual, random, network.Plain(), nil}.labels()
	s := measure.Series{Labels: main, Missing: map[string]string{withRestic: "not here"}, Runs: []measure.Run{
		run(byMap, measure.Values{"seconds": 2, "wire_over_dirty": 1.05, "search_bytes": 0}),
		run(withBtrfs, measure.Values{"seconds": 4}), {Contender: withRsync, Error: "the disks differ\nat once"}}}
	large := measure.Series{Labels: setting{32 * gib, growing, "", random, network.Plain(), nil}.labels(),
		Runs: []measure.Run{run(byMap, measure.Values{"seconds": 3})}}
	got := goals([]measure.Series{s, large})
	for i, want := range []struct {
		have    float64
		unknown string
	}{{1.05, ""}, {0, ""}, {0.5, ""}, {0, "differ"}, {0, "not here"}, {1.5, ""}, {0, "full mode"}} {
		if g := got[i]; g.Have != want.have || (g.Unknown == "") != (want.unknown == "") || !strings.Contains(g.Unknown, want.unknown) {
			t.Errorf("goal %q: %+v, want %+v", g.Text, g, want)
		}
	}
}
