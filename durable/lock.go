package durable

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/homeward-dr/homeward"
)

// Lock is the right to be alone with what a lock file stands for. The kernel
// ends it with the process, however that dies.
type Lock struct {
	file File
}

// LockFile takes the lock at path, creating the file if need be, and writes this
// process's id into it. It never waits: InUse names the holder.
func LockFile(fsys FS, path string) (*Lock, error) {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, homeward.Wrap(err, "lock", path)
	}
	l, can := f.(Locker)
	if !can {
		err := homeward.Errorf("lock", homeward.Unsupported, path, "use another file system", "%T has no locks", f)
		return nil, errors.Join(err, f.Close())
	}
	mine, err := l.TryLock()
	if err == nil && !mine {
		err = inUse(f, path)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		return nil, errors.Join(homeward.Wrap(err, "lock", path), f.Close())
	}
	return &Lock{file: f}, nil
}

func inUse(f File, path string) error {
	buf := make([]byte, 20)
	n, _ := f.ReadAt(buf, 0) // the holder may just be writing it: then it stays unnamed
	holder := strings.TrimSpace(string(buf[:n]))
	if holder == "" {
		holder = "unknown"
	}
	return homeward.Errorf("lock", homeward.InUse, path,
		"stop that process, or choose another directory", "held by process %s", holder)
}

// Unlock gives the lock back. The file stays: to remove it would let two later
// processes lock two different files of the same name.
func (l *Lock) Unlock() error { return l.file.Close() }
