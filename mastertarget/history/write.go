package history

import (
	"bufio"
	"errors"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/durable"
)

// frameBlocks keeps frames of undo small (64 KiB): they are read at random.
const frameBlocks = 16

// Writer writes a new segment. Not for concurrent use.
type Writer struct {
	chain *Chain
	span  Span
	file  *durable.NewFile
	buf   *bufio.Writer
	enc   *delta.Encoder
}

// Create begins a segment; h.Kind is set to Undo. Abort or Commit must follow.
func (c *Chain) Create(span Span, h delta.Header) (*Writer, error) {
	w, err := c.create(span)
	if err != nil {
		return nil, err
	}
	h.Kind = delta.Undo
	w.enc, err = delta.NewEncoder(w.buf, h, delta.EncoderOptions{FrameBlocks: frameBlocks})
	if err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w, nil
}

func (c *Chain) create(span Span) (*Writer, error) {
	file, err := durable.Create(c.fsys, c.dir+"/"+span.Name(), 0o600)
	if err != nil {
		return nil, err
	}
	return &Writer{chain: c, span: span, file: file, buf: bufio.NewWriterSize(file, 256<<10)}, nil
}

// Add is delta.Encoder.Add.
func (w *Writer) Add(disk int, start int64, data []byte) error { return w.enc.Add(disk, start, data) }

// AddZero is delta.Encoder.AddZero.
func (w *Writer) AddZero(disk int, start, count int64) error {
	return w.enc.AddZero(disk, start, count)
}

// Abort gives it up; nothing is left. After Commit it does nothing.
func (w *Writer) Abort() error { return w.file.Abort() }

// Commit closes it with the mark of its older boundary and makes it durable. It
// is not part of the chain before Publish.
func (w *Writer) Commit(m homeward.Mark) (*Segment, error) {
	if _, err := w.enc.Close(m); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w.commit()
}

func (w *Writer) commit() (*Segment, error) {
	if err := w.buf.Flush(); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	w.chain.files.drop(w.chain.dir + "/" + w.span.Name()) // a hot one of the same name may have been read
	if err := w.file.Commit(); err != nil {
		return nil, err
	}
	return w.chain.segment(w.span)
}
