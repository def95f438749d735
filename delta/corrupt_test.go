package delta

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// shapes are small valid deltas that together use every part of the format.
func shapes(t testing.TB) map[string][]byte {
	const b = block.Size
	r := rand.New(rand.NewPCG(1, 1))
	group := homeward.Mark{Kind: homeward.MarkGroup, At: when, Group: homeward.ID{1, 2, 3}, Label: "before the upgrade"}
	undo := header(5, 3*b)
	undo.Kind, undo.Machine, undo.To, undo.Follows = Undo, nil, position(4), position(5)
	return map[string][]byte{
		"empty":      encode(t, header(1, b), EncoderOptions{}, homeward.Mark{Kind: homeward.MarkNone, At: when}),
		"zeros":      encode(t, header(1, 100*b), EncoderOptions{}, group, change{start: 3, zero: 5}, change{start: 90, zero: 10}),
		"short disk": encode(t, header(1, 512), EncoderOptions{}, crash, change{data: random(r, 512)}),
		"s2": encode(t, header(1, 9*b), EncoderOptions{Codec: S2}, crash,
			change{data: text(3 * b)}, change{start: 5, data: text(2 * b)}),
		"zstd, two disks": encode(t, header(1, 9*b, 5*b+1024), EncoderOptions{Codec: Zstd, FrameBlocks: 2}, crash,
			change{data: text(3 * b)}, change{start: 4, zero: 2}, change{disk: 1, start: 4, data: text(b + 1024)}),
		"undo": encode(t, undo, EncoderOptions{FrameBlocks: 1}, crash, change{data: random(r, b)}),
	}
}

// readers are the two ways to read a whole delta.
var readers = map[string]func(b []byte) error{
	"stream": func(b []byte) error {
		_, _, err := Verify(bytes.NewReader(b))
		return err
	},
	"index": func(b []byte) error {
		r, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		for i, d := range r.Header().Disks {
			if err := r.ReadBlocks(i, 0, d.Blocks(), func(int64, []byte) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	},
}

func eachShapeAndReader(t *testing.T, do func(t *testing.T, b []byte, read func([]byte) error)) {
	for shape, b := range shapes(t) {
		for way, read := range readers {
			t.Run(shape+", "+way, func(t *testing.T) {
				t.Parallel()
				if err := read(b); err != nil {
					t.Fatal(err)
				}
				do(t, bytes.Clone(b), read)
			})
		}
	}
}

func TestEveryPrefixErrs(t *testing.T) {
	eachShapeAndReader(t, func(t *testing.T, b []byte, read func([]byte) error) {
		for n := range b {
			if err := read(b[:n:n]); homeward.KindOf(err) != homeward.Corrupt {
				t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
			}
		}
		if err := read(append(b, 0)); homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}

func TestEveryFlippedBitErrs(t *testing.T) {
	eachShapeAndReader(t, func(t *testing.T, b []byte, read func([]byte) error) {
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				if read(b) == nil {
					t.Fatalf("byte %d bit %d of %d bytes: no error", i, bit, len(b))
				}
				b[i] ^= 1 << bit
			}
		}
	})
}

// A file whose index has levels is too large to flip every bit of: some frames,
// and the whole of the index.
func TestFlippedBitsOfATallIndex(t *testing.T) {
	r := seeded(t)
	b := tall(t, 300)
	for way, read := range readers {
		t.Run(way, func(t *testing.T) {
			if err := read(b); err != nil {
				t.Fatal(err)
			}
			for range 1500 {
				i, bit := r.IntN(len(b)), r.IntN(8)
				b[i] ^= 1 << bit
				if read(b) == nil {
					t.Fatalf("byte %d bit %d: no error", i, bit)
				}
				b[i] ^= 1 << bit
			}
		})
	}
}

// tall is a delta of n zero frames of one block each, at every second block.
func tall(t testing.TB, n int) []byte {
	t.Helper()
	h := header(1, int64(2*n)*block.Size)
	raw := must(encodeHeader(h))(t)
	var b bytes.Buffer
	s := newSink(&b, h, raw)
	for i := range n {
		if err := s.frame(&Frame{Zero: true, Runs: []block.Run{{Start: int64(2 * i), Count: 1}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	must(s.close(crash))(t)
	return b.Bytes()
}

func TestTallIndex(t *testing.T) {
	for _, n := range []int{1, 255, 256, 257, 256 * 256, 256*256 + 1} {
		b := tall(t, n)
		_, tr, err := Verify(bytes.NewReader(b))
		if err != nil || tr.Frames != int64(n) {
			t.Fatalf("%d frames: %+v, %v", n, tr, err)
		}
		r := open(t, b)
		for blk := 0; blk < 2*n; blk += 1 + n/100 {
			_, held, err := r.Lookup(0, int64(blk), nil)
			if err != nil || held != (blk%2 == 0) {
				t.Fatalf("%d frames, block %d: held %v, %v", n, blk, held, err)
			}
		}
		m := block.NewMap(int64(2 * n))
		if err := r.Map(0, m); err != nil || m.Count() != int64(n) {
			t.Fatalf("%d frames: the map has %d, %v", n, m.Count(), err)
		}
	}
}
