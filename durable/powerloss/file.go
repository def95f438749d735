package powerloss

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward/durable"
)

// file is an open file of an FS.
type file struct {
	fs     *FS
	node   *node
	name   string
	flag   int
	at     int64 // of Write
	poison durable.Poison
	life   int
	closed bool
	locks  bool
}

var (
	_ durable.File   = (*file)(nil)
	_ durable.Locker = (*file)(nil)
)

const accessModes = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

// OpenFile opens with the flags of package os.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	var opened *file
	err := f.unlessFaulty(OpOpen, name, func() error {
		dir, last, err := f.parent(name)
		if err != nil {
			return err
		}
		n := dir.entries[last]
		switch {
		case n == nil && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case n != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case n != nil && n.data == nil:
			return syscall.EISDIR
		case n == nil:
			n = &node{perm: perm.Perm(), changed: time.Now(), data: newContent()}
			dir.change(dirOp{name: last, to: n})
		}
		if flag&os.O_TRUNC != 0 && n.data.size > 0 {
			n.data.resize(0)
		}
		opened = &file{fs: f, node: n, name: name, flag: flag, life: f.life}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (o *file) Name() string { return o.name }

// dead reports that the file was closed, or its process killed. The caller locks.
func (o *file) dead() bool { return o.closed || o.life != o.fs.life }

// unlessDead runs an operation on the open file, unless it is closed or a fault strikes.
func (o *file) unlessDead(op string, action func() error) error {
	return o.fs.unlessFaulty(op, o.name, func() error {
		if o.dead() {
			return fs.ErrClosed
		}
		return action()
	})
}

func (o *file) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	eof := false
	err := o.unlessDead(OpRead, func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		if o.flag&accessModes == os.O_WRONLY {
			return syscall.EBADF
		}
		n = int(max(min(int64(len(p)), o.node.data.size-off), 0))
		o.node.data.read(p[:n], off)
		eof = n < len(p)
		return nil
	})
	if err == nil && eof {
		err = io.EOF
	}
	return n, err
}

func (o *file) WriteAt(p []byte, off int64) (int, error) { return o.write(p, off, false) }

func (o *file) Write(p []byte) (int, error) { return o.write(p, 0, true) }

// write writes at off, or where the last one ended. When a fault strikes, half
// is written: that is what a full disk does.
func (o *file) write(p []byte, off int64, follow bool) (int, error) {
	fault := o.fs.faults.strike(OpWrite, o.name)
	if fault != nil {
		p = p[:len(p)/2]
	}
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	var err error
	switch {
	case o.dead():
		err = fs.ErrClosed
	case o.flag&accessModes == os.O_RDONLY:
		err = syscall.EBADF
	case off < 0:
		err = syscall.EINVAL
	}
	if err != nil {
		return 0, durable.SystemError(OpWrite, o.name, err)
	}
	if follow {
		if off = o.at; o.flag&os.O_APPEND != 0 {
			off = o.node.data.size
		}
		o.at = off + int64(len(p))
	}
	if len(p) > 0 {
		o.node.data.write(p, off, int64(len(p)))
		o.node.data.grow(off + int64(len(p)))
		o.node.changed = time.Now()
	}
	return len(p), durable.SystemError(OpWrite, o.name, fault)
}

func (o *file) Sync() error {
	return o.poison.Sync(o.name, func() error {
		fault := o.fs.faults.strike(OpSync, o.name)
		o.fs.mu.Lock()
		defer o.fs.mu.Unlock()
		switch {
		case o.dead():
			return fs.ErrClosed
		case fault != nil:
			o.node.data.failSync()
			return fault
		}
		o.node.data.sync()
		return nil
	})
}

func (o *file) Truncate(size int64) error {
	return o.unlessDead(OpTruncate, func() error {
		if size < 0 {
			return syscall.EINVAL
		}
		if size != o.node.data.size {
			o.node.data.resize(size)
		}
		return nil
	})
}

func (o *file) Allocate(off, n int64) error {
	return o.unlessDead(OpAllocate, func() error {
		o.node.data.grow(off + n)
		return nil
	})
}

func (o *file) Punch(off, n int64) error {
	return o.unlessDead(OpPunch, func() error {
		if off < 0 || n <= 0 {
			return syscall.EINVAL
		}
		o.node.data.write(nil, off, max(min(n, o.node.data.size-off), 0))
		return nil
	})
}

func (o *file) Stat() (fs.FileInfo, error) {
	var found info
	err := o.unlessDead(OpStat, func() error {
		found = o.node.info(filepath.Base(clean(o.name)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (o *file) Close() error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.dead() {
		return durable.SystemError("close", o.name, fs.ErrClosed)
	}
	o.closed = true
	if o.locks {
		o.node.locked = 0
	}
	return nil
}

// TryLock takes the lock of the file, which Close and the process's death give back.
func (o *file) TryLock() (bool, error) {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.dead() {
		return false, durable.SystemError("lock", o.name, fs.ErrClosed)
	}
	if o.node.locked == o.fs.life && !o.locks {
		return false, nil
	}
	o.node.locked, o.locks = o.fs.life, true
	return true, nil
}
