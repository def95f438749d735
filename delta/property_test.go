package delta

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// history is a line of states of all disks, with the deltas between them.
type history struct {
	states  [][][]byte // state, disk, bytes
	forward [][]byte   // i leads from state i to i+1
	undo    [][]byte   // i leads from state i+1 to i
}

func drawOptions(t *rapid.T) EncoderOptions {
	return EncoderOptions{
		Codec:       Codec(rapid.IntRange(0, 2).Draw(t, "codec")),
		FrameBlocks: rapid.SampledFrom([]int{1, 2, 3, 16, 64, 256}).Draw(t, "frame blocks"),
	}
}

// drawHistory makes 1 to 4 deltas over 1 to 3 small disks, some of which grow.
func drawHistory(t *rapid.T, tb testing.TB) history {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "content"), 2))
	var h history
	var state [][]byte
	for range rapid.IntRange(1, 3).Draw(t, "disks") {
		state = append(state, random(r, 512*rapid.IntRange(1, 300).Draw(t, "sectors")))
	}
	h.states = append(h.states, state)
	for n := range rapid.IntRange(1, 4).Draw(t, "deltas") {
		before := h.states[n]
		after := make([][]byte, len(before))
		for d, old := range before {
			after[d] = bytes.Clone(old)
			if rapid.IntRange(0, 3).Draw(t, "grows") == 0 {
				after[d] = append(after[d], make([]byte, 512*rapid.IntRange(1, 20).Draw(t, "by"))...)
			}
		}
		changes, undo := drawChanges(t, r, before, after)
		hd := header(n, sizes(after)...)
		hd.Follows.Checksum = chainEnd(tb, h.forward)
		h.forward = append(h.forward, encode(tb, hd, drawOptions(t), crash, changes...))
		hu := header(n, sizes(after)...)
		hu.Kind, hu.Machine = Undo, nil
		hu.Follows, hu.To = open(tb, h.forward[n]).Position(), hd.Follows
		h.undo = append(h.undo, encode(tb, hu, drawOptions(t), crash, undo...))
		h.states = append(h.states, after)
	}
	return h
}

func chainEnd(tb testing.TB, deltas [][]byte) homeward.Checksum {
	if len(deltas) == 0 {
		return position(0).Checksum
	}
	return open(tb, deltas[len(deltas)-1]).Position().Checksum
}

func sizes(disks [][]byte) (s []int64) {
	for _, d := range disks {
		s = append(s, int64(len(d)))
	}
	return s
}

// drawChanges overwrites some blocks of after, and returns that as changes and
// what undoes it: what before had there, zero where a disk grew.
func drawChanges(t *rapid.T, r *rand.Rand, before, after [][]byte) (changes, undo []change) {
	for d := range after {
		blocks := (len(after[d]) + block.Size - 1) / block.Size
		for b := rapid.IntRange(0, 10).Draw(t, "skip"); b < blocks; b += rapid.IntRange(0, 10).Draw(t, "skip") {
			n := rapid.IntRange(1, min(12, blocks-b)).Draw(t, "count")
			from, to := b*block.Size, min((b+n)*block.Size, len(after[d]))
			piece := after[d][from:to]
			c := change{disk: d, start: int64(b), data: piece}
			switch rapid.IntRange(0, 3).Draw(t, "sort") {
			case 0:
				clear(piece)
				c.data, c.zero = nil, int64(n)
			case 1:
				copy(piece, text(len(piece)))
			case 2:
				copy(piece, random(r, len(piece)))
			case 3:
				clear(piece[:len(piece)/2])
				copy(piece[len(piece)/2:], random(r, len(piece)))
			}
			old := make([]byte, len(piece))
			if from < len(before[d]) {
				copy(old, before[d][from:])
			}
			changes = append(changes, c)
			undo = append(undo, change{disk: d, start: int64(b), data: old})
			b += n
		}
	}
	return changes, undo
}

func cloneDisks(disks [][]byte) (c [][]byte) {
	for _, d := range disks {
		c = append(c, bytes.Clone(d))
	}
	return c
}

// same compares as many bytes as want has: a disk that grew stays large in an undo.
func same(got, want [][]byte) error {
	for d := range want {
		if !bytes.Equal(got[d][:len(want[d])], want[d]) {
			return fmt.Errorf("disk %d differs", d)
		}
	}
	return nil
}

