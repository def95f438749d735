package nbd

import (
	"context"
	"crypto/tls"
	"iter"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// ClientOptions configure a Client.
type ClientOptions struct {
	// URI of the export, see ParseURI.
	URI string
	// TLS is used with nbds and nbds+unix; nil: the system's roots. It is not used,
	// and everything travels in the clear, with nbd and nbd+unix.
	TLS *tls.Config
	// Watch is told of every connection whose TLS handshake is over, and may close it; stop
	// is called when it is closed. nil: nobody.
	Watch func(*tls.Conn) (stop func())
	// ReconnectDeadline is how long requests wait for a broken connection to come
	// back before they fail; 0: the first break is final.
	ReconnectDeadline time.Duration
	// RequestTimeout is how long a connected server may take to answer before the
	// connection counts as broken; default 60 s.
	RequestTimeout time.Duration
	// DialTimeout bounds one attempt to connect and negotiate; default 10 s.
	DialTimeout time.Duration
	// InFlight bounds the requests in progress; more wait. Default 32. Each is of at
	// most 1 MiB and uses the caller's memory.
	InFlight int
	// ReadOnly refuses everything that would change the disk.
	ReadOnly bool
	// Contexts are meta contexts wanted besides base:allocation, for Status.
	Contexts []string
	// Log gets breaks and reconnections; nil: nobody.
	Log *slog.Logger
}

func (o ClientOptions) withDefaults() ClientOptions {
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = time.Minute
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 10 * time.Second
	}
	if o.InFlight <= 0 {
		o.InFlight = 32
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// piece is the most bytes of one read or write on the wire; longer ones are
// split and travel together.
const piece = 1 << 20

// zeroPiece is the most bytes of one request that carries no data.
const zeroPiece = 1 << 30

// Client is a disk at an NBD server: a block.Disk, block.Extenter and
// block.FUAWriter. All methods may be called concurrently.
//
// When the connection breaks it connects again and sends what is unanswered
// again; that is safe where nobody else writes, and where the server admits a new
// connection only after the old one's requests have left the disk, as an export
// with Exclusive does. A server that comes back with another size is Fenced, one
// without the export NotFound, and both are final.
//
// Writes answered before a break and not flushed since may have been lost with
// the server's machine. So after a break over TCP that left any, Flush fails for
// good: open the disk again and write them again. Over a unix socket the
// server's machine is ours, which has not restarted.
type Client struct {
	o      ClientOptions
	uri    URI
	export remoteExport // as first seen
	slots  chan struct{}
	cookie atomic.Uint64

	mu      sync.Mutex
	link    *link            // nil while there is none
	calls   map[uint64]*call // outstanding
	fault   error            // why new calls fail at once; nil while connected or within the deadline
	final   bool             // fault will not go away
	acked   uint64           // writes answered
	flushed uint64           // acked as of the beginning of the last good flush
	lost    error            // why Flush fails for good

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	keeper sync.WaitGroup
}

var (
	_ block.Disk      = (*Client)(nil)
	_ block.Extenter  = (*Client)(nil)
	_ block.FUAWriter = (*Client)(nil)
)

// Dial connects to the export at o.URI. It tries once.
//
// Errors: homeward.Invalid (URI), NotFound (no such export), InUse (the server
// admits nobody else now), Unauthentic (TLS is refused or required), Unavailable,
// Timeout, Unsupported, Corrupt (no NBD server there).
func Dial(ctx context.Context, o ClientOptions) (*Client, error) {
	uri, err := ParseURI(o.URI)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o.withDefaults(), uri: uri, calls: map[uint64]*call{}}
	conn, in, export, err := dial(ctx, &c.o, uri)
	if err != nil {
		return nil, err
	}
	c.start(conn, in, export)
	return c, nil
}

// start begins life with a negotiated connection.
func (c *Client) start(conn net.Conn, in *inbox, export remoteExport) {
	c.export = export
	c.slots = make(chan struct{}, c.o.InFlight)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	first := newLink(c, conn, in, export)
	c.link = first
	c.keeper.Go(func() { c.keep(first) })
	c.keeper.Go(c.watch)
}

// Opener opens references that are NBD URIs; o.URI is ignored. An export is made
// by its server alone, so a Mode's Create changes nothing.
func Opener(o ClientOptions) block.Opener {
	return func(ctx context.Context, ref string, m block.Mode) (block.Disk, error) {
		o := o
		o.URI, o.ReadOnly = ref, m.ReadOnly
		c, err := Dial(ctx, o)
		if err != nil {
			return nil, err
		}
		if m.Size != 0 && m.Size != c.Size() {
			_ = c.Close() // never fails
			return nil, homeward.Errorf("open disk", homeward.Invalid, ref, "check the reference, or resize it to what is expected",
				"it has %d bytes, expected are %d", c.Size(), m.Size)
		}
		return c, nil
	}
}

// Away reports whether there is no connection now: requests wait until it is back, or
// for as long as ReconnectDeadline.
func (c *Client) Away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link == nil
}

// Size is the size of the export in bytes, as it was at Dial.
func (c *Client) Size() int64 { return c.export.size }

// ReadOnly reports whether the export or the options refuse writes.
func (c *Client) ReadOnly() bool { return c.o.ReadOnly || c.export.flags&canReadOnly != 0 }

// ReadAt reads len(p) bytes, or fails.
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	if err := c.check("read disk", off, int64(len(p)), false); err != nil {
		return 0, err
	}
	err := c.pieces(off, int64(len(p)), c.pieceSize(), func(off int64, at, n int64) *call {
		k := c.newCall(cmdRead, 0, off, int(n))
		k.into = p[at : at+n]
		return k
	})
	return count(p, err)
}

