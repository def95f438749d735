package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

// Bounds of what a server's reply chunks may make us hold.
const (
	maxStatusChunk = 4 + 8*(1<<20)
	maxErrorChunk  = 8 << 10
)

// link is one connection of a client.
type link struct {
	client *Client
	conn   net.Conn
	in     *inbox
	out    *outbox
	export remoteExport

	answered bool // of run's goroutine: at least one reply was complete

	mu    sync.Mutex
	cause error // why breakOff was called

	resends sync.WaitGroup
}

func newLink(c *Client, conn net.Conn, in *inbox, export remoteExport) *link {
	return &link{client: c, conn: conn, in: in, out: newOutbox(conn), export: export}
}

// breakOff ends the link for the given reason; the first one counts.
func (l *link) breakOff(cause error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.mu.Unlock()
	_ = l.conn.Close()
}

// run receives until the link breaks, and returns why. When ctx ends it says
// goodbye to the server.
func (l *link) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		// A server that takes nothing must not hold us up.
		_ = l.conn.SetDeadline(time.Unix(1, 0))
	})
	err := l.receive()
	if !stop() {
		l.goodbye()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return l.cause
	}
	return err
}

// goodbye tells the server that the client leaves of its own will. It goes
// through the outbox: in the middle of another request it would be taken for data.
func (l *link) goodbye() {
	p := make([]byte, requestSize)
	request{cmd: cmdDisconnect}.put(p)
	if l.conn.SetDeadline(time.Now().Add(time.Second)) == nil {
		l.out.post(parcel{head: p, owner: nobody{}}, false)
	}
}

// end closes the connection and waits until nobody uses the memory of calls.
func (l *link) end(cause error) {
	_ = l.conn.Close()
	l.out.fail(cause)
	l.resends.Wait()
}

// resend posts calls again, beside the goroutine that must already receive.
func (l *link) resend(again []*attempt) {
	if len(again) == 0 {
		return
	}
	l.resends.Go(func() {
		for i, a := range again {
			l.out.post(a.parcel(), i < len(again)-1)
		}
	})
}

// receive takes replies until the connection breaks.
func (l *link) receive() error {
	for {
		p, err := l.in.head(4)
		if err != nil {
			return l.broken(err)
		}
		switch magic := be.Uint32(p); {
		case magic == magicSimple:
			err = l.simple()
		case magic == magicStructured && l.export.structured:
			err = l.structured()
		default:
			err = l.corrupt("reply magic %#x", magic)
		}
		if err != nil {
			return err
		}
	}
}

func (l *link) simple() error {
	p, err := l.in.head(simpleSize - 4)
	if err != nil {
		return l.broken(err)
	}
	no, cookie := errno(be.Uint32(p)), be.Uint64(p[4:])
	k := l.lookup(cookie)
	switch {
	case k == nil:
		return l.corrupt("reply to unknown request %d", cookie)
	case no == errShutdown:
		return l.leaving()
	case no != errOK:
		k.err = no.remote(k.name(), l.client.uri.String(), "")
	case k.cmd == cmdRead && l.export.structured || k.cmd == cmdBlockStatus:
		return l.corrupt("simple reply to command %d", k.cmd)
	case k.cmd == cmdRead:
		if err := l.in.payload(k.into); err != nil {
			return l.broken(err)
		}
	}
	l.complete(k)
	return nil
}

func (l *link) structured() error {
	p, err := l.in.head(structuredSize - 4)
	if err != nil {
		return l.broken(err)
	}
	ch := parseChunk(p)
	k := l.lookup(ch.cookie)
	if k == nil {
		return l.corrupt("chunk for unknown request %d", ch.cookie)
	}
	if err := l.chunk(k, ch); err != nil {
		return err
	}
	if ch.flags&chunkDone == 0 {
		return nil
	}
	if k.err == nil && k.cmd == cmdRead && k.got != len(k.into) {
		return l.corrupt("%d of %d bytes in answer to a read", k.got, len(k.into))
	}
	l.complete(k)
	return nil
}

