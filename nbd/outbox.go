package nbd

import (
	"crypto/tls"
	"net"
	"sync"
)

// parcel is one message to be written: a head and a body that follow each other
// without a gap. Either may be empty.
type parcel struct {
	head, body []byte
	owner      sender
}

// sender is told once when its parcel's bytes are needed no longer: written, or
// given up because the connection is broken.
type sender interface{ sent() }

// nobody owns parcels whose memory is not used again.
type nobody struct{}

func (nobody) sent() {}

// holdBackBytes and holdBackN are how much an outbox keeps at most for promised
// followers: enough to save system calls, not so much that the peer runs dry.
const (
	holdBackBytes = 128 << 10
	holdBackN     = 8
)

// maxVector is the most pieces handed to one system call.
const maxVector = 512

// outbox writes parcels of many goroutines to one connection, in the order of
// their posting. Whoever posts while nobody writes becomes the writer and also
// writes what others post meanwhile: so everything that is ready leaves in one
// system call, and nobody waits for a goroutine switch. What waits in it is
// bounded by the requests in flight.
type outbox struct {
	conn   net.Conn
	joined bool  // the connection wants one piece per write (TLS: a record each)
	pulse  pulse // odd while the peer is awaited to take bytes

	mu      sync.Mutex
	idle    sync.Cond // on mu: writing became false
	waiting []parcel
	held    int // bytes in waiting
	writing bool
	err     error // sticky

	// Of the writer alone.
	batch []parcel
	vec   net.Buffers // memory for todo
	todo  net.Buffers // what the system call has not taken yet
	flat  []byte
}

func newOutbox(conn net.Conn) *outbox {
	_, secure := conn.(*tls.Conn)
	o := &outbox{conn: conn, joined: secure}
	o.idle.L = &o.mu
	return o
}

// post hands over p. With more set the caller promises to post or flush again
// before it waits for anything, and p may be kept back until then.
func (o *outbox) post(p parcel, more bool) {
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		p.owner.sent()
		return
	}
	o.waiting = append(o.waiting, p)
	o.held += len(p.head) + len(p.body)
	if o.writing || more && o.held < holdBackBytes && len(o.waiting) < holdBackN {
		o.mu.Unlock()
		return
	}
	o.drain()
}

// flush writes what was kept back.
func (o *outbox) flush() {
	o.mu.Lock()
	if o.writing || len(o.waiting) == 0 {
		o.mu.Unlock()
		return
	}
	o.drain()
}

// drain writes until nothing waits; called with mu held, returns without it.
func (o *outbox) drain() {
	o.writing = true
	for len(o.waiting) > 0 {
		batch := o.waiting
		o.waiting, o.batch, o.held = o.batch[:0], batch, 0
		err := o.err
		o.mu.Unlock()
		if err == nil {
			err = o.write(batch)
		}
		for i := range batch {
			batch[i].owner.sent()
			batch[i] = parcel{}
		}
		o.mu.Lock()
		if err != nil && o.err == nil {
			o.err = err
			hangUp(o.conn)
		}
	}
	o.writing = false
	o.idle.Broadcast()
	o.mu.Unlock()
}

// hangUp keeps the reader of a connection from waiting for more. It may be called
// by that very reader amid a read (see socket.idle), which Close would wait for.
func hangUp(conn net.Conn) {
	if c, ok := conn.(interface{ CloseRead() error }); ok {
		_ = c.CloseRead() // fails only when the connection is closed already
		return
	}
	_ = conn.Close()
}

// write writes a batch in steps of a bounded number of pieces and bytes.
func (o *outbox) write(batch []parcel) error {
	if o.joined {
		return o.writeJoined(batch)
	}
	vec, size := o.vec[:0], 0
	for i := range batch {
		for _, piece := range [2][]byte{batch[i].head, batch[i].body} {
			if len(piece) == 0 {
				continue
			}
			if len(vec) == maxVector || size > 0 && size+len(piece) > progressStep {
				if err := o.writeVector(vec); err != nil {
					return err
				}
				vec, size = vec[:0], 0
			}
			vec, size = append(vec, piece), size+len(piece)
		}
	}
	return o.writeVector(vec)
}

func (o *outbox) writeVector(vec net.Buffers) error {
	o.vec = vec
	if len(vec) == 1 {
		return o.writeOne(vec[0])
	}
	o.pulse.beat()
	defer o.pulse.beat()
	o.todo = vec
	_, err := o.todo.WriteTo(o.conn)
	return err
}

// writeOne writes one piece, a long one in steps, so that a slow but living peer
// shows progress.
func (o *outbox) writeOne(p []byte) error {
	for len(p) > 0 {
		step := len(p)
		if step > 2*progressStep {
			step = progressStep
		}
		o.pulse.beat()
		_, err := o.conn.Write(p[:step])
		o.pulse.beat()
		if err != nil {
			return err
		}
		p = p[step:]
	}
	return nil
}

// writeJoined copies small pieces together: under TLS each write is a record.
func (o *outbox) writeJoined(batch []parcel) error {
	const record = 16 << 10
	flat := o.flat[:0]
	for i := range batch {
		for _, piece := range [2][]byte{batch[i].head, batch[i].body} {
			if len(flat) > 0 && len(flat)+len(piece) > record {
				if err := o.writeOne(flat); err != nil {
					return err
				}
				flat = flat[:0]
			}
			if len(piece) > record {
				if err := o.writeOne(piece); err != nil {
					return err
				}
				continue
			}
			flat = append(flat, piece...)
		}
	}
	o.flat = flat
	return o.writeOne(flat)
}

// fail makes every later post a no-op and waits until nobody writes. The
// connection must be closed already, or the writer could wait for ever.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	for o.writing {
		o.idle.Wait()
	}
	left := o.waiting
	o.waiting, o.held = nil, 0
	o.mu.Unlock()
	for _, p := range left {
		p.owner.sent()
	}
}
