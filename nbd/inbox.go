package nbd

import (
	"errors"
	"io"
	"net"
)

const (
	// readAhead is how much an inbox asks of the socket at once while messages are
	// small: so that one system call brings many of them.
	readAhead = 64 << 10
	// directFrom is the payload size from which no more than the next header is
	// read ahead, so that the payload behind that one can go straight where it
	// belongs, without a copy.
	directFrom = 16 << 10
	// headAhead holds the longest header.
	headAhead = 32
	// progressStep is how many bytes must move within the stall timeout.
	progressStep = 1 << 20
)

// inbox reads messages: fixed headers, each perhaps followed by a payload. It is
// a bufio.Reader that learns from the payloads it sees how far to read ahead,
// that reads a payload and the header behind it in one system call, and that can
// tell when it is about to wait. Used by one goroutine at a time.
type inbox struct {
	sock   *socket
	buf    []byte
	lo, hi int    // buf[lo:hi] is read and not consumed
	direct bool   // the last payload was large
	stall  *pulse // odd while the rest of a message is awaited; may be nil
}

func newInbox(conn net.Conn) *inbox {
	return &inbox{sock: newSocket(conn), buf: make([]byte, readAhead)}
}

// onWait sets what is called each time before the inbox waits for the peer. It
// reports whether the peer is likely to send more at once.
func (b *inbox) onWait(f func() (soon bool)) { b.sock.idle = f }

// buffered is the number of bytes that can be had without a system call.
func (b *inbox) buffered() int { return b.hi - b.lo }

// ahead is the free part of the buffer that may be filled beyond what is asked for.
func (b *inbox) ahead() []byte {
	if b.direct {
		return b.buf[b.hi:max(b.hi, headAhead)]
	}
	return b.buf[b.hi:]
}

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
	for b.hi < n {
		into := b.ahead()
		if len(into) < n-b.hi {
			into = b.buf[b.hi:n]
		}
		got, err := b.sock.read(into, nil, b.hi > 0)
		b.hi += got
		if err != nil && b.hi < n {
			if errors.Is(err, io.EOF) && b.hi > 0 {
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
	b.lo, b.hi = 0, 0
	b.beat()
	defer b.beat()
	for p = p[n:]; len(p) > 0; {
		// In steps, so that a slow but living peer shows progress.
		var ahead []byte
		step := p[:min(len(p), progressStep)]
		if len(step) == len(p) {
			ahead = b.ahead()
		}
		got, err := b.sock.read(step, ahead, true)
		if over := got - len(step); over > 0 {
			b.hi, got = over, len(step)
		}
		p = p[got:]
		if err != nil && len(p) > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		b.beat()
		b.beat()
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
	b.direct = false
	for {
		step := min(n, b.buffered())
		b.lo += step
		if n -= step; n == 0 {
			return nil
		}
		b.beat()
		err := b.fill(1)
		b.beat()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
}
