package delta

import (
	"bytes"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// forge writes frames as given: in any order, with any runs, their CRCs right.
func forge(t *testing.T, frames ...[]block.Run) []byte {
	h := header(1, 1000*block.Size)
	raw := must(encodeHeader(h))(t)
	var b bytes.Buffer
	s := newSink(&b, h, raw)
	for _, runs := range frames {
		if err := s.frame(&Frame{Zero: true, Runs: runs}, nil); err != nil {
			t.Fatal(err)
		}
	}
	must(s.close(crash))(t)
	return b.Bytes()
}

func TestForgedOrderIsRefused(t *testing.T) {
	if b := forge(t, []block.Run{{Start: 1, Count: 2}, {Start: 4, Count: 1}}, []block.Run{{Start: 5, Count: 995}}); readers["stream"](b) != nil || readers["index"](b) != nil {
		t.Fatal("a delta in order is refused")
	}
	for name, frames := range map[string][][]block.Run{
		"runs descend":            {{{Start: 5, Count: 1}, {Start: 1, Count: 1}}},
		"runs overlap":            {{{Start: 5, Count: 3}, {Start: 7, Count: 1}}},
		"runs touch":              {{{Start: 5, Count: 3}, {Start: 8, Count: 1}}},
		"an empty run":            {{{Start: 5, Count: 0}}},
		"beyond the disk":         {{{Start: 999, Count: 2}}},
		"frames descend":          {{{Start: 5, Count: 1}}, {{Start: 1, Count: 1}}},
		"frames overlap":          {{{Start: 5, Count: 3}}, {{Start: 7, Count: 1}}},
		"a frame within the gaps": {{{Start: 5, Count: 1}, {Start: 9, Count: 1}}, {{Start: 7, Count: 1}}},
	} {
		b := forge(t, frames...)
		for way, read := range readers {
			if err := read(b); homeward.KindOf(err) != homeward.Corrupt {
				t.Errorf("%s, %s: %v", name, way, err)
			}
		}
	}
}

// A protected disk may itself hold deltas: a delta cut off where one inside it
// ends has a valid trailer, of another length.
func TestPrefixThatEndsInAnotherTrailer(t *testing.T) {
	inner := encode(t, header(1, 512), EncoderOptions{}, crash, change{data: text(512)})
	payload := make([]byte, block.Size)
	payload[len(payload)-1] = 1
	copy(payload, inner)
	outer := encode(t, header(1, 1<<20), EncoderOptions{}, crash, change{data: payload})
	cut := outer[:bytes.Index(outer, inner)+len(inner)]
	for way, read := range readers {
		if err := read(cut); homeward.KindOf(err) != homeward.Corrupt {
			t.Errorf("%s: %v", way, err)
		}
	}
}

// What a later version may mean by a bit or a field is not guessed at.
func TestUnknownIsUnsupported(t *testing.T) {
	b := encode(t, header(1, 512), EncoderOptions{}, crash, change{data: text(512)})
	for name, spoil := range map[string]func(b []byte){
		"version":        func(b []byte) { b[8] = 2 },
		"flag":           func(b []byte) { b[10] |= 2 },
		"high flag":      func(b []byte) { b[11] |= 0x80 },
		"manifest field": func(b []byte) { copy(b[bytes.Index(b, []byte(`"cpus"`)):], `"gpus"`) },
	} {
		c := bytes.Clone(b)
		spoil(c)
		c = reseal(c)
		for way, read := range readers {
			if err := read(c); homeward.KindOf(err) != homeward.Unsupported || homeward.RemedyOf(err) == "" {
				t.Errorf("%s, %s: %v", name, way, err)
			}
		}
	}
}