// chunk takes one chunk of the reply to k.
func (l *link) chunk(k *call, ch chunk) error {
	switch {
	case ch.kind == chunkNone && ch.n == 0 && ch.flags&chunkDone != 0:
		return nil
	case ch.kind == chunkOffsetData && k.cmd == cmdRead && ch.n > 8:
		return l.data(k, int(ch.n-8))
	case ch.kind == chunkOffsetHole && k.cmd == cmdRead && ch.n == 12:
		return l.hole(k)
	case ch.kind == chunkBlockStatus && k.cmd == cmdBlockStatus && ch.n >= 12 && ch.n <= maxStatusChunk && (ch.n-4)%8 == 0:
		return l.status(k, int(ch.n))
	case ch.kind&chunkErrorBit != 0 && ch.n >= 6 && ch.n <= maxErrorChunk:
		return l.failure(k, int(ch.n))
	}
	return l.corrupt("chunk of kind %d with %d bytes in answer to command %d", ch.kind, ch.n, k.cmd)
}

// window is the part of k's memory for n bytes at the disk offset off.
func (l *link) window(k *call, off uint64, n int) ([]byte, error) {
	if off < k.off || n > len(k.into)-k.got || off-k.off > uint64(len(k.into)-n) {
		return nil, l.corrupt("%d bytes at %d in answer to a read of %d at %d", n, off, k.n, k.off)
	}
	k.got += n
	return k.into[off-k.off:][:n], nil
}

func (l *link) data(k *call, n int) error {
	p, err := l.in.head(8)
	if err != nil {
		return l.broken(err)
	}
	into, err := l.window(k, be.Uint64(p), n)
	if err != nil {
		return err
	}
	if err := l.in.payload(into); err != nil {
		return l.broken(err)
	}
	return nil
}

func (l *link) hole(k *call) error {
	p, err := l.in.head(12)
	if err != nil {
		return l.broken(err)
	}
	off, n := be.Uint64(p), be.Uint32(p[8:])
	if n == 0 || n > MaxRequest {
		return l.corrupt("hole of %d bytes", n)
	}
	into, err := l.window(k, off, int(n))
	if err != nil {
		return err
	}
	clear(into)
	return nil
}

func (l *link) status(k *call, n int) error {
	p := make([]byte, n)
	if err := l.in.payload(p); err != nil {
		return l.broken(err)
	}
	id := be.Uint32(p)
	if k.found == nil {
		k.found = map[uint32][]Extent{}
	}
	if k.found[id] != nil || len(k.found) > len(l.export.contexts) {
		return l.corrupt("context %d twice in one answer", id)
	}
	extents := make([]Extent, 0, (n-4)/8)
	for p = p[4:]; len(p) > 0; p = p[8:] {
		extents = append(extents, Extent{Len: int64(be.Uint32(p)), Flags: be.Uint32(p[4:])})
	}
	k.found[id] = extents
	return nil
}

// failure takes an error chunk; the first one of a reply counts.
func (l *link) failure(k *call, n int) error {
	p := make([]byte, n)
	if err := l.in.payload(p); err != nil {
		return l.broken(err)
	}
	no, size := errno(be.Uint32(p)), int(be.Uint16(p[4:]))
	switch {
	case no == errOK || size > n-6:
		return l.corrupt("error chunk with number %d and a text of %d bytes", no, size)
	case no == errShutdown:
		return l.leaving()
	case k.err == nil:
		k.err = no.remote(k.name(), l.client.uri.String(), string(p[6:6+size]))
	}
	return nil
}

func (l *link) lookup(cookie uint64) *call {
	l.client.mu.Lock()
	defer l.client.mu.Unlock()
	return l.client.calls[cookie]
}

// complete takes k out: its answer is whole.
func (l *link) complete(k *call) {
	l.answered = true
	l.client.mu.Lock()
	delete(l.client.calls, k.cookie)
	try := k.try
	l.client.mu.Unlock()
	try.part()
}

// leaving is how a server's shutdown ends a link: what is outstanding is sent
// again to whoever takes over.
func (l *link) leaving() error {
	return homeward.Errorf("use disk", homeward.Unavailable, l.client.uri.String(), "connect again when the server is back", "the server is shutting down")
}

func (l *link) broken(err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the server hung up: %w", io.ErrUnexpectedEOF)
	}
	return unreachable(l.client.uri, "use disk", err)
}

func (l *link) corrupt(format string, args ...any) error {
	return homeward.Errorf("use disk", homeward.Corrupt, l.client.uri.String(), "look at the NBD server and what lies between", format, args...)
}

// name of a call's operation in errors.
func (k *call) name() string {
	switch k.cmd {
	case cmdRead:
		return "read disk"
	case cmdWrite:
		return "write disk"
	case cmdFlush:
		return "flush disk"
	case cmdWriteZeroes:
		return "zero disk"
	}
	return "list extents"
}
