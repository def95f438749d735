package processserver

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// body is the bytes of a delta while it is received: written to the spool file as
// they come, and read by the sender at the same time. What the spool does not
// take, because its disk is full or failing, is kept in memory instead.
//
// One writer, any readers. The file stays readable, under whatever name, until
// the last reference is released.
type body struct {
	file    *durable.NewFile // nil: could not be created
	read    durable.File     // of the same file
	reserve func() error     // memory for what the spool does not take
	give    func()           // gives it back

	mu     sync.Mutex
	refs   int
	size   int64
	memory []byte // the bytes from inFile on
	inFile int64
	failed error // of the spool
	done   bool  // no more will come
	err    error // and this is why, if not all came
	grown  chan struct{}
}

// newBody begins the spool file at path. That it cannot is no error: see failed.
func newBody(fsys durable.FS, path string, reserve func() error, give func()) *body {
	b := &body{reserve: reserve, give: give, refs: 1, grown: make(chan struct{})}
	if b.file, b.failed = durable.Create(fsys, path, 0o600); b.failed != nil {
		b.file = nil
		return b
	}
	b.read, b.failed = fsys.OpenFile(path+durable.TempSuffix, os.O_RDONLY, 0)
	return b
}

// Write appends p. Its error means that neither spool nor memory took it.
func (b *body) Write(p []byte) (int, error) {
	b.mu.Lock()
	failed, memory := b.failed, b.memory != nil
	b.mu.Unlock()
	if failed == nil {
		_, failed = b.file.Write(p)
	}
	if failed != nil && !memory {
		if err := b.reserve(); err != nil {
			return 0, errors.Join(failed, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if failed != nil {
		if b.memory == nil {
			b.failed, b.inFile, b.memory = failed, b.size, make([]byte, 0, homeward.MaxDelta-b.size)
		}
		b.memory = append(b.memory, p...)
	}
	b.size += int64(len(p))
	b.notify()
	return len(p), nil
}

// finish says that no more will come: err nil, all came.
func (b *body) finish(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.err = true, err
	b.notify()
}

func (b *body) notify() {
	close(b.grown)
	b.grown = make(chan struct{})
}

// commit makes the file durable under its name. It errs when the spool did not
// take everything; the bytes stay readable here all the same.
func (b *body) commit() error {
	b.mu.Lock()
	failed := b.failed
	b.mu.Unlock()
	if failed == nil {
		failed = b.file.Commit()
		b.mu.Lock()
		b.failed = failed
		b.mu.Unlock()
	}
	return failed
}

// hold takes one more reference; false when the last one is gone.
func (b *body) hold() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refs == 0 {
		return false
	}
	b.refs++
	return true
}

// release gives a reference back; with the last one the memory and, unless it was
// committed, the file go.
func (b *body) release() error {
	b.mu.Lock()
	b.refs--
	last := b.refs == 0
	memory := b.memory != nil
	if last {
		b.memory = nil
	}
	b.mu.Unlock()
	if !last {
		return nil
	}
	if memory {
		b.give()
	}
	var err error
	if b.read != nil {
		err = b.read.Close()
	}
	if b.file != nil {
		err = errors.Join(err, b.file.Abort())
	}
	return err
}

// reader reads all bytes from the first on, and waits for those that have not
// come yet until ctx ends.
func (b *body) reader(ctx context.Context) io.Reader { return &bodyReader{b: b, ctx: ctx} }

type bodyReader struct {
	b   *body
	ctx context.Context
	off int64
}

func (r *bodyReader) Read(p []byte) (int, error) {
	for {
		n, wait, err := r.try(p)
		if wait == nil {
			return n, err
		}
		select {
		case <-wait:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}

// try reads what is there, or tells what to wait for.
func (r *bodyReader) try(p []byte) (n int, wait <-chan struct{}, err error) {
	b := r.b
	b.mu.Lock()
	size, inFile, memory := b.size, b.inFile, b.memory
	switch {
	case r.off < size:
	case !b.done:
		wait = b.grown
	case b.err != nil:
		err = homeward.Wrap(b.err, "receive delta", "")
	default:
		err = io.EOF
	}
	b.mu.Unlock()
	if wait != nil || err != nil {
		return 0, wait, err
	}
	if memory == nil {
		inFile = size
	}
	if r.off < inFile {
		n, err = b.read.ReadAt(p[:min(int64(len(p)), inFile-r.off)], r.off)
		if n > 0 {
			err = nil
		}
	} else {
		n = copy(p, memory[r.off-inFile:])
	}
	r.off += int64(n)
	return n, nil, err
}
