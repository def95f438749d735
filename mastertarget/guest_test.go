package mastertarget_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// guest is a machine that runs on a view. It knows, for every block, what it may
// find there after a power loss: what was flushed last, and whatever was written since.
type guest struct {
	t     testing.TB
	rng   *rand.Rand
	disks []block.Disk
	may   [][][][]byte // disk, block, contents; the last is what was written last
	sure  [][]int      // disk, block: which of them was acknowledged last
}

// boot begins with what the disks of a point must hold.
func boot(t testing.TB, rng *rand.Rand, on content) *guest {
	g := &guest{t: t, rng: rng}
	for _, disk := range on {
		var blocks [][][]byte
		for off := 0; off < len(disk); off += block.Size {
			blocks = append(blocks, [][]byte{bytes.Clone(disk[off:min(off+block.Size, len(disk))])})
		}
		g.may = append(g.may, blocks)
		g.sure = append(g.sure, make([]int, len(blocks)))
	}
	return g
}

// attach connects to a view, and finds each block to hold something it may hold.
// With exact, no power was lost: nothing older than the last acknowledged write.
func (g *guest) attach(r *rig, v homeward.View, exact bool) {
	g.t.Helper()
	var disks []block.Disk
	for _, d := range v.Disks {
		disks = append(disks, r.nbd.disk(g.t, d.URI))
	}
	g.run(disks, exact)
}

// run goes on with disks, as attach does.
func (g *guest) run(disks []block.Disk, exact bool) {
	g.t.Helper()
	g.disks = disks
	for i, disk := range disks {
		got := readAll(g.t, disk)
		for b := range g.may[i] {
			p := got[b*block.Size : min((b+1)*block.Size, len(got))]
			from := 0
			if exact {
				from = g.sure[i][b]
			}
			found := mixed(p, g.may[i][b][from:])
			if !found {
				g.t.Fatalf("disk %d block %d holds something that was not written there last (%d candidates, %d sure): %x, may be %x", i, b, len(g.may[i][b]), g.sure[i][b], sample(p), samples(g.may[i][b]))
			}
			g.may[i][b], g.sure[i][b] = [][]byte{bytes.Clone(p)}, 0
		}
	}
}

// write writes anywhere, any length.
func (g *guest) write() error {
	i := g.rng.IntN(len(g.disks))
	size := g.disks[i].Size()
	n := 512 * (1 + g.rng.Int64N(40))
	off := g.rng.Int64N((size-n)/512) * 512
	p := make([]byte, n)
	zero := g.rng.IntN(4) == 0
	if !zero {
		fill(g.rng, p)
	}
	for b := off / block.Size; b*block.Size < off+n; b++ {
		last := g.may[i][b][len(g.may[i][b])-1]
		next := bytes.Clone(last)
		at := b * block.Size
		copy(next[max(off-at, 0):], p[max(at-off, 0):])
		g.may[i][b] = append(g.may[i][b], next)
	}
	var err error
	if zero {
		err = g.disks[i].Zero(off, n, true)
	} else {
		_, err = g.disks[i].WriteAt(p, off)
	}
	for b := off / block.Size; err == nil && b*block.Size < off+n; b++ {
		g.sure[i][b] = len(g.may[i][b]) - 1
	}
	return err
}

func (g *guest) flush() error {
	for i, d := range g.disks {
		if err := d.Flush(); err != nil {
			return err
		}
		for b, m := range g.may[i] {
			g.may[i][b], g.sure[i][b] = m[len(m)-1:], 0
		}
	}
	return nil
}

// work writes and flushes a little.
func (g *guest) work(writes int) error {
	for range writes {
		if err := g.write(); err != nil {
			return err
		}
	}
	if err := g.flush(); err != nil {
		return err
	}
	for range writes / 2 {
		if err := g.write(); err != nil {
			return err
		}
	}
	return nil
}

// content is what was written last.
func (g *guest) content() (c content) {
	for _, disk := range g.may {
		var p []byte
		for _, b := range disk {
			p = append(p, b[len(b)-1]...)
		}
		c = append(c, p)
	}
	return c
}

// mixed reports whether each sector of p is that of one of the contents: a power
// loss tears a block between sectors.
func mixed(p []byte, of [][]byte) bool {
	for s := 0; s < len(p); s += 512 {
		if !slices.ContainsFunc(of, func(m []byte) bool { return bytes.Equal(m[s:s+512], p[s:s+512]) }) {
			return false
		}
	}
	return true
}

// sample is a byte of each sector.
func sample(p []byte) (s []byte) {
	for i := 0; i < len(p); i += 512 {
		s = append(s, p[i])
	}
	return s
}

func samples(list [][]byte) (s [][]byte) {
	for _, p := range list {
		s = append(s, sample(p))
	}
	return s
}
