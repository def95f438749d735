package delta

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
)

// Trailer closes a delta.
type Trailer struct {
	Blocks      int64             `json:"blocks"`       // all of them, zero ones too
	ZeroBlocks  int64             `json:"zero_blocks"`  // those in zero frames
	Frames      int64             `json:"frames"`       // data and zero frames
	PlainBytes  int64             `json:"plain_bytes"`  // of data frames, before compression
	StoredBytes int64             `json:"stored_bytes"` // of data frames, as stored
	Mark        homeward.Mark     `json:"mark"`
	Checksum    homeward.Checksum `json:"checksum"` // chained: see the package document
}

const (
	trailerTag  = 'T'
	labelMax    = 200
	trailerSize = 40 + labelMax + 8*8 + 32 + 8 + crcSize
	endMagic    = "\xf5HWEND\r\n"
)

// markKinds are the stored numbers of mark kinds: their index. Append only.
var markKinds = [...]homeward.MarkKind{homeward.MarkNone, homeward.MarkCrash, homeward.MarkApp, homeward.MarkGroup}

// footer is a trailer as stored: with what finds the index.
type footer struct {
	Trailer
	root   entry // offset and length alone
	height int
	size   int64 // of the whole file
}

// appendMark appends a mark in the fixed form that the trailer stores and the
// chain takes in.
func appendMark(b []byte, m homeward.Mark) ([]byte, error) {
	bad := func(field, fix, format string, args ...any) ([]byte, error) {
		return nil, homeward.Errorf("encode delta", homeward.Invalid, field, fix, format, args...)
	}
	kind := -1
	for i, k := range markKinds {
		if k == m.Kind {
			kind = i
		}
	}
	if kind < 0 {
		return bad("mark.kind", "use one of homeward's mark kinds", "%q", m.Kind)
	}
	if len(m.Label) > labelMax {
		return bad("mark.label", fmt.Sprintf("give at most %d bytes", labelMax), "%d bytes", len(m.Label))
	}
	le := binary.LittleEndian
	b = append(b, byte(kind), byte(len(m.Label)))
	b = le.AppendUint32(b, uint32(m.At.Nanosecond()))
	b = le.AppendUint64(b, uint64(m.At.Unix()))
	b = append(b, m.Group[:]...)
	b = append(b, m.Label...)
	return append(b, make([]byte, labelMax-len(m.Label))...), nil
}

func parseMark(f *fields) (m homeward.Mark, err error) {
	kind, label := int(f.u8()), int64(f.u8())
	nanos, seconds := f.u32(), int64(f.u64())
	copy(m.Group[:], f.take(int64(len(m.Group))))
	text := fields{rest: f.take(labelMax)}
	m.Label = string(text.take(label))
	if kind >= len(markKinds) || text.short || nanos >= 1e9 {
		return m, corrupt("trailer", "the mark is not valid")
	}
	m.Kind = markKinds[kind]
	m.At = time.Unix(seconds, int64(nanos)).UTC()
	return m, nil
}

func (t footer) encode() ([]byte, error) {
	le := binary.LittleEndian
	b := make([]byte, 0, trailerSize)
	b = append(b, trailerTag, byte(t.height))
	b, err := appendMark(b, t.Mark)
	if err != nil {
		return nil, err
	}
	b = le.AppendUint64(b, 0) // reserved
	for _, n := range []int64{t.Blocks, t.ZeroBlocks, t.Frames, t.PlainBytes, t.StoredBytes, t.root.offset, t.root.length, t.size} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = append(b, t.Checksum[:]...)
	b = append(b, endMagic...)
	return appendCRC(b), nil
}

func parseTrailer(b []byte) (t footer, err error) {
	if b[0] != trailerTag || string(b[trailerSize-crcSize-len(endMagic):trailerSize-crcSize]) != endMagic {
		return t, corrupt("trailer", "the delta ends early, or in something else")
	}
	if !sealed(b) {
		return t, corrupt("trailer", "its CRC does not match")
	}
	f := fields{rest: b[1:]}
	t.height = int(f.u8())
	if t.Mark, err = parseMark(&f); err != nil {
		return t, err
	}
	f.u64() // reserved
	for _, n := range []*int64{&t.Blocks, &t.ZeroBlocks, &t.Frames, &t.PlainBytes, &t.StoredBytes, &t.root.offset, &t.root.length, &t.size} {
		*n = int64(f.u64())
	}
	copy(t.Checksum[:], f.take(int64(len(t.Checksum))))
	return t, nil
}
