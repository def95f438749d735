package nbd

import (
	"crypto/tls"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Export is a disk as clients see it.
type Export struct {
	// Name is what clients ask for, 1 to MaxName bytes without control characters.
	// The empty name is refused: a client that names nothing could come back to
	// something else than it left (I-6).
	Name string
	// Disk is served; its size must not change while it is. The server never closes it.
	Disk block.Disk
	// ReadOnly refuses everything that would change the disk.
	ReadOnly bool
	// MultiConn promises clients that several connections see one coherent disk: a
	// flush on one covers writes answered on all. Set it only if Disk holds that.
	MultiConn bool
	// Exclusive admits one connection at a time. A second one is refused while the
	// first lives or any of its requests is still on the disk.
	Exclusive bool
	// Admit refuses clients by what the TLS handshake has proven (nil: there was none); its
	// error is told to the client. It must not block. nil: everybody may use the export.
	Admit func(*tls.ConnectionState) error
	// Description is for people.
	Description string
	// Contexts are meta contexts besides base:allocation, by their full name, such
	// as "homeward:dirty".
	Contexts map[string]Context
}

// Context describes every byte of a disk by a 32-bit word whose meaning is the context's.
type Context interface {
	// Extents yields the extents that make up [off, off+n), in order and without a
	// gap. A caller may stop early. Safe for concurrent use.
	Extents(off, n int64) iter.Seq2[Extent, error]
}

// Extent is a run of bytes with the same flags.
type Extent struct {
	Len   int64
	Flags uint32
}

// Flags of extents of base:allocation.
const (
	ExtentHole uint32 = 1 << 0 // not allocated
	ExtentZero uint32 = 1 << 1 // reads as zeroes
)

// ContextAllocation is the meta context every export has.
const ContextAllocation = "base:allocation"

// Optional powers of an export's disk; block.FUAWriter is a third.
type (
	// fastZeroer tells whether zeroing takes clearly less time than writing zeroes.
	// A disk without it is taken to be slow at it.
	fastZeroer interface{ ZeroIsFast(punch bool) bool }
)

func (e Export) validate() error {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf("add export", homeward.Invalid, fmt.Sprintf("%q field %s", e.Name, field), fix, format, args...)
	}
	switch {
	case e.Name == "" || len(e.Name) > MaxName:
		return bad("Name", fmt.Sprintf("give 1 to %d bytes", MaxName), "%d bytes", len(e.Name))
	case strings.ContainsFunc(e.Name, func(r rune) bool { return r < ' ' || r == '\ufffd' }):
		return bad("Name", "use printable UTF-8", "control or invalid characters")
	case e.Disk == nil:
		return bad("Disk", "give a disk", "none")
	case len(e.Description) > MaxName:
		return bad("Description", fmt.Sprintf("at most %d bytes", MaxName), "%d bytes", len(e.Description))
	case e.Exclusive && e.MultiConn:
		return bad("MultiConn", "drop it or Exclusive", "one connection at a time cannot be several")
	}
	for name, c := range e.Contexts {
		space, leaf, ok := strings.Cut(name, ":")
		if !ok || space == "" || leaf == "" || space == "base" || len(name) > MaxName || c == nil {
			return bad("Contexts", "name it namespace:leaf, outside base", "context %q", name)
		}
	}
	return nil
}

// served is an export of a server, with those who use it.
type served struct {
	Export
	size  int64
	flags uint16 // what it can do, before negotiation
	gate  gate

	mu       sync.Mutex
	gone     bool // withdrawn: nobody attaches any more
	sessions map[*session]struct{}
	empty    chan struct{} // closed when gone and the last session has left
}

func newServed(e Export) *served {
	s := &served{Export: e, size: e.Disk.Size(), sessions: map[*session]struct{}{}, empty: make(chan struct{})}
	s.gate.drained = make(chan struct{})
	s.flags = canHasFlags | canFlush | canFUA
	if e.ReadOnly {
		s.flags |= canReadOnly
	} else {
		s.flags |= canTrim | canWriteZeroes | canFastZero
	}
	if e.MultiConn {
		s.flags |= canMultiConn
	}
	return s
}

// attach admits a session.
func (e *served) attach(s *session) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return errUnknownExport(e.Name)
	}
	if e.Exclusive && len(e.sessions) > 0 {
		return homeward.Errorf("connect to export", homeward.InUse, e.Name,
			"end the other client first, or wait until its connection is seen to be dead", "one client at a time, and there is one")
	}
	e.sessions[s] = struct{}{}
	return nil
}

// detach is called when no request of s is on the disk any more.
func (e *served) detach(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s)
	e.settle()
}

// close lets nobody attach any more; e.empty follows when the last has left.
func (e *served) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = true
	e.settle()
}

// settle, with mu held, closes empty when it is due, once.
func (e *served) settle() {
	if !e.gone || len(e.sessions) > 0 {
		return
	}
	select {
	case <-e.empty:
	default:
		close(e.empty)
	}
}

// each calls do for every session; do must not block.
func (e *served) each(do func(*session)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		do(s)
	}
}

func errUnknownExport(name string) error {
	return homeward.Errorf("connect to export", homeward.NotFound, name, "list the exports of this server", "no such export")
}

// gate counts the requests that are on a disk and can be shut for good. All of
// I-6 rests on it: once shut and drained, no request reaches the disk, whatever
// connections, buffers and goroutines are still about.
type gate struct {
	// state is the number of requests inside; shut adds shutBit, which makes it negative.
	state   atomic.Int64
	once    sync.Once
	drained chan struct{} // closed when shut and empty
}

const shutBit = math.MinInt64

// enter reports whether a request may touch the disk; if so, leave must follow.
func (g *gate) enter() bool {
	if g.state.Add(1) < 0 {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.state.Add(-1) == shutBit {
		g.once.Do(func() { close(g.drained) })
	}
}

// shut lets nobody in any more. It may be called again.
func (g *gate) shut() {
	for {
		v := g.state.Load()
		if v < 0 {
			return
		}
		if g.state.CompareAndSwap(v, v+shutBit) {
			if v == 0 {
				g.once.Do(func() { close(g.drained) })
			}
			return
		}
	}
}
