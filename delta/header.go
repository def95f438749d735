package delta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Kind is the direction of a delta.
type Kind uint8

const (
	Forward Kind = iota // new content: leads from an older state to a newer one
	Undo                // old content: leads from a newer state back to an older one
)

func (k Kind) String() string {
	if k == Undo {
		return "undo"
	}
	return "forward"
}

// MarshalText gives the word for listings.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// DiskInfo is one disk of the item; its index in Header.Disks is the disk's
// number inside the delta.
type DiskInfo struct {
	ID   homeward.DiskID `json:"id"`
	Size int64           `json:"size"` // bytes, at least 1; need not be a multiple of block.Size
}

// Blocks is the number of blocks; the last one may be partial.
func (d DiskInfo) Blocks() int64 {
	n := d.Size / block.Size
	if d.Size%block.Size != 0 {
		n++
	}
	return n
}

// Header opens a delta: what it is about and which two states it joins.
type Header struct {
	Kind  Kind            `json:"kind"`
	Item  homeward.ItemID `json:"item"`
	Disks []DiskInfo      `json:"disks"` // 1 to homeward.MaxDisks
	// Follows is where a copy must stand for the delta to be applied to it.
	Follows homeward.Position `json:"follows"`
	// To is where the copy stands afterwards. A Forward delta as captured leaves
	// To.Checksum zero: the trailer's chained checksum takes its place (see
	// Header.Position). An Undo delta states To whole, and so does a merged one.
	To homeward.Position `json:"to"`
	// Machine is the machine as it is at To. Only an Undo delta may lack it.
	Machine *homeward.Machine `json:"machine,omitempty"`
}

// Chained reports whether the content proves the position it leads to. If not (an
// undo, a merged delta), To is only stated: take such a delta from who may say so.
func (h Header) Chained() bool { return h.Kind == Forward && h.To.Checksum.IsZero() }

// Position is where a copy stands after the delta: To, with the trailer's
// checksum where the header could not know it.
func (h Header) Position(t Trailer) homeward.Position {
	to := h.To
	if h.Chained() {
		to.Checksum = t.Checksum
	}
	return to
}

const (
	magic       = "\xf5HWDLT\r\n" // a high bit and a line end, so that a text transfer shows
	version     = 1
	flagUndo    = 1 << 0
	preludeSize = 16
	crcSize     = 4
	positionLen = 8 + 16 + 8 + 16 + 32
	nameMax     = 64 // bytes of an item or disk id
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func appendCRC(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc(b)) }

// sealed reports whether b ends in the CRC of what is before it.
func sealed(b []byte) bool {
	n := len(b) - crcSize
	return n >= 0 && binary.LittleEndian.Uint32(b[n:]) == crc(b[:n])
}

// Validate names the first field that is wrong.
func (h Header) Validate() error {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf("validate delta header", homeward.Invalid, field, fix, format, args...)
	}
	if h.Kind > Undo {
		return bad("kind", "use Forward or Undo", "kind %d", h.Kind)
	}
	if err := h.Item.Validate(); err != nil {
		return err
	}
	if len(h.Disks) == 0 || len(h.Disks) > homeward.MaxDisks {
		return bad("disks", fmt.Sprintf("give 1 to %d disks", homeward.MaxDisks), "%d disks", len(h.Disks))
	}
	seen := map[homeward.DiskID]bool{}
	for i, d := range h.Disks {
		field := fmt.Sprintf("disks[%d]", i)
		if err := d.ID.Validate(); err != nil {
			return err
		}
		if seen[d.ID] {
			return bad(field+".id", "name every disk once", "disk %q appears twice", d.ID)
		}
		seen[d.ID] = true
		if d.Size <= 0 {
			return bad(field+".size", "give the size in bytes", "size %d", d.Size)
		}
	}
	return h.validateMachine(bad)
}

// validateMachine holds a Forward delta to its manifest: a point whose machine
// lists other disks than the delta carries could not be booted.
func (h Header) validateMachine(bad func(field, fix, format string, args ...any) error) error {
	if h.Machine == nil {
		if h.Kind == Forward {
			return bad("machine", "send the machine manifest with every delta", "a forward delta without one")
		}
		return nil
	}
	if err := h.Machine.Validate(); err != nil {
		return err
	}
	if h.Machine.Item != h.Item {
		return bad("machine.item", "send the manifest of the same item", "item %q in a delta of %q", h.Machine.Item, h.Item)
	}
	if h.Kind == Undo {
		return nil // the machine of an older point may have had fewer or smaller disks
	}
	const fix = "list in the manifest exactly the delta's disks, in their order"
	if len(h.Machine.Disks) != len(h.Disks) {
		return bad("machine.disks", fix, "%d disks, the delta has %d", len(h.Machine.Disks), len(h.Disks))
	}
	for i, d := range h.Machine.Disks {
		if d.ID != h.Disks[i].ID || d.Size != h.Disks[i].Size {
			return bad(fmt.Sprintf("machine.disks[%d]", i), fix, "%s of %d bytes, the delta has %s of %d bytes",
				d.ID, d.Size, h.Disks[i].ID, h.Disks[i].Size)
		}
	}
	return nil
}