// WriteAt writes p; it is durable after the next Flush.
func (c *Client) WriteAt(p []byte, off int64) (int, error) { return c.write(p, off, 0) }

// WriteAtFUA writes p and returns when it is durable.
func (c *Client) WriteAtFUA(p []byte, off int64) (int, error) {
	if c.export.flags&canFUA != 0 {
		return c.write(p, off, reqFUA)
	}
	if n, err := c.write(p, off, 0); err != nil {
		return n, err
	}
	return count(p, c.Flush())
}

func (c *Client) write(p []byte, off int64, flags uint16) (int, error) {
	if err := c.check("write disk", off, int64(len(p)), true); err != nil {
		return 0, err
	}
	err := c.pieces(off, int64(len(p)), c.pieceSize(), func(off int64, at, n int64) *call {
		k := c.newCall(cmdWrite, flags, off, int(n))
		k.payload = p[at : at+n]
		return k
	})
	return count(p, err)
}

// count is what ReadAt and WriteAt return: how much of a failed request was done
// is not known.
func count(p []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Zero makes n bytes at off read as zero; without punch their room stays reserved.
func (c *Client) Zero(off, n int64, punch bool) error {
	if err := c.check("zero disk", off, n, true); err != nil {
		return err
	}
	if c.export.flags&canWriteZeroes == 0 {
		return c.writeZeroes(off, n)
	}
	var flags uint16
	if !punch {
		flags = reqNoHole
	}
	return c.pieces(off, n, zeroPiece, func(off int64, _, n int64) *call {
		return c.newCall(cmdWriteZeroes, flags, off, int(n))
	})
}

// writeZeroes is Zero for servers that know no better way.
func (c *Client) writeZeroes(off, n int64) error {
	zeroes := make([]byte, min(n, c.pieceSize()))
	return c.pieces(off, n, c.pieceSize(), func(off int64, _, n int64) *call {
		k := c.newCall(cmdWrite, 0, off, int(n))
		k.payload = zeroes[:n]
		return k
	})
}

// Flush makes durable every write that returned before Flush was called.
func (c *Client) Flush() error {
	c.mu.Lock()
	lost, acked, clean := c.lost, c.acked, c.acked == c.flushed
	c.mu.Unlock()
	switch {
	case lost != nil:
		return lost
	case c.ReadOnly():
		return nil
	case c.export.flags&canFlush == 0 && clean:
		return nil
	case c.export.flags&canFlush == 0:
		return homeward.Errorf("flush disk", homeward.Unsupported, c.uri.String(), "use a server that can flush", "the server cannot make writes durable")
	}
	if err := c.do(c.newCall(cmdFlush, 0, 0, 0)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return c.lost
	}
	c.flushed = max(c.flushed, acked)
	return nil
}

// Extents yields what [off, off+n) consists of, as block.Extenter says; a server
// that does not know is data all over.
func (c *Client) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		if _, ok := c.export.contexts[ContextAllocation]; !ok {
			if err := c.check("list extents", off, n, false); err != nil {
				yield(block.Extent{}, err)
			} else if n > 0 {
				yield(block.Extent{Off: off, Len: n}, nil)
			}
			return
		}
		for e, err := range c.Status(ContextAllocation, off, n) {
			out := block.Extent{Off: off, Len: e.Len, Hole: e.Flags&ExtentHole != 0, Zero: e.Flags&ExtentZero != 0}
			// A hole that need not read as zero is no hole to us.
			out.Hole = out.Hole && out.Zero
			if !yield(out, err) || err != nil {
				return
			}
			off += e.Len
		}
	}
}

// Status yields the extents of [off, off+n) in a meta context, in order and
// without a gap. Unsupported: the server has no such context, or it was not asked
// for in the options.
func (c *Client) Status(name string, off, n int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		err := c.check("list extents", off, n, false)
		id, ok := c.export.contexts[name]
		if err == nil && !ok {
			err = homeward.Errorf("list extents", homeward.Unsupported, c.uri.String(), "name it in ClientOptions.Contexts, and look what the server offers (nbdinfo)",
				"no meta context %q", name)
		}
		for end := off + n; err == nil && off < end; {
			k := c.newCall(cmdBlockStatus, 0, off, int(min(end-off, zeroPiece)))
			if err = c.do(k); err != nil {
				break
			}
			before := off
			for _, e := range k.found[id] {
				e.Len = min(e.Len, end-off)
				if e.Len > 0 && !yield(e, nil) {
					return
				}
				off += e.Len
			}
			if off == before {
				err = homeward.Errorf("list extents", homeward.Corrupt, c.uri.String(), "look at the server", "it described nothing of %q", name)
			}
		}
		if err != nil {
			yield(Extent{}, err)
		}
	}
}

// Close ends the connection; what is outstanding fails with homeward.Canceled.
// It does not flush.
func (c *Client) Close() error {
	c.cancel()
	c.keeper.Wait()
	return nil
}

// check refuses what the server would refuse, or should not see.
func (c *Client) check(op string, off, n int64, writes bool) error {
	bad := func(kind homeward.Kind, remedy, format string, args ...any) error {
		return homeward.Errorf(op, kind, c.uri.String(), remedy, format, args...)
	}
	switch size := c.export.size; {
	case off < 0 || n < 0 || off > size || n > size-off:
		return bad(homeward.Invalid, "stay within the disk", "%d bytes at %d are not within its %d bytes", n, off, size)
	case off%c.export.minBlock != 0 || n%c.export.minBlock != 0:
		return bad(homeward.Invalid, "align the request", "the server takes multiples of %d bytes only", c.export.minBlock)
	case writes && c.ReadOnly():
		return bad(homeward.Forbidden, "open it for writing", "it is read-only")
	}
	return nil
}

func (c *Client) pieceSize() int64 { return min(piece, c.export.maxRequest) }
