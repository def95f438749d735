package delta

import (
	"encoding/binary"

	"github.com/homeward-dr/homeward/block"
)

// key orders blocks: by disk, then by number.
type key struct {
	disk  int
	block int64
}

func (k key) less(o key) bool { return k.disk < o.disk || k.disk == o.disk && k.block < o.block }

const (
	chunkTag     = 'I'
	chunkEntries = 256
	chunkFixed   = 4
	entrySize    = 32
	chunkMax     = chunkFixed + chunkEntries*entrySize + crcSize
	maxHeight    = 8 // levels: more than 2^63 frames
)

// entry points from the index at a record: a frame (from level 0) or a chunk one
// level down.
type entry struct {
	first, end key   // the blocks below it lie in [first, end)
	offset     int64 // of the record in the file
	length     int64 // of the record
}

func appendEntry(b []byte, e entry) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(e.first.block))
	b = le.AppendUint64(b, uint64(e.end.block))
	b = le.AppendUint64(b, uint64(e.offset))
	b = le.AppendUint32(b, uint32(e.length))
	b = le.AppendUint16(b, uint16(e.first.disk))
	return le.AppendUint16(b, uint16(e.end.disk))
}

func parseEntry(b []byte) entry {
	le := binary.LittleEndian
	return entry{
		first:  key{int(le.Uint16(b[28:])), int64(le.Uint64(b))},
		end:    key{int(le.Uint16(b[30:])), int64(le.Uint64(b[8:]))},
		offset: int64(le.Uint64(b[16:])),
		length: int64(le.Uint32(b[24:])),
	}
}

// indexer builds the index bottom up while frames go by: a level whose chunk is
// full emits it and enters it in the level above, so memory is one chunk per
// level. The encoder's emit writes a chunk; the decoder's reads one and compares.
type indexer struct {
	emit   func(chunk []byte) (offset int64, err error)
	levels [][]byte // chunks being filled, without CRC
}

// add enters a record at a level.
func (x *indexer) add(level int, e entry) error {
	if level == len(x.levels) {
		x.levels = append(x.levels, append(make([]byte, 0, chunkMax), chunkTag, byte(level), 0, 0))
	}
	x.levels[level] = appendEntry(x.levels[level], e)
	if x.count(level) == chunkEntries {
		return x.flush(level)
	}
	return nil
}

func (x *indexer) count(level int) int { return (len(x.levels[level]) - chunkFixed) / entrySize }

func (x *indexer) flush(level int) error {
	c := x.levels[level]
	binary.LittleEndian.PutUint16(c[2:], uint16(x.count(level)))
	first := parseEntry(c[chunkFixed:])
	last := parseEntry(c[len(c)-entrySize:])
	c = appendCRC(c)
	offset, err := x.emit(c)
	if err != nil {
		return err
	}
	x.levels[level] = c[:chunkFixed]
	return x.add(level+1, entry{first: first.first, end: last.end, offset: offset, length: int64(len(c))})
}

// finish emits what is left and returns the root chunk's entry and the height of
// the tree: 0 without frames.
func (x *indexer) finish() (root entry, height int, err error) {
	for level := 0; level < len(x.levels); level++ {
		n := x.count(level)
		if level > 0 && level == len(x.levels)-1 && n == 1 {
			return parseEntry(x.levels[level][chunkFixed:]), level, nil
		}
		if n > 0 {
			if err := x.flush(level); err != nil {
				return entry{}, 0, err
			}
		}
	}
	return entry{}, 0, nil
}

// pending is at least the number of bytes finish will emit.
func (x *indexer) pending() int64 {
	n := int64(chunkFixed + crcSize + 2*entrySize)
	for _, c := range x.levels {
		n += int64(len(c)) + crcSize + entrySize
	}
	return n
}

// chunk is a stored index chunk, checked.
type chunk struct {
	level   int
	entries []byte
}

func (c chunk) count() int        { return len(c.entries) / entrySize }
func (c chunk) entry(i int) entry { return parseEntry(c.entries[i*entrySize:]) }

// parseChunk checks a chunk of the given level that an entry with the bounds of
// at led to; the root has no such entry (at is nil).
func parseChunk(b []byte, level int, at *entry) (chunk, error) {
	n := (len(b) - chunkFixed - crcSize) / entrySize
	if n < 1 || n > chunkEntries || len(b) != chunkFixed+n*entrySize+crcSize || !sealed(b) {
		return chunk{}, corrupt("index", "the CRC of a chunk does not match")
	}
	if b[0] != chunkTag || int(b[1]) != level || int(binary.LittleEndian.Uint16(b[2:])) != n {
		return chunk{}, corrupt("index", "a chunk of another level or length")
	}
	c := chunk{level: level, entries: b[chunkFixed : len(b)-crcSize]}
	var from key
	for i := range n {
		e := c.entry(i)
		if e.first.less(from) || !e.first.less(e.end) || e.first.block < 0 || e.end.block > 1<<63/block.Size {
			return chunk{}, corrupt("index", "entries out of order")
		}
		from = e.end
	}
	if at != nil && (c.entry(0).first != at.first || from != at.end) {
		return chunk{}, corrupt("index", "a chunk of other blocks than the one above says")
	}
	return c, nil
}

// from is the first entry that may hold k or a block after it.
func (c chunk) from(k key) int {
	lo, hi := 0, c.count()
	for lo < hi {
		mid := (lo + hi) / 2
		if k.less(c.entry(mid).end) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
