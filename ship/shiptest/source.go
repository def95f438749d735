package shiptest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
)

// Seed is a random generator whose seed is printed when the test fails or with -v.
func Seed(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("HOMEWARD_SEED=%q: give a number", s)
		}
	}
	t.Logf("HOMEWARD_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Delta is one delta as it travels.
type Delta struct {
	Follows, Position homeward.Position
	Mark              homeward.Mark
	Bytes             []byte
}

// Source is the disks of a machine as its agent would have them; it makes the
// deltas that lead from each state to the next. Not for concurrent use.
type Source struct {
	Machine homeward.Machine
	Content Content
	Kind    homeward.MarkKind // of the marks that close its deltas; empty: crash-consistent
	at      homeward.Position
	rng     *rand.Rand
}

// NewSource makes a machine of two small disks (the second ends in a partial
// block) that stands, all zero, at base.
func NewSource(item homeward.ItemID, base homeward.Position, rng *rand.Rand) *Source {
	return &Source{
		Machine: homeward.Machine{Item: item, Name: string(item), Disks: []homeward.Disk{
			{ID: "disk-a", Size: 1 << 20},
			{ID: "disk-b", Size: 300<<10 + 512},
		}},
		Content: Content{},
		at:      base,
		rng:     rng,
	}
}

// At is the newest position.
func (s *Source) At() homeward.Position { return s.at }

// StandAt continues the chain from another position, the content being that of now.
func (s *Source) StandAt(p homeward.Position) { s.at = p }

// Next writes some random blocks of both disks and makes the delta.
func (s *Source) Next(t testing.TB) Delta {
	t.Helper()
	var writes []write
	for disk, d := range s.Machine.Disks {
		for range 1 + s.rng.IntN(6) {
			writes = append(writes, s.random(disk, s.rng.Int64N(d.Blocks())))
		}
	}
	return s.make(t, writes)
}

// NextOfSize makes a delta with n blocks of random content, on the first disk.
func (s *Source) NextOfSize(t testing.TB, n int64) Delta {
	t.Helper()
	if most := s.Machine.Disks[0].Blocks(); n > most {
		t.Fatalf("%d blocks of a disk that has %d", n, most)
	}
	var writes []write
	for b := range n {
		writes = append(writes, s.random(0, b))
	}
	return s.make(t, writes)
}

// Repetitive makes a delta with n blocks that compress well, on the first disk.
func (s *Source) Repetitive(t testing.TB, n int64) Delta {
	t.Helper()
	var writes []write
	for b := range n {
		line := fmt.Sprintf("block %d of %d at %v\n", b, n, s.at.Sequence)
		writes = append(writes, write{at: Block{0, b}, data: bytes.Repeat([]byte(line), block.Size)[:block.Size]})
	}
	return s.make(t, writes)
}

type write struct {
	at   Block
	data []byte
}

func (s *Source) random(disk int, b int64) write {
	data := make([]byte, min(block.Size, s.Machine.Disks[disk].Size-b*block.Size))
	if s.rng.IntN(5) > 0 { // else the guest writes zeros
		for i := range data {
			data[i] = byte(s.rng.Uint32())
		}
	}
	return write{at: Block{disk, b}, data: data}
}

func (s *Source) make(t testing.TB, writes []write) Delta {
	t.Helper()
	for _, w := range writes {
		s.Content[w.at] = w.data
	}
	slices.SortFunc(writes, func(a, b write) int { return a.at.compare(b.at) })
	writes = slices.CompactFunc(writes, func(a, b write) bool { return a.at == b.at })
	h := delta.Header{
		Item:    s.Machine.Item,
		Follows: s.at,
		To:      homeward.Position{Generation: s.at.Generation, Sequence: s.at.Sequence + 1, Cut: homeward.NewID()},
		Machine: &s.Machine,
	}
	for _, d := range s.Machine.Disks {
		h.Disks = append(h.Disks, delta.DiskInfo{ID: d.ID, Size: d.Size})
	}
	mark := homeward.Mark{Kind: cmp.Or(s.Kind, homeward.MarkCrash), At: time.Unix(1700000000+int64(h.To.Sequence), 0).UTC()}
	var b bytes.Buffer
	e, err := delta.NewEncoder(&b, h, delta.EncoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		if err := e.Add(w.at.Disk, w.at.Index, s.Content[w.at]); err != nil {
			t.Fatal(err)
		}
	}
	trailer, err := e.Close(mark)
	if err != nil {
		t.Fatal(err)
	}
	d := Delta{Follows: s.at, Position: h.Position(trailer), Mark: mark, Bytes: b.Bytes()}
	s.at = d.Position
	return d
}

// Block names a block of a machine.
type Block struct {
	Disk  int
	Index int64
}

func (b Block) compare(o Block) int {
	if b.Disk != o.Disk {
		return b.Disk - o.Disk
	}
	return int(b.Index - o.Index)
}

// Content is what the disks of a machine hold; a block that is not in it is zero.
type Content map[Block][]byte

// Diff names the first block that differs, or "".
func (c Content) Diff(o Content) string {
	for _, m := range []Content{c, o} {
		for b := range m {
			x, y := c[b], o[b]
			if len(x) == 0 && block.IsZero(y) || len(y) == 0 && block.IsZero(x) {
				continue
			}
			if !bytes.Equal(x, y) {
				return fmt.Sprintf("disk %d block %d", b.Disk, b.Index)
			}
		}
	}
	return ""
}
