package delta

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Reader reads blocks of a delta at random, through its index. It keeps the
// header and one index chunk in memory, whatever the size of the file, and for each
// running call a frame and 8 KiB per level of the index. Safe for concurrent use if the io.ReaderAt is.
//
// What is read is checked: CRCs, the place the index gave, the content. What is
// not read is not checked; the chain is checked by Decoder and Verify alone.
type Reader struct {
	r      io.ReaderAt
	header Header
	foot   footer
	body   int64 // offset of the first record
	root   chunk // nothing in it when there are no frames
	pool   sync.Pool
}

// scratch is what one running call needs.
type scratch struct {
	chunks [maxHeight][]byte
	record []byte
	plain  []byte
	zeros  []byte
	frame  Frame
	coder  coder
}

const zeroStep = 64 << 10 // bytes of a zero run handed out at once

// Open reads header, trailer and the top of the index of a delta of size bytes.
//
// Errors: Corrupt, Unsupported; errors of r are IO or keep their kind.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	if size < preludeSize+crcSize+trailerSize {
		return nil, corrupt("trailer", "%d bytes are too few for a delta", size)
	}
	h, raw, err := readHeader(io.NewSectionReader(r, 0, size), Limits{}.withDefaults())
	if err != nil {
		return nil, err
	}
	rd := &Reader{r: r, header: h, body: int64(len(raw)) + crcSize}
	rd.pool.New = func() any { return &scratch{record: make([]byte, headMax)} }
	b := make([]byte, trailerSize)
	if err := rd.readAt(b, size-trailerSize, "trailer"); err != nil {
		return nil, err
	}
	if rd.foot, err = parseTrailer(b); err != nil {
		return nil, err
	}
	t := rd.foot
	if own, err := t.encode(); err != nil || string(own) != string(b) {
		return nil, corrupt("trailer", "bits set that mean nothing")
	}
	if t.size != size {
		return nil, corrupt("trailer", "it closes a delta of %d bytes, this has %d", t.size, size)
	}
	if t.height > maxHeight || (t.height == 0) != (t.Frames == 0) {
		return nil, corrupt("trailer", "an index of %d levels for %d frames", t.height, t.Frames)
	}
	if t.height == 0 {
		if rd.body != size-trailerSize {
			return nil, corrupt("trailer", "no frames, but bytes before it")
		}
		return rd, nil
	}
	rd.root, err = rd.chunk(nil, t.height-1, t.root, false)
	return rd, err
}

// Header is what opened the delta.
func (r *Reader) Header() Header { return r.header }

// Trailer is what closed the delta.
func (r *Reader) Trailer() Trailer { return r.foot.Trailer }

// Position is where a copy stands after the delta.
func (r *Reader) Position() homeward.Position { return r.header.Position(r.foot.Trailer) }

// Size is the length of the file in bytes.
func (r *Reader) Size() int64 { return r.foot.size }

// Decoder reads the same delta in one pass, from the start.
func (r *Reader) Decoder() (*Decoder, error) {
	return NewDecoder(io.NewSectionReader(r.r, 0, r.foot.size), Limits{})
}