// encodeHeader returns the header as stored, without its CRC.
func encodeHeader(h Header) ([]byte, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	var flags uint16
	if h.Kind == Undo {
		flags |= flagUndo
	}
	le := binary.LittleEndian
	b := append([]byte(nil), magic...)
	b = le.AppendUint16(b, version)
	b = le.AppendUint16(b, flags)
	b = le.AppendUint32(b, 0) // body length, below
	b = appendName(b, string(h.Item))
	b = le.AppendUint16(b, uint16(len(h.Disks)))
	for _, d := range h.Disks {
		b = appendName(b, string(d.ID))
		b = le.AppendUint64(b, uint64(d.Size))
	}
	b = appendPosition(b, h.Follows)
	b = appendPosition(b, h.To)
	var manifest []byte
	if h.Machine != nil {
		var err error
		if manifest, err = json.Marshal(h.Machine); err != nil {
			return nil, homeward.Errorf("encode delta", homeward.Invalid, "machine", "", "%w", err)
		}
		if len(manifest) > DefaultMaxManifest {
			return nil, homeward.Errorf("encode delta", homeward.Invalid, "machine",
				"leave out what is not needed to boot", "the manifest has %d bytes, at most %d fit", len(manifest), DefaultMaxManifest)
		}
	}
	b = le.AppendUint32(b, uint32(len(manifest)))
	b = append(b, manifest...)
	le.PutUint32(b[12:], uint32(len(b)-preludeSize))
	return b, nil
}

func appendName(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func appendPosition(b []byte, p homeward.Position) []byte {
	b = binary.LittleEndian.AppendUint64(b, p.Generation.Number)
	b = append(b, p.Generation.ID[:]...)
	b = binary.LittleEndian.AppendUint64(b, p.Sequence)
	b = append(b, p.Cut[:]...)
	return append(b, p.Checksum[:]...)
}

// readHeader reads a header and its CRC; raw is the header as stored, without
// its CRC. Nothing longer than the limits is allocated.
func readHeader(r io.Reader, l Limits) (h Header, raw []byte, err error) {
	raw = make([]byte, preludeSize)
	if err := readFull(r, raw, "header"); err != nil {
		return h, nil, err
	}
	if string(raw[:len(magic)]) != magic {
		return h, nil, homeward.Errorf("decode delta", homeward.Corrupt, "header", "give a file made by homeward", "this is not a delta")
	}
	le := binary.LittleEndian
	if v := le.Uint16(raw[8:]); v != version {
		return h, nil, unsupported("version %d; this build reads version %d", v, version)
	}
	flags := le.Uint16(raw[10:])
	if flags&^uint16(flagUndo) != 0 {
		return h, nil, unsupported("unknown flags %#x", flags&^uint16(flagUndo))
	}
	n := int64(le.Uint32(raw[12:]))
	if most := l.headerBody(); n > most {
		return h, nil, homeward.Errorf("decode delta", homeward.Invalid, "header", "send fewer disks or a smaller machine manifest",
			"header of %d bytes, at most %d are allowed", n, most)
	}
	raw = append(raw, make([]byte, n+crcSize)...)
	if err := readFull(r, raw[preludeSize:], "header"); err != nil {
		return h, nil, err
	}
	if !sealed(raw) {
		return h, nil, corrupt("header", "its CRC does not match")
	}
	raw = raw[:len(raw)-crcSize]
	if flags&flagUndo != 0 {
		h.Kind = Undo
	}
	return h, raw, h.parseBody(raw[preludeSize:], l)
}

func (h *Header) parseBody(body []byte, l Limits) error {
	f := fields{rest: body}
	h.Item = homeward.ItemID(f.name())
	disks := int(f.u16())
	if disks > l.MaxDisks {
		return homeward.Errorf("decode delta", homeward.Invalid, "header", "", "%d disks, at most %d are allowed", disks, l.MaxDisks)
	}
	for range disks {
		id := homeward.DiskID(f.name())
		h.Disks = append(h.Disks, DiskInfo{ID: id, Size: int64(f.u64())})
	}
	h.Follows, h.To = f.position(), f.position()
	size := int64(f.u32())
	if size > int64(l.MaxManifest) {
		return homeward.Errorf("decode delta", homeward.Invalid, "machine", "", "manifest of %d bytes, at most %d are allowed", size, l.MaxManifest)
	}
	manifest := f.take(size)
	if f.short || len(f.rest) != 0 {
		return corrupt("header", "its fields do not fill it")
	}
	if len(manifest) > 0 {
		d := json.NewDecoder(bytes.NewReader(manifest))
		d.DisallowUnknownFields()
		h.Machine = new(homeward.Machine)
		if err := d.Decode(h.Machine); err != nil {
			return unsupported("machine manifest: %v", err)
		}
		if d.InputOffset() != size {
			return corrupt("header", "bytes after the machine manifest")
		}
	}
	return h.Validate()
}

// fields takes fields off a byte slice; short is set, and zeros are given, when
// it does not hold them.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int64) []byte {
	if n > int64(len(f.rest)) {
		f.short, f.rest = true, nil
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) uint(n int64) (v uint64) {
	for i, c := range f.take(n) {
		v |= uint64(c) << (8 * i)
	}
	return v
}

func (f *fields) u8() uint8    { return uint8(f.uint(1)) }
func (f *fields) u16() uint16  { return uint16(f.uint(2)) }
func (f *fields) u32() uint32  { return uint32(f.uint(4)) }
func (f *fields) u64() uint64  { return f.uint(8) }
func (f *fields) name() string { return string(f.take(int64(f.u8()))) }

func (f *fields) position() (p homeward.Position) {
	p.Generation.Number = f.u64()
	copy(p.Generation.ID[:], f.take(int64(len(p.Generation.ID))))
	p.Sequence = f.u64()
	copy(p.Cut[:], f.take(int64(len(p.Cut))))
	copy(p.Checksum[:], f.take(int64(len(p.Checksum))))
	return p
}