func merge(t testing.TB, o EncoderOptions, deltas ...[]byte) []byte {
	t.Helper()
	var in []*Reader
	for _, d := range deltas {
		in = append(in, open(t, d))
	}
	var b bytes.Buffer
	h, tr, err := Merge(&b, in, o)
	if err != nil {
		t.Fatal(err)
	}
	if h.Follows != in[0].Header().Follows || h.Position(tr) != in[len(in)-1].Position() {
		t.Fatalf("merged %v to %v", h.Follows, h.Position(tr))
	}
	return b.Bytes()
}

func TestMergedDoesWhatItsInputsDo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := drawHistory(rt, t)
		first, last := h.states[0], h.states[len(h.states)-1]
		inOrder, merged := cloneDisks(first), cloneDisks(first)
		for _, f := range h.forward {
			apply(t, f, inOrder)
		}
		apply(t, merge(t, drawOptions(rt), h.forward...), merged)
		if err := same(inOrder, last); err != nil {
			rt.Fatalf("forward in order: %v", err)
		}
		if err := same(merged, last); err != nil {
			rt.Fatalf("forward merged: %v", err)
		}

		newestFirst := make([][]byte, 0, len(h.undo))
		for i := len(h.undo) - 1; i >= 0; i-- {
			newestFirst = append(newestFirst, h.undo[i])
		}
		inOrder, merged = cloneDisks(last), cloneDisks(last)
		for _, u := range newestFirst {
			apply(t, u, inOrder)
		}
		apply(t, merge(t, drawOptions(rt), newestFirst...), merged)
		if err := same(inOrder, first); err != nil {
			rt.Fatalf("undo in order: %v", err)
		}
		if err := same(merged, first); err != nil {
			rt.Fatalf("undo merged: %v", err)
		}
	})
}

func TestMergeInSteps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := drawHistory(rt, t)
		o := drawOptions(rt)
		k := rapid.IntRange(1, len(h.forward)).Draw(rt, "split")
		parts := [][]byte{merge(t, o, h.forward[:k]...)}
		if k < len(h.forward) {
			parts = append(parts, merge(t, o, h.forward[k:]...))
		}
		got := cloneDisks(h.states[0])
		apply(t, merge(t, o, parts...), got)
		if err := same(got, h.states[len(h.states)-1]); err != nil {
			rt.Fatal(err)
		}
	})
}

func TestRandomAccessEqualsStreaming(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := drawHistory(rt, t)
		i := rapid.IntRange(0, len(h.forward)-1).Draw(rt, "delta")
		r := open(t, h.forward[i])
		streamed, read := cloneDisks(h.states[i]), cloneDisks(h.states[i+1])
		apply(t, h.forward[i], streamed)
		for d := range read {
			clear(read[d])
			copy(read[d], h.states[i][d])
		}
		if err := applyReader(r, read); err != nil {
			rt.Fatal(err)
		}
		if err := same(read, streamed); err != nil {
			rt.Fatal(err)
		}
		d := rapid.IntRange(0, len(read)-1).Draw(rt, "disk")
		blocks := r.Header().Disks[d].Blocks()
		m := block.NewMap(blocks)
		if err := r.Map(d, m); err != nil {
			rt.Fatal(err)
		}
		start := rapid.Int64Range(0, blocks-1).Draw(rt, "start")
		seen := block.NewMap(blocks)
		err := r.ReadBlocks(d, start, rapid.Int64Range(0, blocks).Draw(rt, "count"), func(at int64, data []byte) error {
			if !bytes.Equal(data, streamed[d][at*block.Size:][:len(data)]) {
				rt.Fatalf("block %d and on: other bytes", at)
			}
			seen.Set(at, block.BlocksOf(int64(len(data))))
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		for b := range blocks {
			data, held, err := r.Lookup(d, b, nil)
			if err != nil || held != m.Has(b) || seen.Has(b) && !held {
				rt.Fatalf("block %d: held %v, map says %v, %v", b, held, m.Has(b), err)
			}
			if held && !bytes.Equal(data, streamed[d][b*block.Size:][:len(data)]) {
				rt.Fatalf("block %d: other bytes", b)
			}
		}
	})
}

func TestRecodeKeepsChecksum(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := drawHistory(rt, t)
		n := 0
		var b bytes.Buffer
		_, tr, err := Recode(&b, bytes.NewReader(h.forward[0]), func(*Frame) Codec {
			n++
			return Codec(n % 3)
		})
		if err != nil {
			rt.Fatal(err)
		}
		if tr.Checksum != open(t, h.forward[0]).Trailer().Checksum {
			rt.Fatal("the checksum changed")
		}
		got := cloneDisks(h.states[0])
		apply(t, b.Bytes(), got)
		if err := same(got, h.states[1]); err != nil {
			rt.Fatal(err)
		}
	})
}
