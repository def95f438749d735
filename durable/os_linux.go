package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OS is the file system of the operating system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, SystemError("open", name, err)
	}
	return &osFile{f: f}, nil
}

func (osFS) Rename(old, new string) error {
	return SystemError("rename", old, os.Rename(old, new)) //nolint:forbidigo // this is the one place that may
}

func (osFS) Remove(name string) error { return SystemError("remove", name, os.Remove(name)) }

func (o osFS) MkdirAll(dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := o.MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return SystemError("make directory", dir, err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return SystemError("make directory", dir, errors.Join(err, unix.ENOTDIR))
	}
	return o.SyncDir(parent)
}

func (osFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	list, err := os.ReadDir(dir)
	return list, SystemError("list", dir, err)
}

func (osFS) Stat(name string) (fs.FileInfo, error) {
	info, err := os.Stat(name)
	return info, SystemError("stat", name, err)
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return SystemError("sync directory", dir, err)
	}
	return SystemError("sync directory", dir, errors.Join(d.Sync(), d.Close()))
}

type osFile struct {
	f      *os.File
	poison Poison
}

func (o *osFile) Name() string { return o.f.Name() }
func (o *osFile) Close() error { return SystemError("close", o.Name(), o.f.Close()) }

func (o *osFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.f.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = SystemError("read", o.Name(), err)
	}
	return n, err
}

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.f.WriteAt(p, off)
	return n, SystemError("write", o.Name(), err)
}

func (o *osFile) Write(p []byte) (int, error) {
	n, err := o.f.Write(p)
	return n, SystemError("write", o.Name(), err)
}

func (o *osFile) Stat() (fs.FileInfo, error) {
	info, err := o.f.Stat()
	return info, SystemError("stat", o.Name(), err)
}

func (o *osFile) Truncate(size int64) error {
	return SystemError("truncate", o.Name(), o.f.Truncate(size))
}

func (o *osFile) Sync() error {
	return o.poison.Sync(o.Name(), func() error { return o.onDescriptor(unix.Fdatasync) })
}

func (o *osFile) Allocate(off, n int64) error {
	err := o.onDescriptor(func(fd int) error { return unix.Fallocate(fd, 0, off, n) })
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return SystemError("allocate", o.Name(), err)
	}
	info, err := o.f.Stat()
	if err == nil && info.Size() < off+n {
		err = o.f.Truncate(off + n)
	}
	return SystemError("allocate", o.Name(), err)
}

func (o *osFile) Punch(off, n int64) error {
	err := o.onDescriptor(func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = o.overwriteZero(off, n)
	}
	return SystemError("punch", o.Name(), err)
}

// overwriteZero is Punch where the file system has no holes.
func (o *osFile) overwriteZero(off, n int64) error {
	info, err := o.f.Stat()
	if err != nil {
		return err
	}
	zero := make([]byte, 64<<10)
	for end := min(off+n, info.Size()); off < end; off += int64(len(zero)) {
		if _, err := o.f.WriteAt(zero[:min(int64(len(zero)), end-off)], off); err != nil {
			return err
		}
	}
	return nil
}

// TryLock takes an open-file-description lock: it belongs to this File, not to
// the process, so a second open by the same process is refused too, and the
// kernel drops it with the last descriptor, also at kill -9.
func (o *osFile) TryLock() (bool, error) {
	err := o.onDescriptor(func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, SystemError("lock", o.Name(), err)
}

// onDescriptor runs a system call on the descriptor, again when a signal cut it short.
func (o *osFile) onDescriptor(call func(fd int) error) error {
	conn, err := o.f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) {
		for result = unix.EINTR; errors.Is(result, unix.EINTR); {
			result = call(int(fd))
		}
	})
	return errors.Join(err, result)
}