// ReadBlocks calls fn for the blocks it holds of [start, start+count), in
// ascending order, in pieces of adjacent blocks; blocks it does not hold are
// passed over. Zero blocks come as zero bytes. The last block of the disk is as
// long as the disk has bytes for it. data is valid during the call and must not
// be changed. An error of fn ends the walk and is returned as it is.
func (r *Reader) ReadBlocks(disk int, start, count int64, fn func(start int64, data []byte) error) error {
	size, err := r.disk(disk)
	if err != nil {
		return err
	}
	s := r.pool.Get().(*scratch)
	defer r.pool.Put(s)
	end := start + min(count, 1<<62-start)
	return r.walk(s, key{disk, start}, key{disk, end}, func(f *Frame) error {
		var plain []byte
		for _, run := range f.Runs {
			from, to := max(run.Start, start), min(run.Start+run.Count, end)
			if from < to && f.Zero {
				if err := s.giveZero(from, to, size, fn); err != nil {
					return err
				}
			}
			if from < to && !f.Zero {
				if plain == nil {
					if plain, err = r.payload(s, f); err != nil {
						return err
					}
				}
				at := f.offset(from)
				n := min((to-from)*block.Size, int64(len(plain))-at)
				if err := fn(from, plain[at:at+n:at+n]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Lookup reads one block into buf, or into new memory if buf has not the room;
// held is false if the delta does not hold it.
func (r *Reader) Lookup(disk int, blk int64, buf []byte) (data []byte, held bool, err error) {
	err = r.ReadBlocks(disk, blk, 1, func(_ int64, p []byte) error {
		data, held = append(buf[:0], p...), true
		return nil
	})
	return data, held, err
}

// Runs walks the runs of blocks it holds of a disk, ascending, from block from
// on. Runs may touch. An error is the last thing given.
func (r *Reader) Runs(disk int, from int64) iter.Seq2[block.Run, error] {
	return func(yield func(block.Run, error) bool) {
		if _, err := r.disk(disk); err != nil {
			yield(block.Run{}, err)
			return
		}
		from = max(from, 0)
		s := r.pool.Get().(*scratch)
		defer r.pool.Put(s)
		err := r.walk(s, key{disk, from}, key{disk + 1, 0}, func(f *Frame) error {
			for _, run := range f.Runs {
				skip := max(0, from-run.Start)
				if run.Count > skip && !yield(block.Run{Start: run.Start + skip, Count: run.Count - skip}, nil) {
					return errStop
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(block.Run{}, err)
		}
	}
}

var errStop = errors.New("stop")

// Map sets in m the blocks it holds of a disk. Invalid if m is too small for one.
func (r *Reader) Map(disk int, m *block.Map) error {
	for run, err := range r.Runs(disk, 0) {
		if err != nil {
			return err
		}
		if run.Count > m.Blocks()-run.Start {
			return homeward.Errorf("read delta", homeward.Invalid, fmt.Sprintf("disk %d", disk), "make the map as large as the disk in the header",
				"block %d in a map of %d blocks", run.Start+run.Count-1, m.Blocks())
		}
		m.Set(run.Start, run.Count)
	}
	return nil
}

// disk is the size of a disk in bytes.
func (r *Reader) disk(disk int) (int64, error) {
	if disk < 0 || disk >= len(r.header.Disks) {
		return 0, homeward.Errorf("read delta", homeward.Invalid, fmt.Sprintf("disk %d", disk), "use a disk of the header",
			"there are %d disks", len(r.header.Disks))
	}
	return r.header.Disks[disk].Size, nil
}

// giveZero hands out the zero blocks [from, to).
func (s *scratch) giveZero(from, to, size int64, fn func(int64, []byte) error) error {
	if s.zeros == nil {
		s.zeros = make([]byte, zeroStep)
	}
	for from < to {
		n := min((to-from)*block.Size, size-from*block.Size, zeroStep)
		if err := fn(from, s.zeros[:n:n]); err != nil {
			return err
		}
		from += zeroStep / block.Size
	}
	return nil
}

// walk visits the frames that may hold blocks of [from, to), their heads read.
func (r *Reader) walk(s *scratch, from, to key, visit func(*Frame) error) error {
	if r.root.count() == 0 {
		return nil
	}
	return r.descend(s, r.root, from, to, visit)
}

func (r *Reader) descend(s *scratch, c chunk, from, to key, visit func(*Frame) error) error {
	for i := c.from(from); i < c.count(); i++ {
		e := c.entry(i)
		if !e.first.less(to) {
			return nil
		}
		var err error
		if c.level > 0 {
			var below chunk
			if below, err = r.chunk(s, c.level-1, e, true); err == nil {
				err = r.descend(s, below, from, to, visit)
			}
		} else if err = r.head(s, e); err == nil {
			err = visit(&s.frame)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chunk reads the index chunk that e points at, into the scratch's buffer of its
// level, or into memory of its own without one.
func (r *Reader) chunk(s *scratch, level int, e entry, bounded bool) (chunk, error) {
	if err := r.within(e, chunkMax); err != nil {
		return chunk{}, err
	}
	var b []byte
	if s == nil {
		b = make([]byte, e.length)
	} else {
		if s.chunks[level] == nil {
			s.chunks[level] = make([]byte, chunkMax)
		}
		b = s.chunks[level][:e.length]
	}
	if err := r.readAt(b, e.offset, "index"); err != nil {
		return chunk{}, err
	}
	if bounded {
		return parseChunk(b, level, &e)
	}
	return parseChunk(b, level, nil)
}

// head reads the head of the frame that e points at into s.frame.
func (r *Reader) head(s *scratch, e entry) error {
	if err := r.within(e, headMax+maxPlain); err != nil {
		return err
	}
	b := s.record[:min(e.length, headMax)]
	if err := r.readAt(b, e.offset, "frame"); err != nil {
		return err
	}
	if len(b) < frameFixed {
		return corrupt("frame", "the index points at something else")
	}
	n, err := headLen(b)
	if err != nil {
		return err
	}
	if n > len(b) {
		return corrupt("frame", "the index points at something else")
	}
	f := &s.frame
	if err := f.parseHead(b[:n], r.header.Disks); err != nil {
		return err
	}
	first, end := f.bounds()
	if first != e.first || end != e.end || int64(n+f.storedLen) != e.length {
		return corrupt("frame", "the index says other blocks than disk %d from %d", f.Disk, f.Runs[0].Start)
	}
	f.at = e.offset + int64(n)
	return nil
}

// payload reads the bytes of a frame whose head was read, and checks them.
func (r *Reader) payload(s *scratch, f *Frame) ([]byte, error) {
	if cap(s.record) < f.storedLen {
		s.record = make([]byte, max(f.storedLen, headMax))
	}
	s.record = s.record[:max(f.storedLen, headMax)]
	f.stored, f.coder = s.record[:f.storedLen], &s.coder
	if err := r.readAt(f.stored, f.at, "frame"); err != nil {
		return nil, err
	}
	if crc(f.stored) != f.storedCRC {
		return nil, corrupt("frame", "the CRC of its bytes does not match: disk %d from block %d", f.Disk, f.Runs[0].Start)
	}
	p, err := f.Plain(s.plain)
	if f.Codec != None && err == nil {
		s.plain = p
	}
	return p, err
}

// within checks that a record lies between header and trailer.
func (r *Reader) within(e entry, most int64) error {
	if e.length < 1 || e.length > most || e.offset < r.body || e.offset > r.foot.size-trailerSize-e.length {
		return corrupt("index", "it points at %d bytes at %d, outside of the delta", e.length, e.offset)
	}
	return nil
}

func (r *Reader) readAt(p []byte, off int64, what string) error {
	n, err := r.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return readError(err, what)
}
