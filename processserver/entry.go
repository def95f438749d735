package processserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

// entry is one delta of a route's queue. Fields are guarded by the route's mutex;
// those above the line never change.
type entry struct {
	follows homeward.Position
	to      homeward.Position // without checksum
	path    string

	body     *body             // while it is received, and while a send began then; else nil
	position homeward.Position // complete; zero: still being received
	mark     homeward.Mark
	size     int64 // bytes counted against the budget
	bulk     bool  // it goes on with the set of the delta before it

	durable bool // in the spool

	sending bool // a send is under way
	sent    bool // and all its bytes are handed on: the next one may start
	passed  bool // the next hop has spooled it, not applied
	cancel  context.CancelFunc

	gone    bool  // not in the queue any more
	applied bool  // because it was applied
	err     error // or because of this
}

// spoolName sorts by sequence. Every attempt to receive a delta has a name of its
// own, so that one that was given up cannot touch the next one's file.
func spoolName(to homeward.Position, attempt uint64) string {
	return fmt.Sprintf("%016x-%s-%d.delta", to.Sequence, to.Cut, attempt)
}

// open is the delta's bytes from the start, and what to call when done with them.
// The route's mutex is held.
func (e *entry) open(ctx context.Context, s *Server) (io.Reader, func() error, error) {
	if e.body != nil && e.body.hold() {
		return e.body.reader(ctx), e.body.release, nil
	}
	f, err := s.cfg.FS.OpenFile(e.path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, unreadable(e.path, err)
	}
	if err != nil {
		return nil, nil, homeward.Wrap(err, "open spooled delta", e.path)
	}
	return spoolReader{io.NewSectionReader(f, 0, e.size), e.path}, f.Close, nil
}

// spoolReader reads a spool file; that it cannot is the spool's fault, not the
// target's.
type spoolReader struct {
	from io.Reader
	path string
}

func (r spoolReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = unreadable(r.path, err)
	}
	return n, err
}

func unreadable(path string, err error) error {
	return homeward.Errorf("read spooled delta", homeward.Corrupt, path, "look at the spool's disk", "%w", err)
}

// loadEntry reads what a spool file is. It does not read the content: that is
// checked as it is sent.
func loadEntry(s *Server, item homeward.ItemID, path string) (*entry, error) {
	const op = "load spooled delta"
	f, err := s.cfg.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, homeward.Wrap(err, op, path)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, homeward.Wrap(err, op, path)
	}
	r, err := delta.Open(f, info.Size())
	if err != nil {
		return nil, homeward.Wrap(err, op, path)
	}
	h := r.Header()
	if h.Item != item || h.Kind != delta.Forward {
		return nil, homeward.Errorf(op, homeward.Corrupt, path, "", "it is a delta (%v) of item %s", h.Kind, h.Item)
	}
	return &entry{follows: h.Follows, to: h.To, path: path, position: h.Position(r.Trailer()), mark: r.Trailer().Mark,
		size: info.Size(), durable: true}, nil
}
