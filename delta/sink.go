package delta

import (
	"bufio"
	"io"

	"github.com/homeward-dr/homeward"
)

// sink lays out a file: header, frames, index, trailer. Errors stay.
type sink struct {
	w    *bufio.Writer
	sums *tally
	head []byte
	err  error
}

// newSink writes the header, raw as encodeHeader made it.
func newSink(w io.Writer, h Header, raw []byte) *sink {
	s := &sink{w: bufio.NewWriterSize(w, 64<<10)}
	s.sums = newTally(h, raw, s.emit)
	s.write(appendCRC(append([]byte(nil), raw...)))
	return s
}

func (s *sink) write(p []byte) {
	if s.err == nil {
		_, err := s.w.Write(p)
		s.err = mediumError(err, "write delta", "")
	}
}

// emit writes an index chunk.
func (s *sink) emit(chunk []byte) (int64, error) {
	at := s.sums.off
	s.sums.off += int64(len(chunk))
	s.write(chunk)
	return at, s.err
}

// frame writes f, whose Codec says what stored is.
func (s *sink) frame(f *Frame, stored []byte) error {
	f.measure(s.sums.header.Disks[f.Disk])
	f.storedLen, f.storedCRC = len(stored), crc(stored)
	s.head = f.appendHead(s.head[:0])
	s.write(s.head)
	s.write(stored)
	if s.err == nil {
		s.err = s.sums.add(s.head, f)
	}
	return s.err
}

func (s *sink) close(m homeward.Mark) (Trailer, error) {
	if s.err != nil {
		return Trailer{}, s.err
	}
	var t footer
	if t, s.err = s.footer(m); s.err != nil {
		return Trailer{}, s.err
	}
	var b []byte
	if b, s.err = t.encode(); s.err != nil {
		return Trailer{}, s.err
	}
	s.write(b)
	if s.err == nil {
		s.err = mediumError(s.w.Flush(), "write delta", "")
	}
	return t.Trailer, s.err
}

func (s *sink) footer(m homeward.Mark) (footer, error) {
	root, height, err := s.sums.index.finish()
	if err != nil {
		return footer{}, err
	}
	return s.sums.seal(m, root, height)
}
