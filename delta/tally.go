package delta

import (
	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
)

// chainContext separates the chained checksum from every other use of BLAKE3.
const chainContext = "homeward-dr delta 2026-11 chained checksum v1"

// tally is what writer and reader of a stream keep alike while frames go by: the
// offset, the order, the counts, the chain, the index. Because both run the same
// code, the reader proves the index and the trailer by building its own.
type tally struct {
	header Header
	off    int64 // of the next byte of the file
	end    key   // after the last block so far
	t      Trailer
	chain  *blake3.Hasher
	index  indexer
}

func newTally(h Header, raw []byte, emit func([]byte) (int64, error)) *tally {
	s := &tally{header: h, off: int64(len(raw)) + crcSize, chain: blake3.NewDeriveKey(chainContext)}
	s.index.emit = emit
	s.absorb(h.Follows.Checksum[:])
	s.absorb(raw)
	return s
}

func (s *tally) absorb(p []byte) { _, _ = s.chain.Write(p) } // never fails

// follows reports whether f comes after every frame so far.
func (s *tally) follows(f *Frame) bool {
	first, _ := f.bounds()
	return !first.less(s.end)
}

// add counts a frame whose record (head and payload) has gone by.
func (s *tally) add(head []byte, f *Frame) error {
	first, end := f.bounds()
	e := entry{first: first, end: end, offset: s.off, length: int64(len(head) + f.storedLen)}
	s.off += e.length
	s.end = end
	s.absorb(head[chainFrom : len(head)-crcSize])
	n := f.Blocks()
	s.t.Blocks += n
	s.t.Frames++
	if f.Zero {
		s.t.ZeroBlocks += n
	}
	s.t.PlainBytes += int64(f.plainLen)
	s.t.StoredBytes += int64(f.storedLen)
	return s.index.add(0, e)
}

// seal closes the chain with the mark and returns the footer of the file. root and
// height are what index.finish returned.
func (s *tally) seal(m homeward.Mark, root entry, height int) (footer, error) {
	mark, err := appendMark([]byte{trailerTag}, m)
	if err != nil {
		return footer{}, err
	}
	s.absorb(mark)
	m.At = m.At.Round(0).UTC() // as it will be read: no monotonic part
	s.t.Mark = m
	s.chain.Sum(s.t.Checksum[:0])
	return footer{Trailer: s.t, root: root, height: height, size: s.off + trailerSize}, nil
}
