package world

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// processFS is a file system as one process sees it.
type processFS struct {
	p  *Process
	fs durable.FS
}

func (v processFS) OpenFile(name string, flag int, perm fs.FileMode) (f durable.File, err error) {
	err = v.p.do(func() error {
		inner, err := v.fs.OpenFile(name, flag, perm)
		if err == nil {
			f = processFile{inner, v.p}
		}
		return err
	})
	return f, err
}

func (v processFS) Rename(from, to string) error {
	return v.p.do(func() error { return v.fs.Rename(from, to) })
}
func (v processFS) Remove(name string) error {
	return v.p.do(func() error { return v.fs.Remove(name) })
}
func (v processFS) SyncDir(dir string) error {
	return v.p.do(func() error { return v.fs.SyncDir(dir) })
}
func (v processFS) MkdirAll(dir string, perm fs.FileMode) error {
	return v.p.do(func() error { return v.fs.MkdirAll(dir, perm) })
}

func (v processFS) ReadDir(dir string) (list []fs.DirEntry, err error) {
	err = v.p.do(func() (err error) { list, err = v.fs.ReadDir(dir); return err })
	return list, err
}

func (v processFS) Stat(name string) (info fs.FileInfo, err error) {
	err = v.p.do(func() (err error) { info, err = v.fs.Stat(name); return err })
	return info, err
}

// processFile is an open file of one process.
type processFile struct {
	durable.File
	p *Process
}

func (f processFile) ReadAt(b []byte, off int64) (n int, err error) {
	err = f.p.do(func() (err error) { n, err = f.File.ReadAt(b, off); return err })
	return n, err
}

func (f processFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.p.do(func() (err error) { n, err = f.File.WriteAt(b, off); return err })
	return n, err
}

func (f processFile) Write(b []byte) (n int, err error) {
	err = f.p.do(func() (err error) { n, err = f.File.Write(b); return err })
	return n, err
}

func (f processFile) Sync() error { return f.p.do(f.File.Sync) }
func (f processFile) Truncate(size int64) error {
	return f.p.do(func() error { return f.File.Truncate(size) })
}
func (f processFile) Allocate(off, n int64) error {
	return f.p.do(func() error { return f.File.Allocate(off, n) })
}
func (f processFile) Punch(off, n int64) error {
	return f.p.do(func() error { return f.File.Punch(off, n) })
}

// Close of a ghost does nothing: the file is gone from it already.
func (f processFile) Close() error {
	if !f.p.Alive() {
		return nil
	}
	return f.File.Close()
}

// TryLock makes it a durable.Locker, as files of powerloss are.
func (f processFile) TryLock() (got bool, err error) {
	err = f.p.do(func() (err error) { got, err = f.File.(durable.Locker).TryLock(); return err })
	return got, err
}

// Medium is a disk of a site, with its cache. Safe for concurrent use.
type Medium struct {
	ref string

	mu     sync.Mutex
	disk   *powerloss.Disk
	holder *Process // who has it open for writing
	opened int      // by holder: handles
}

// Content is what the disk holds, cache included.
func (m *Medium) Content() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := make([]byte, m.disk.Size())
	if _, err := m.disk.ReadAt(p, 0); err != nil {
		panic(err) // it has no faults and is never closed
	}
	return p
}

// losePower lets the cache lose what was not flushed.
func (m *Medium) losePower(rng *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk, m.holder, m.opened = m.disk.Crash(rng), nil, 0
}

// open opens the disk for a process; a second one is refused, as a lock does.
func (m *Medium) open(p *Process, mode block.Mode) (block.Disk, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mode.Size != 0 && mode.Size != m.disk.Size() {
		return nil, homeward.Errorf("open disk", homeward.Invalid, m.ref, "give its size", "it has %d bytes, not %d", m.disk.Size(), mode.Size)
	}
	if mode.ReadOnly {
		return &mediumHandle{m: m, p: p, disk: m.disk, reads: true}, nil
	}
	if m.holder != nil && m.opened > 0 && m.holder.Alive() {
		return nil, homeward.Errorf("open disk", homeward.InUse, m.ref, "close it there first", "%s has it", m.holder.name)
	}
	m.disk = m.disk.Reopen()
	m.holder, m.opened = p, 1
	return &mediumHandle{m: m, p: p, disk: m.disk}, nil
}

// mediumHandle is a disk that one process has open.
type mediumHandle struct {
	m     *Medium
	p     *Process
	disk  *powerloss.Disk
	reads bool
	once  sync.Once
}

func (h *mediumHandle) ReadAt(b []byte, off int64) (n int, err error) {
	err = h.p.do(func() (err error) { n, err = h.disk.ReadAt(b, off); return err })
	return n, err
}

func (h *mediumHandle) WriteAt(b []byte, off int64) (n int, err error) {
	err = h.p.do(func() (err error) { n, err = h.disk.WriteAt(b, off); return err })
	return n, err
}

func (h *mediumHandle) WriteAtFUA(b []byte, off int64) (n int, err error) {
	err = h.p.do(func() (err error) { n, err = h.disk.WriteAtFUA(b, off); return err })
	return n, err
}

func (h *mediumHandle) Zero(off, n int64, punch bool) error {
	return h.p.do(func() error { return h.disk.Zero(off, n, punch) })
}

func (h *mediumHandle) Flush() error { return h.p.do(h.disk.Flush) }
func (h *mediumHandle) Size() int64  { return h.disk.Size() }

func (h *mediumHandle) Close() error {
	h.once.Do(func() {
		h.m.mu.Lock()
		defer h.m.mu.Unlock()
		if !h.reads && h.m.holder == h.p && h.m.disk == h.disk {
			h.m.holder, h.m.opened = nil, 0
		}
	})
	return nil
}

// remoteDisk is an NBD disk that one process has open. What it asked for before it
// died may still be done, as with a socket.
type remoteDisk struct {
	block.Disk
	p *Process
}

func (r remoteDisk) check() error {
	r.p.step()
	if !r.p.Alive() {
		return r.p.errDead()
	}
	return nil
}

func (r remoteDisk) ReadAt(b []byte, off int64) (int, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	return r.Disk.ReadAt(b, off)
}

func (r remoteDisk) WriteAt(b []byte, off int64) (int, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	return r.Disk.WriteAt(b, off)
}

func (r remoteDisk) Zero(off, n int64, punch bool) error {
	if err := r.check(); err != nil {
		return err
	}
	return r.Disk.Zero(off, n, punch)
}

func (r remoteDisk) Flush() error {
	if err := r.check(); err != nil {
		return err
	}
	return r.Disk.Flush()
}

// openRemote opens NBD URIs for a process.
func openRemote(p *Process, open block.Opener) block.Opener {
	return func(ctx context.Context, ref string, m block.Mode) (block.Disk, error) {
		if !p.Alive() {
			return nil, p.errDead()
		}
		d, err := open(ctx, ref, m)
		if err != nil {
			return nil, err
		}
		p.connected(d)
		return remoteDisk{d, p}, nil
	}
}
