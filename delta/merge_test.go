package delta

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// line is two deltas that follow each other.
func line(t *testing.T) (a, b *Reader) {
	ones, twos := bytes.Repeat([]byte{1}, 4*block.Size), bytes.Repeat([]byte{2}, 2*block.Size)
	a = open(t, encode(t, header(1, 1<<20), EncoderOptions{}, crash, change{data: ones}))
	h := header(2, 1<<20)
	h.Follows = a.Position()
	return a, open(t, encode(t, h, EncoderOptions{}, crash, change{start: 1, data: twos}))
}

func TestMergeRefusesAGap(t *testing.T) {
	a, b := line(t)
	spoilt := map[string]func(p *homeward.Position){
		"generation":    func(p *homeward.Position) { p.Generation.Number++ },
		"generation id": func(p *homeward.Position) { p.Generation.ID[3]++ },
		"sequence":      func(p *homeward.Position) { p.Sequence++ },
		"cut":           func(p *homeward.Position) { p.Cut[0]++ },
		"checksum":      func(p *homeward.Position) { p.Checksum[31]++ },
	}
	for name, spoil := range spoilt {
		h := b.Header()
		spoil(&h.Follows)
		other := open(t, encode(t, h, EncoderOptions{}, crash))
		_, _, err := Merge(io.Discard, []*Reader{a, other}, EncoderOptions{})
		var pos *homeward.PositionError
		if homeward.KindOf(err) != homeward.Conflict || !errors.As(err, &pos) || pos.True != a.Position() {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if _, _, err := Merge(io.Discard, []*Reader{b, a}, EncoderOptions{}); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("out of order: %v", err)
	}
}

func TestMergeRefusesStrangers(t *testing.T) {
	a, b := line(t)
	for name, spoil := range map[string]func(h *Header){
		"item": func(h *Header) { h.Item, h.Machine.Item = "web02", "web02" },
		"kind": func(h *Header) { h.Kind = Undo },
		"disk": func(h *Header) { h.Disks[0].ID, h.Machine.Disks[0].ID = "other", "other" },
	} {
		h := header(2, 1<<20)
		h.Follows = b.Header().Follows
		spoil(&h)
		other := open(t, encode(t, h, EncoderOptions{}, crash))
		if _, _, err := Merge(io.Discard, []*Reader{a, other}, EncoderOptions{}); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if _, _, err := Merge(io.Discard, nil, EncoderOptions{}); homeward.KindOf(err) != homeward.Invalid {
		t.Fatalf("nothing: %v", err)
	}
}

// A merged delta states where it leads, for its own chain is another.
func TestMergedHeader(t *testing.T) {
	a, b := line(t)
	var out bytes.Buffer
	h, tr, err := Merge(&out, []*Reader{a, b}, EncoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if h.To != b.Position() || h.Position(tr) != b.Position() || h.Follows != a.Header().Follows || tr.Checksum == b.Trailer().Checksum {
		t.Fatalf("%+v %+v", h, tr)
	}
	if tr.Blocks != 4 || tr.PlainBytes != 4*block.Size {
		t.Fatalf("%+v", tr)
	}
}

// An input whose frames were exchanged for others that verify one by one is
// refused by its chain.
func TestMergeChecksChains(t *testing.T) {
	a, _ := line(t)
	h := header(1, 1<<20)
	other := encode(t, h, EncoderOptions{}, crash, change{data: bytes.Repeat([]byte{3}, 4*block.Size)})
	mixed := bytes.Clone(other)
	sealed := must(a.foot.encode())(t)
	copy(mixed[len(mixed)-trailerSize:], sealed)
	if _, _, err := Merge(io.Discard, []*Reader{open(t, mixed)}, EncoderOptions{}); homeward.KindOf(err) != homeward.Corrupt {
		t.Fatalf("got %v", err)
	}
}
