package block

import (
	"fmt"
	"iter"
	"math/bits"
	"sync/atomic"
)

// Run is a range of blocks.
type Run struct {
	Start, Count int64
}

// Map is a set of blocks of one disk: a bit each, 32 MiB per TiB. All methods may
// be called concurrently with each other and with Set; each bit changes
// atomically, and a method that looks at many sees each as of some instant
// during the call. Ranges must lie within the map: like a slice index, a range
// outside panics.
type Map struct {
	words  []uint64 // bit b%64 of words[b/64]; bits beyond blocks are zero
	blocks int64
}

// NewMap makes an empty map of a disk of so many blocks.
func NewMap(blocks int64) *Map { return MapOver(make([]uint64, wordsFor(blocks)), blocks) }

// MapOver makes a map of memory that is kept elsewhere, such as a file mapped
// from tmpfs; whatever bits are set there are in it. len(words) must be
// blocks/64, rounded up. Bits beyond the last block are cleared.
func MapOver(words []uint64, blocks int64) *Map {
	if blocks < 0 || int64(len(words)) != wordsFor(blocks) {
		panic(fmt.Sprintf("block: %d words cannot be a map of %d blocks", len(words), blocks))
	}
	if tail := blocks % 64; tail != 0 && words[len(words)-1]>>tail != 0 {
		words[len(words)-1] &= 1<<tail - 1
	}
	return &Map{words: words, blocks: blocks}
}

func wordsFor(blocks int64) int64 { return (blocks + 63) / 64 }

// BlocksOf is how many blocks a disk of size bytes has; the last may be partial.
func BlocksOf(size int64) int64 { return (size + Size - 1) / Size }

func (m *Map) mustHold(start, count int64) {
	if start < 0 || count < 0 || start > m.blocks || count > m.blocks-start {
		panic(fmt.Sprintf("block: range of %d blocks at %d is not within a map of %d", count, start, m.blocks))
	}
}

// eachWord calls do for every word that the range touches, with the bits it touches,
// until do says stop.
func (m *Map) eachWord(start, count int64, do func(w *uint64, mask uint64) (more bool)) {
	m.mustHold(start, count)
	for end := start + count; start < end; {
		n := min(64-start%64, end-start)
		mask := ^uint64(0) >> (64 - n) << (start % 64)
		if !do(&m.words[start/64], mask) {
			return
		}
		start += n
	}
}

// Set adds count blocks from start.
func (m *Map) Set(start, count int64) {
	m.mustHold(start, count)
	for end := start + count; start < end; {
		n := min(64-start%64, end-start)
		orWord(&m.words[start/64], ^uint64(0)>>(64-n)<<(start%64))
		start += n
	}
}

// orWord spares the locked instruction, and the dirtying of a page, where the
// bits are set already: guests write the same blocks over and over.
func orWord(w *uint64, mask uint64) {
	if atomic.LoadUint64(w)&mask != mask {
		atomic.OrUint64(w, mask)
	}
}

// SetBytes adds every block that n bytes at off touch.
func (m *Map) SetBytes(off, n int64) {
	if n > 0 {
		m.Set(off/Size, (off+n-1)/Size-off/Size+1)
	}
}

// ClearRange takes count blocks from start out.
func (m *Map) ClearRange(start, count int64) {
	m.eachWord(start, count, func(w *uint64, mask uint64) bool {
		if atomic.LoadUint64(w)&mask != 0 {
			atomic.AndUint64(w, ^mask)
		}
		return true
	})
}

// Clear takes every block out.
func (m *Map) Clear() {
	for i := range m.words {
		if atomic.LoadUint64(&m.words[i]) != 0 {
			atomic.StoreUint64(&m.words[i], 0)
		}
	}
}

// Has reports whether block b is in the map.
func (m *Map) Has(b int64) bool {
	m.mustHold(b, 1)
	return atomic.LoadUint64(&m.words[b/64])>>(b%64)&1 != 0
}

// HasAny reports whether any of count blocks from start is in the map.
func (m *Map) HasAny(start, count int64) bool {
	found := false
	m.eachWord(start, count, func(w *uint64, mask uint64) bool {
		found = atomic.LoadUint64(w)&mask != 0
		return !found
	})
	return found
}

// CountRange is how many of count blocks from start are in the map.
func (m *Map) CountRange(start, count int64) int64 {
	var n int64
	m.eachWord(start, count, func(w *uint64, mask uint64) bool {
		n += int64(bits.OnesCount64(atomic.LoadUint64(w) & mask))
		return true
	})
	return n
}

// Count is how many blocks are in the map.
func (m *Map) Count() int64 {
	var n int64
	for i := range m.words {
		if w := atomic.LoadUint64(&m.words[i]); w != 0 {
			n += int64(bits.OnesCount64(w))
		}
	}
	return n
}

// Blocks is how many blocks the disk has.
func (m *Map) Blocks() int64 { return m.blocks }

// Words is the memory of the map itself: read it atomically.
func (m *Map) Words() []uint64 { return m.words }

// Or adds every block of o, a map of as many blocks.
func (m *Map) Or(o *Map) {
	m.mustMatch(o)
	for i := range o.words {
		if w := atomic.LoadUint64(&o.words[i]); w != 0 {
			orWord(&m.words[i], w)
		}
	}
}

// AndNot takes every block of o out, a map of as many blocks.
func (m *Map) AndNot(o *Map) {
	m.mustMatch(o)
	for i := range o.words {
		if w := atomic.LoadUint64(&o.words[i]); w&atomic.LoadUint64(&m.words[i]) != 0 {
			atomic.AndUint64(&m.words[i], ^w)
		}
	}
}

func (m *Map) mustMatch(o *Map) {
	if m.blocks != o.blocks {
		panic(fmt.Sprintf("block: maps of %d and of %d blocks", m.blocks, o.blocks))
	}
}

// Clone is a copy in memory of its own.
func (m *Map) Clone() *Map {
	c := NewMap(m.blocks)
	for i := range m.words {
		if w := atomic.LoadUint64(&m.words[i]); w != 0 {
			c.words[i] = w
		}
	}
	return c
}

// Equal reports whether both maps have the same blocks in them.
func (m *Map) Equal(o *Map) bool {
	if m.blocks != o.blocks {
		return false
	}
	for i := range m.words {
		if atomic.LoadUint64(&m.words[i]) != atomic.LoadUint64(&o.words[i]) {
			return false
		}
	}
	return true
}

// Runs yields the blocks in the map that are not before from, as maximal runs in
// ascending order. An empty map of a TiB takes some milliseconds.
func (m *Map) Runs(from int64) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for at := m.nextUnlike(max(from, 0), 0); at < m.blocks; {
			end := m.nextUnlike(at, ^uint64(0))
			if !yield(Run{Start: at, Count: end - at}) {
				return
			}
			at = m.nextUnlike(end, 0)
		}
	}
}

// nextUnlike is the first block not before from whose bit differs from those of
// uniform, which is all zeroes or all ones; blocks when there is none.
func (m *Map) nextUnlike(from int64, uniform uint64) int64 {
	if from >= m.blocks {
		return m.blocks
	}
	i := int(from / 64)
	if w := (atomic.LoadUint64(&m.words[i]) ^ uniform) >> (from % 64); w != 0 {
		return min(from+int64(bits.TrailingZeros64(w)), m.blocks)
	}
	words := m.words
	for i++; i < len(words); i++ {
		if w := atomic.LoadUint64(&words[i]); w != uniform {
			return min(int64(i)*64+int64(bits.TrailingZeros64(w^uniform)), m.blocks)
		}
	}
	return m.blocks
}
