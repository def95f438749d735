package delta

import (
	"fmt"
	"io"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// EncoderOptions choose how frames are made. The zero value is right for undo
// and for an agent: no compression, DefaultFrameBlocks.
type EncoderOptions struct {
	Codec       Codec // tried for every data frame; one that does not shrink is stored as it is
	FrameBlocks int   // most blocks in a data frame, 1 to MaxFrameBlocks; 0: DefaultFrameBlocks
}

// Encoder writes a delta in one pass. Memory: one frame (twice with a codec) and
// some 10 KiB per level of the index, whatever the size of the delta. After an
// error every call errs. Not safe for concurrent use.
type Encoder struct {
	out    *sink
	opt    EncoderOptions
	frame  Frame  // being gathered; no runs: nothing
	plain  []byte // its bytes
	blocks int64  // in frame
	end    key    // after the last block added
	coder  coder
	packed []byte
	closed bool
}

// NewEncoder writes the header to w. w gets writes of about 64 KiB or a frame;
// it is the caller's to close and to make durable.
//
// Errors: Invalid names the field of h or o that is wrong.
func NewEncoder(w io.Writer, h Header, o EncoderOptions) (*Encoder, error) {
	if o.FrameBlocks == 0 {
		o.FrameBlocks = DefaultFrameBlocks
	}
	if o.FrameBlocks < 1 || o.FrameBlocks > MaxFrameBlocks || o.Codec > Zstd {
		return nil, homeward.Errorf("encode delta", homeward.Invalid, "options",
			fmt.Sprintf("give 1 to %d frame blocks and a known codec", MaxFrameBlocks), "%d frame blocks, %v", o.FrameBlocks, o.Codec)
	}
	h.Disks = slices.Clone(h.Disks)
	raw, err := encodeHeader(h)
	if err != nil {
		return nil, err
	}
	e := &Encoder{opt: o, plain: make([]byte, 0, o.FrameBlocks*block.Size)}
	e.frame.Runs = make([]block.Run, 0, o.FrameBlocks)
	e.out = newSink(w, h, raw)
	return e, e.out.err
}

// Add adds the blocks of a disk from start on. data holds whole blocks; only the
// disk's last block may be short, and then it is as long as the disk has bytes
// for it. Zero blocks are found and stored without payload. data is not kept.
//
// Blocks must come in ascending order of (disk, block), over all calls of Add
// and AddZero. Errors: Invalid when they do not, or lie beyond the disk.
func (e *Encoder) Add(disk int, start int64, data []byte) error {
	n := (int64(len(data)) + block.Size - 1) / block.Size
	if err := e.admit(disk, start, n); err != nil {
		return err
	}
	size := e.out.sums.header.Disks[disk].Size
	if want := min(n*block.Size, size-start*block.Size); int64(len(data)) != want {
		return homeward.Errorf("encode delta", homeward.Invalid, fmt.Sprintf("disk %d block %d", disk, start),
			"give whole blocks, and of a disk's last one what the disk has of it", "%d bytes where %d blocks have %d", len(data), n, want)
	}
	e.end = key{disk, start + n}
	for len(data) > 0 {
		stretch, zero := leading(data)
		blocks := (int64(stretch) + block.Size - 1) / block.Size
		var err error
		if zero {
			err = e.gatherZero(disk, start, blocks)
		} else {
			err = e.gather(disk, start, data[:stretch])
		}
		if err != nil {
			return err
		}
		start += blocks
		data = data[stretch:]
	}
	return nil
}

// AddZero adds count zero blocks of a disk from start on. Order and errors are
// as with Add.
func (e *Encoder) AddZero(disk int, start, count int64) error {
	if err := e.admit(disk, start, count); err != nil {
		return err
	}
	e.end = key{disk, start + count}
	return e.gatherZero(disk, start, count)
}

// Size is at least the number of bytes the delta would have if it were closed
// now without compressing what is still gathered. An agent ends a delta before
// this passes homeward.MaxDelta.
func (e *Encoder) Size() int64 {
	pending := int64(len(e.plain)) + int64(frameFixed+len(e.frame.Runs)*runSize+crcSize)
	return e.out.sums.off + pending + e.out.sums.index.pending() + trailerSize
}

// Close writes what is gathered, the index and the trailer. It does not close w.
func (e *Encoder) Close(m homeward.Mark) (Trailer, error) {
	if e.closed {
		return Trailer{}, homeward.Errorf("encode delta", homeward.Invalid, "", "make a new encoder", "closed already")
	}
	e.closed = true
	if err := e.flush(); err != nil {
		return Trailer{}, err
	}
	return e.out.close(m)
}

// admit checks count blocks at start against disk and order.
func (e *Encoder) admit(disk int, start, count int64) error {
	bad := func(fix, format string, args ...any) error {
		return homeward.Errorf("encode delta", homeward.Invalid, fmt.Sprintf("disk %d block %d", disk, start), fix, format, args...)
	}
	if e.closed {
		return bad("make a new encoder", "the delta is closed")
	}
	if e.out.err != nil {
		return e.out.err
	}
	disks := e.out.sums.header.Disks
	if disk < 0 || disk >= len(disks) {
		return bad("use a disk of the header", "there are %d disks", len(disks))
	}
	if n := disks[disk].Blocks(); start < 0 || start >= n || count < 1 || count > n-start {
		return bad("stay within the disk", "%d blocks of a disk that has %d", count, n)
	}
	if (key{disk, start}).less(e.end) {
		return bad("add blocks in ascending order of disk and block", "disk %d is at block %d already", e.end.disk, e.end.block)
	}
	return nil
}

// leading is the length of the blocks at the start of data that are alike: all
// zero, or all not.
func leading(data []byte) (n int, zero bool) {
	zero = block.IsZero(data[:min(block.Size, len(data))])
	for n = min(block.Size, len(data)); n < len(data); {
		m := min(block.Size, len(data)-n)
		if block.IsZero(data[n:n+m]) != zero {
			break
		}
		n += m
	}
	return n, zero
}

// begin makes the gathered frame one of this disk and sort, with room for a
// run at start; it reports whether that run would join the last one.
func (e *Encoder) begin(disk int, start int64, zero bool) (join bool, err error) {
	f := &e.frame
	if n := len(f.Runs); n > 0 {
		last := f.Runs[n-1]
		join = last.Start+last.Count == start
		full := !zero && e.blocks == int64(e.opt.FrameBlocks) || n == MaxFrameBlocks && !join || zero && join && last.Count == maxRun
		if f.Disk != disk || f.Zero != zero || full {
			join = false
			err = e.flush()
		}
	}
	f.Disk, f.Zero = disk, zero
	return join, err
}

func (e *Encoder) extend(join bool, start, count int64) {
	e.blocks += count
	if join {
		e.frame.Runs[len(e.frame.Runs)-1].Count += count
		return
	}
	e.frame.Runs = append(e.frame.Runs, block.Run{Start: start, Count: count})
}

func (e *Encoder) gather(disk int, start int64, data []byte) error {
	for len(data) > 0 {
		join, err := e.begin(disk, start, false)
		if err != nil {
			return err
		}
		n := min(len(data), (e.opt.FrameBlocks-int(e.blocks))*block.Size)
		blocks := (int64(n) + block.Size - 1) / block.Size
		e.extend(join, start, blocks)
		e.plain = append(e.plain, data[:n]...)
		start += blocks
		data = data[n:]
	}
	return nil
}

func (e *Encoder) gatherZero(disk int, start, count int64) error {
	for count > 0 {
		join, err := e.begin(disk, start, true)
		if err != nil {
			return err
		}
		n := min(count, maxRun)
		if join {
			n = min(n, maxRun-e.frame.Runs[len(e.frame.Runs)-1].Count)
		}
		e.extend(join, start, n)
		start += n
		count -= n
	}
	return nil
}

// flush writes the gathered frame, if there is one.
func (e *Encoder) flush() error {
	f := &e.frame
	if len(f.Runs) == 0 {
		return nil
	}
	var stored []byte
	f.Codec, f.Content = None, homeward.Checksum{}
	if !f.Zero {
		f.Content = e.coder.sum(e.plain)
		var err error
		if stored, f.Codec, err = e.pack(); err != nil {
			return err
		}
	}
	err := e.out.frame(f, stored)
	f.Runs, e.plain, e.blocks = f.Runs[:0], e.plain[:0], 0
	return err
}

func (e *Encoder) pack() ([]byte, Codec, error) {
	if e.opt.Codec != None && e.packed == nil {
		e.packed = make([]byte, 0, packedMax(cap(e.plain)))
	}
	return e.coder.compress(e.packed, e.opt.Codec, e.plain)
}
