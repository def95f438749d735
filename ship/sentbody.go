package ship

import (
	"errors"
	"io"
	"sync"
	"time"
)

// sentBody is a body on its way out: it watches that bytes move, remembers its
// source's own error, and lets nobody read the source after Put has returned (a
// transport goes on reading while an early answer is already there).
type sentBody struct {
	source  io.Reader
	idle    time.Duration
	stuck   func() // nothing moved for idle
	unheard func() // sent whole, and no answer

	reading sync.Mutex // held while the source is read

	mu      sync.Mutex // guards what follows
	watch   *time.Timer
	stopped bool
	err     error // of the source, not io.EOF
}

var errStopped = errors.New("the put is over")

func newSentBody(source io.Reader, idle time.Duration, stuck, unheard func()) *sentBody {
	return &sentBody{source: source, idle: idle, stuck: stuck, unheard: unheard, watch: time.AfterFunc(idle, stuck)}
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if !b.restart(b.idle, b.stuck) {
		return 0, errStopped
	}
	n, err := b.source.Read(p)
	switch {
	case err == nil:
		b.restart(b.idle, b.stuck)
	case errors.Is(err, io.EOF):
		b.restart(answerTimeout, b.unheard)
	default:
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
	}
	return n, err
}

// restart begins a new wait; false once stopped.
func (b *sentBody) restart(after time.Duration, then func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watch.Stop()
	if b.stopped {
		return false
	}
	b.watch = time.AfterFunc(after, then)
	return true
}

// Close is called by the transport when it needs no more of the body.
func (b *sentBody) Close() error { return nil }

// stop returns when nobody reads the source any more.
func (b *sentBody) stop() {
	b.mu.Lock()
	b.stopped = true
	b.watch.Stop()
	b.mu.Unlock()
	if c, ok := b.source.(io.Closer); ok {
		_ = c.Close() // reading is over: what Close says changes nothing
	}
	b.reading.Lock() // a read that is under way ends first
	defer b.reading.Unlock()
}

// failure is the source's own error, if that ended the put.
func (b *sentBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
