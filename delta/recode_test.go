package delta

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

func TestCompressorChoose(t *testing.T) {
	r := seeded(t)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write(benchData()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	half := append(random(r, 32<<10), text(32<<10)...)
	for _, c := range []struct {
		name   string
		f      Frame
		shrink bool
	}{
		{"text", Frame{stored: text(256 << 10)}, true},
		{"words", Frame{stored: benchData()}, true},
		{"half of it", Frame{stored: half}, true},
		{"a short piece", Frame{stored: text(512)}, true},
		{"noise", Frame{stored: noise}, false},
		{"a block of noise", Frame{stored: noise[:block.Size]}, false},
		{"compressed", Frame{stored: gz.Bytes()[:256<<10]}, false},
		{"zero", Frame{Zero: true}, false},
	} {
		for policy, codec := range map[Compressor]Codec{Fast: S2, WAN: Zstd} {
			want := None
			if c.shrink {
				want = codec
			}
			if got := policy.Choose(&c.f); got != want {
				t.Errorf("%s: %v, want %v", c.name, got, want)
			}
		}
	}
	if got := WAN.Choose(&Frame{Codec: S2, stored: text(1000)}); got != S2 {
		t.Errorf("compressed already: %v", got)
	}
}

// A process server compresses, the next one expands: the bytes are the agent's again.
func TestRecodeThereAndBack(t *testing.T) {
	const b = block.Size
	r := seeded(t)
	plain := encode(t, header(1, 1<<20, b+512), EncoderOptions{}, crash,
		change{data: text(100 * b)}, change{start: 101, data: random(r, 3*b)}, change{start: 110, zero: 7},
		change{disk: 1, data: text(b + 512)})
	for _, policy := range []Compressor{Fast, WAN} {
		var packed, again bytes.Buffer
		h, tr, err := RecodeLimited(&packed, bytes.NewReader(plain), Limits{MaxStored: homeward.MaxDelta}, policy.Choose)
		if err != nil {
			t.Fatal(err)
		}
		if packed.Len() > len(plain)/4 {
			t.Errorf("%d bytes of %d", packed.Len(), len(plain))
		}
		if hv, tv, err := Verify(bytes.NewReader(packed.Bytes())); err != nil || tv != tr || hv.Position(tv) != h.Position(tr) {
			t.Fatalf("%+v, %v", tv, err)
		}
		if _, _, err := Recode(&again, &packed, func(*Frame) Codec { return None }); err != nil || !bytes.Equal(again.Bytes(), plain) {
			t.Fatalf("expanded again: %v", err)
		}
	}
}

// Content that was changed together with its CRC does not survive a change of codec.
func TestRecodeVerifiesContent(t *testing.T) {
	b := bytes.Clone(encode(t, header(1, 1<<20), EncoderOptions{}, crash, change{data: text(4 * block.Size)}))
	b[bytes.Index(b, text(100))] ^= 1
	b = reseal(b)
	if err := drain(bytes.NewReader(b), Limits{}); err != nil {
		t.Fatalf("the CRCs are right, but: %v", err)
	}
	if _, _, err := Recode(io.Discard, bytes.NewReader(b), Fast.Choose); homeward.KindOf(err) != homeward.Corrupt {
		t.Fatalf("got %v", err)
	}
	for way, read := range readers {
		if err := read(b); homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("%s: %v", way, err)
		}
	}
}
