package nbd

import "io"

// readAhead is how much an inbox asks of the socket at once while messages are
// small: so that one system call brings many of them.
const readAhead = 64 << 10

// directFrom is the payload size from which the next message's header is read
// alone, so that its payload can go straight where it belongs, without a copy.
const directFrom = 16 << 10

// progressStep is how many bytes must move within the stall timeout.
const progressStep = 1 << 20

// inbox reads messages: fixed headers, each perhaps followed by a payload. It is
// a bufio.Reader that learns from the payloads it sees whether to read ahead.
// Used by one goroutine at a time.
type inbox struct {
	r      io.Reader
	buf    []byte
	lo, hi int    // buf[lo:hi] is read and not consumed
	direct bool   // the last payload was large
	stall  *pulse // odd while the rest of a message is awaited; may be nil
}

func newInbox(r io.Reader) *inbox { return &inbox{r: r, buf: make([]byte, readAhead)} }

// buffered is the number of bytes that can be had without a system call.
func (b *inbox) buffered() int { return b.hi - b.lo }

// head returns the next n bytes; they are valid until the next call.
func (b *inbox) head(n int) ([]byte, error) {
	if b.hi-b.lo < n {
		if err := b.fill(n); err != nil {
			return nil, err
		}
	}
	p := b.buf[b.lo : b.lo+n]
	b.lo += n
	return p, nil
}

func (b *inbox) fill(n int) error {
	copy(b.buf, b.buf[b.lo:b.hi])
	b.lo, b.hi = 0, b.hi-b.lo
	end := len(b.buf)
	if b.direct {
		end = n
	}
	for b.hi < n {
		got, err := b.r.Read(b.buf[b.hi:end])
		b.hi += got
		if err != nil && b.hi < n {
			if err == io.EOF && b.hi > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// payload fills p with the next len(p) bytes.
func (b *inbox) payload(p []byte) error {
	b.direct = len(p) >= directFrom
	n := copy(p, b.buf[b.lo:b.hi])
	b.lo += n
	if n == len(p) {
		return nil
	}
	b.beat()
	defer b.beat()
	for p = p[n:]; len(p) > 0; {
		// In steps, so that a slow but living peer shows progress.
		step := min(len(p), progressStep)
		if _, err := io.ReadFull(b.r, p[:step]); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		if p = p[step:]; len(p) > 0 {
			b.beat()
			b.beat()
		}
	}
	return nil
}

func (b *inbox) beat() {
	if b.stall != nil {
		b.stall.beat()
	}
}

// discard drops the next n bytes.
func (b *inbox) discard(n int) error {
	for n > 0 {
		step := min(n, len(b.buf))
		if have := b.buffered(); have > 0 {
			step = min(step, have)
		} else {
			b.direct = false
			b.beat()
			err := b.fill(1)
			b.beat()
			if err != nil {
				return err
			}
			continue
		}
		b.lo += step
		n -= step
	}
	return nil
}
