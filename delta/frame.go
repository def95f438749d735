package delta

import (
	"encoding/binary"
	"iter"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

const (
	// DefaultFrameBlocks is how many blocks an Encoder gathers in a data frame.
	DefaultFrameBlocks = 64
	// MaxFrameBlocks is the most blocks a data frame may have (1 MiB), and the
	// most runs any frame may have.
	MaxFrameBlocks = 256

	maxPlain   = MaxFrameBlocks * block.Size
	frameTag   = 'F'
	frameFixed = 56 // bytes of a head before its runs
	runSize    = 12
	headMax    = frameFixed + MaxFrameBlocks*runSize + crcSize
	chainFrom  = 12 // a head's bytes from here to its CRC enter the chain
	flagZero   = 1 << 0
	maxRun     = 1<<32 - 1 // blocks in one stored run
)

// Frame is a set of blocks of one disk. Every block of a frame comes before
// every block of the next frame in the order (disk, block).
type Frame struct {
	Disk  int         // index into Header.Disks
	Runs  []block.Run // 1 to MaxFrameBlocks; ascending, neither overlapping nor touching
	Zero  bool        // the blocks are zero; there is no payload and no bound on their number
	Codec Codec       // how a data frame is stored
	// Content is the BLAKE3-256 of the plain bytes; zero in a zero frame. It is
	// what Plain checks against.
	Content homeward.Checksum

	plainLen  int
	storedLen int
	storedCRC uint32
	stored    []byte
	at        int64 // of the payload in the file; set by a Reader
	coder     *coder
}

// Blocks is the number of blocks in the frame.
func (f *Frame) Blocks() (n int64) {
	for _, r := range f.Runs {
		n += r.Count
	}
	return n
}

// PlainLen is the number of bytes Plain returns; at most 1 MiB, 0 for a zero frame.
func (f *Frame) PlainLen() int { return f.plainLen }

// Stored is the payload as stored, CRC checked. It belongs to the decoder and is
// valid until its next call of Next.
func (f *Frame) Stored() []byte { return f.stored }

// Plain returns the plain bytes of the runs, one after the other, checked
// against Content. The last block of a disk is as long as the disk has bytes for
// it. Bytes are expanded into buf if it has the capacity; with Codec None the
// result is the decoder's own buffer instead, so it is valid until the next call
// of Next and must not be changed. A zero frame gives none.
func (f *Frame) Plain(buf []byte) ([]byte, error) {
	if f.Zero {
		return buf[:0], nil
	}
	p, err := f.coder.expand(buf, f.Codec, f.stored, f.plainLen)
	if err != nil {
		return nil, err
	}
	if f.coder.sum(p) != f.Content {
		return nil, corrupt("frame", "the content of disk %d from block %d is not what was captured", f.Disk, f.Runs[0].Start)
	}
	return p, nil
}

// Split walks the runs with their bytes; plain is what Plain returned. In a zero
// frame the bytes are nil.
func (f *Frame) Split(plain []byte) iter.Seq2[block.Run, []byte] {
	return func(yield func(block.Run, []byte) bool) {
		for _, r := range f.Runs {
			n := int(min(r.Count*block.Size, int64(len(plain))))
			if f.Zero {
				n = 0
			}
			data := plain[:n:n]
			if f.Zero {
				data = nil
			}
			plain = plain[n:]
			if !yield(r, data) {
				return
			}
		}
	}
}

// offset is where block b, which the frame holds, begins in the plain bytes.
func (f *Frame) offset(b int64) (at int64) {
	for _, r := range f.Runs {
		if b < r.Start+r.Count {
			return at + (b-r.Start)*block.Size
		}
		at += r.Count * block.Size
	}
	return at
}

// bounds are the frame's first block and the one after its last.
func (f *Frame) bounds() (first, end key) {
	last := f.Runs[len(f.Runs)-1]
	return key{f.Disk, f.Runs[0].Start}, key{f.Disk, last.Start + last.Count}
}

// measure sets plainLen from the runs: whole blocks, but for a disk's partial end.
func (f *Frame) measure(d DiskInfo) {
	f.plainLen = 0
	if f.Zero {
		return
	}
	last := f.Runs[len(f.Runs)-1]
	f.plainLen = int(f.Blocks() * block.Size)
	if over := (last.Start+last.Count)*block.Size - d.Size; over > 0 {
		f.plainLen -= int(over)
	}
}

// appendHead appends the frame's head as stored.
func (f *Frame) appendHead(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	var flags uint16
	if f.Zero {
		flags = flagZero
	}
	b = append(b, frameTag, byte(f.Codec), 0, 0)
	b = le.AppendUint32(b, uint32(f.storedLen))
	b = le.AppendUint32(b, f.storedCRC)
	b = le.AppendUint16(b, uint16(f.Disk))
	b = le.AppendUint16(b, flags)
	b = le.AppendUint32(b, uint32(f.plainLen))
	b = le.AppendUint32(b, uint32(len(f.Runs)))
	b = append(b, f.Content[:]...)
	for _, r := range f.Runs {
		b = le.AppendUint64(b, uint64(r.Start))
		b = le.AppendUint32(b, uint32(r.Count))
	}
	return le.AppendUint32(b, crc(b[start:]))
}

// headLen is the length of the whole head whose first frameFixed bytes are fixed.
func headLen(fixed []byte) (int, error) {
	n := binary.LittleEndian.Uint32(fixed[20:])
	if n == 0 || n > MaxFrameBlocks {
		return 0, corrupt("frame", "%d runs, 1 to %d are allowed", n, MaxFrameBlocks)
	}
	return frameFixed + int(n)*runSize + crcSize, nil
}

// parseHead reads a whole head into f, whose Runs are used again.
func (f *Frame) parseHead(head []byte, disks []DiskInfo) error {
	if head[0] != frameTag || !sealed(head) {
		return corrupt("frame", "the CRC of its head does not match")
	}
	h := fields{rest: head[1 : len(head)-crcSize]}
	f.Codec = Codec(h.u8())
	reserved := h.u16()
	f.storedLen, f.storedCRC = int(h.u32()), h.u32()
	f.Disk = int(h.u16())
	flags := h.u16()
	plainLen, runs := int(h.u32()), int(h.u32())
	copy(f.Content[:], h.take(int64(len(f.Content))))
	f.Zero = flags&flagZero != 0
	switch {
	case reserved != 0 || flags&^uint16(flagZero) != 0:
		return corrupt("frame", "unknown flags %#x %#x", reserved, flags)
	case f.Codec > Zstd:
		return corrupt("frame", "unknown codec %d", f.Codec)
	case f.Disk >= len(disks):
		return corrupt("frame", "disk %d of %d", f.Disk, len(disks))
	}
	f.Runs = f.Runs[:0]
	for range runs {
		r := h.take(runSize)
		f.Runs = append(f.Runs, block.Run{
			Start: int64(binary.LittleEndian.Uint64(r)), Count: int64(binary.LittleEndian.Uint32(r[8:]))})
	}
	if err := f.checkRuns(disks[f.Disk]); err != nil {
		return err
	}
	f.measure(disks[f.Disk])
	return f.checkLengths(plainLen)
}

func (f *Frame) checkRuns(d DiskInfo) error {
	blocks, from := d.Blocks(), int64(0)
	for _, r := range f.Runs {
		if r.Start < from || r.Start >= blocks || r.Count < 1 || r.Count > blocks-r.Start {
			return corrupt("frame", "run of %d blocks at %d out of order or beyond the %d blocks of disk %s", r.Count, r.Start, blocks, d.ID)
		}
		from = r.Start + r.Count + 1
	}
	if !f.Zero && f.Blocks() > MaxFrameBlocks {
		return corrupt("frame", "%d blocks of data, at most %d are allowed", f.Blocks(), MaxFrameBlocks)
	}
	return nil
}

func (f *Frame) checkLengths(plainLen int) error {
	switch {
	case plainLen != f.plainLen:
		return corrupt("frame", "plain length %d, its runs have %d", plainLen, f.plainLen)
	case f.Zero && (f.storedLen != 0 || f.storedCRC != 0 || f.Codec != None || !f.Content.IsZero()):
		return corrupt("frame", "a zero frame with a payload")
	case f.storedLen > f.plainLen || f.Codec == None && f.storedLen != f.plainLen:
		return corrupt("frame", "stored length %d for %d plain bytes (%v)", f.storedLen, f.plainLen, f.Codec)
	}
	return nil
}
