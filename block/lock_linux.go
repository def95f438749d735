package block

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// QEMU locks bytes of an image to say what it does with it: byte 100+p is held
// shared by who uses permission p, 200+p by who does not let others use it.
// Having taken its locks, it looks whether somebody's forbid it.
const (
	qemuReads        = 100
	qemuWrites       = 101
	qemuResizes      = 103
	qemuForbidsWrite = 201
	qemuForbidsSize  = 203
)

// lock locks an open disk, without waiting. A writer locks the whole file
// exclusively; a reader locks the bytes by which QEMU tells that it reads and
// that nobody may write, and looks whether somebody does. So each keeps out
// another Homeward and QEMU alike, and readers share. The lock is the
// descriptor's (OFD): it excludes a second open by this process too, and ends
// with the descriptor however the process dies.
func lock(fd int, path string, shared bool) error {
	var free bool
	var err error
	if shared {
		free, err = lockShared(fd)
	} else {
		free, err = lockBytes(fd, unix.F_WRLCK, 0, 0)
	}
	if err != nil {
		return durable.SystemError("lock disk", path, err)
	}
	if !free {
		return homeward.Errorf("open disk", homeward.InUse, path,
			"stop who uses it, or choose another disk", "locked by %s", users(path))
	}
	return nil
}

func lockShared(fd int) (bool, error) {
	for _, at := range []int64{qemuReads, qemuForbidsWrite, qemuForbidsSize} {
		if free, err := lockBytes(fd, unix.F_RDLCK, at, 1); !free || err != nil {
			return false, err
		}
	}
	for _, at := range []int64{qemuWrites, qemuResizes} {
		probe := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
		err := retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &probe) })
		if err != nil || probe.Type != unix.F_UNLCK {
			return false, err
		}
	}
	return true, nil
}

// lockBytes locks n bytes at off, all of them when n is 0; false: somebody else has.
func lockBytes(fd int, kind int16, off, n int64) (bool, error) {
	span := unix.Flock_t{Type: kind, Start: off, Len: n}
	err := retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &span) })
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// users names the processes that have path open, as far as this one may see.
func users(path string) string {
	target, err := os.Stat(path)
	if err != nil {
		return "another user"
	}
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // an unreadable process stays unnamed
	for _, link := range links {
		pid := strings.Split(link, "/")[2]
		if pid == fmt.Sprint(os.Getpid()) {
			continue
		}
		if info, err := os.Stat(link); err == nil && os.SameFile(info, target) {
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			found = append(found, fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name))))
		}
	}
	if found == nil {
		return "this process, or one it may not see"
	}
	return strings.Join(found, ", ")
}
