package delta

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// reseal mends the CRCs and the length of a mutated delta, as far as its records
// can be followed: so that fuzzing gets beyond them.
func reseal(in []byte) []byte {
	b := bytes.Clone(in)
	le := binary.LittleEndian
	mend := func(from, to int) bool {
		if from < 0 || to > len(b) || to-from < crcSize {
			return false
		}
		le.PutUint32(b[to-crcSize:], crc(b[from:to-crcSize]))
		return true
	}
	if len(b) < preludeSize {
		return b
	}
	copy(b, magic)
	at := preludeSize + int(le.Uint32(b[12:])%(1<<20)) + crcSize
	for mend(0, at); at < len(b)-chunkFixed; {
		end := at
		switch b[at] {
		case frameTag:
			if at+frameFixed > len(b) {
				return b
			}
			stored := int(le.Uint32(b[at+4:]) % (1 << 21))
			end += frameFixed + int(le.Uint32(b[at+20:])%1024)*runSize + crcSize
			if end+stored <= len(b) && stored > 0 {
				le.PutUint32(b[at+8:], crc(b[end:end+stored]))
			}
			mend(at, end)
			end += stored
		case chunkTag:
			end += chunkFixed + int(le.Uint16(b[at+2:]))*entrySize + crcSize
			mend(at, end)
		default:
			if n := len(b) - trailerSize; n > 0 {
				le.PutUint64(b[n+296:], uint64(len(b)))
				copy(b[n+336:], endMagic)
				mend(n, len(b))
			}
			return b
		}
		at = end
	}
	return b
}

func addShapes(f *testing.F) {
	for _, b := range shapes(f) {
		f.Add(b)
	}
}

// FuzzDecoder: nothing panics, allocation is bounded, and what Verify accepts is
// accepted by every other way to read it, with the same content.
func FuzzDecoder(f *testing.F) {
	addShapes(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte) {
			h, tr, err := Verify(bytes.NewReader(b))
			if err != nil {
				if k := homeward.KindOf(err); k != homeward.Corrupt && k != homeward.Invalid && k != homeward.Unsupported {
					t.Fatalf("kind %v: %v", k, err)
				}
				return
			}
			if tr.Blocks < 1<<16 {
				if err := readers["index"](b); err != nil {
					t.Fatalf("accepted as a stream, refused through the index: %v", err)
				}
			}
			var out bytes.Buffer
			_, again, err := Recode(&out, bytes.NewReader(b), func(*Frame) Codec { return None })
			if err != nil || again.Checksum != tr.Checksum {
				t.Fatalf("recoded: %v, checksum of %v", err, h.Item)
			}
		}
		check(b)
		check(reseal(b))
	})
}

// FuzzReader: hostile indexes end in an error, never in a panic or a loop.
func FuzzReader(f *testing.F) {
	addShapes(f)
	f.Add(tall(f, 300))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			r, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				continue
			}
			for i, d := range r.Header().Disks {
				n := min(d.Blocks(), 1<<12)
				_ = r.ReadBlocks(i, 0, n, func(int64, []byte) error { return nil })
				_, _, _ = r.Lookup(i, n-1, nil)
				_ = r.Map(i, block.NewMap(n))
			}
			_ = Inspect(io.Discard, bytes.NewReader(b), int64(len(b)), false)
		}
	})
}

// FuzzMerge: whatever the inputs, a merge errs or gives a delta that verifies.
func FuzzMerge(f *testing.F) {
	a := encode(f, header(1, 9*block.Size+512), EncoderOptions{Codec: S2}, crash,
		change{data: text(4 * block.Size)}, change{start: 8, data: text(block.Size + 512)})
	ha := must(Open(bytes.NewReader(a), int64(len(a))))(f)
	hb := header(2, 12*block.Size)
	hb.Follows = ha.Position()
	b := encode(f, hb, EncoderOptions{FrameBlocks: 2, Codec: Zstd}, crash, change{start: 1, zero: 2}, change{start: 3, data: text(2 * block.Size)})
	f.Add(a, b, false)
	f.Add(b, a, true)
	f.Fuzz(func(t *testing.T, a, b []byte, mend bool) {
		if mend {
			a, b = reseal(a), reseal(b)
		}
		ra, errA := Open(bytes.NewReader(a), int64(len(a)))
		rb, errB := Open(bytes.NewReader(b), int64(len(b)))
		if errA != nil || errB != nil {
			return
		}
		// Positions hardly ever join by chance; the rule has its own test.
		rb.header.Follows = ra.Position()
		var out bytes.Buffer
		h, tr, err := Merge(&out, []*Reader{ra, rb}, EncoderOptions{})
		if err != nil {
			return
		}
		if hv, tv, err := Verify(bytes.NewReader(out.Bytes())); err != nil || hv.Position(tv) != h.Position(tr) {
			t.Fatalf("merged: %v", err)
		}
	})
}
