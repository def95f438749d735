package delta

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/homeward-dr/homeward"
)

// Decoder reads a delta in one pass and checks everything that goes by: CRCs,
// order, lengths, index, counts and chain. Content checksums are checked by
// Frame.Plain; what was not asked for was not checked.
//
// Memory: one stored frame (1 MiB at most) and some 10 KiB per level of the
// index. After an error every call errs. Not safe for concurrent use.
type Decoder struct {
	r       *bufio.Reader
	limits  Limits
	raw     []byte // the header as stored
	sums    *tally
	head    [headMax]byte
	chunk   []byte
	payload []byte
	frame   Frame
	coder   coder
	trailer Trailer
	err     error
}

// NewDecoder reads the header from r. r is read to its end: after a delta there
// must be nothing.
//
// Errors: Corrupt, Unsupported (another version or unknown flags), Invalid (over
// a limit); errors of r keep their kind.
func NewDecoder(r io.Reader, l Limits) (*Decoder, error) {
	d := &Decoder{r: bufio.NewReaderSize(r, 16<<10), limits: l.withDefaults()}
	h, raw, err := readHeader(d.r, d.limits)
	if err != nil {
		return nil, err
	}
	if err := d.limits.over(0, int64(len(raw))+crcSize); err != nil {
		return nil, err
	}
	d.raw = raw
	d.sums = newTally(h, raw, d.expect)
	d.frame.coder = &d.coder
	return d, nil
}

// Header is what opened the delta.
func (d *Decoder) Header() Header { return d.sums.header }

// Trailer is what closed the delta; zero until Next returned io.EOF.
func (d *Decoder) Trailer() Trailer { return d.trailer }

// Next returns the next frame, its stored bytes CRC checked; io.EOF when the
// trailer was read and everything agrees with it. The frame and all it holds
// belong to the decoder and are valid until the next call.
func (d *Decoder) Next() (*Frame, error) {
	if d.err == nil {
		d.err = d.next()
	}
	if d.err != nil {
		return nil, d.err
	}
	return &d.frame, nil
}

func (d *Decoder) next() error {
	tag, err := d.r.Peek(1)
	if err != nil {
		return readError(err, d.place())
	}
	if tag[0] != frameTag {
		return d.finish()
	}
	f := &d.frame
	head, err := d.readHead(f)
	if err != nil {
		return err
	}
	if err := d.limits.over(d.sums.off, int64(len(head)+f.storedLen)); err != nil {
		return err
	}
	if cap(d.payload) < f.storedLen {
		d.payload = make([]byte, f.storedLen)
	}
	f.stored = d.payload[:f.storedLen]
	if err := d.read(f.stored); err != nil {
		return err
	}
	if crc(f.stored) != f.storedCRC {
		return corrupt(d.place(), "the CRC of a frame's bytes does not match")
	}
	return d.sums.add(head, f)
}

func (d *Decoder) readHead(f *Frame) ([]byte, error) {
	head := d.head[:frameFixed]
	if err := d.read(head); err != nil {
		return nil, err
	}
	n, err := headLen(head)
	if err != nil {
		return nil, err
	}
	head = d.head[:n]
	if err := d.read(head[frameFixed:]); err != nil {
		return nil, err
	}
	if err := f.parseHead(head, d.sums.header.Disks); err != nil {
		return nil, homeward.Wrap(err, "decode delta", d.place())
	}
	if !d.sums.follows(f) {
		return nil, corrupt(d.place(), "frames out of order")
	}
	return head, nil
}

// expect reads an index chunk, which must be the one the frames so far call for.
func (d *Decoder) expect(chunk []byte) (int64, error) {
	at := d.sums.off
	if err := d.limits.over(at, int64(len(chunk))); err != nil {
		return 0, err
	}
	d.chunk = append(d.chunk[:0], chunk...)
	if err := d.read(d.chunk); err != nil {
		return 0, err
	}
	if !bytes.Equal(d.chunk, chunk) {
		return 0, corrupt(d.place(), "the index does not match the frames")
	}
	d.sums.off += int64(len(chunk))
	return at, nil
}

// finish reads the rest of the index and the trailer, and compares the trailer
// with the one that was computed on the way. It returns io.EOF.
func (d *Decoder) finish() error {
	root, height, err := d.sums.index.finish()
	if err != nil {
		return err
	}
	if err := d.limits.over(d.sums.off, trailerSize); err != nil {
		return err
	}
	var b [trailerSize]byte
	if err := d.read(b[:]); err != nil {
		return err
	}
	read, err := parseTrailer(b[:])
	if err != nil {
		return err
	}
	own, err := d.sums.seal(read.Mark, root, height)
	if err != nil {
		return err
	}
	want, err := own.encode()
	if err != nil {
		return err
	}
	if own.Checksum != read.Checksum {
		return corrupt(d.place(), "the chained checksum does not match the frames")
	}
	if !bytes.Equal(b[:], want) {
		return corrupt(d.place(), "the trailer does not match the frames")
	}
	if _, err := d.r.ReadByte(); err == nil {
		return corrupt(d.place(), "bytes after the trailer")
	} else if err != io.EOF {
		return readError(err, d.place())
	}
	d.trailer = own.Trailer
	return io.EOF
}

// read fills p. The place is worked out for an error only: this runs per frame.
func (d *Decoder) read(p []byte) error {
	if _, err := io.ReadFull(d.r, p); err != nil {
		return readError(err, d.place())
	}
	return nil
}

func (d *Decoder) place() string {
	return fmt.Sprintf("frame %d at byte %d", d.sums.t.Frames, d.sums.off)
}

// Verify reads a whole delta and checks every byte and the content of every
// block. Memory: two frames, 2 MiB at most.
func Verify(r io.Reader) (Header, Trailer, error) {
	d, err := NewDecoder(r, Limits{})
	if err != nil {
		return Header{}, Trailer{}, err
	}
	var buf []byte
	for {
		f, err := d.Next()
		if errors.Is(err, io.EOF) {
			return d.Header(), d.Trailer(), nil
		}
		if err != nil {
			return d.Header(), Trailer{}, err
		}
		p, err := f.Plain(buf)
		if err != nil {
			return d.Header(), Trailer{}, err
		}
		if f.Codec != None {
			buf = p
		}
	}
}
