package durable

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"

	"github.com/homeward-dr/homeward"
)

// SystemError makes a homeward error of one the operating system gave, with the
// kind and the remedy that fit its cause; the cause stays in the chain. An error
// that has a kind already keeps it; nil stays nil.
func SystemError(op, subject string, err error) error {
	var known *homeward.Error
	if err == nil || errors.As(err, &known) {
		return homeward.Wrap(err, op, subject)
	}
	kind, remedy := classify(err)
	return &homeward.Error{Op: op, Kind: kind, Subject: subject, Remedy: remedy, Err: err}
}

func classify(err error) (homeward.Kind, string) {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG):
		return homeward.NoSpace, "free some space on its file system, then retry"
	case is(syscall.EIO, syscall.ENXIO, syscall.ENODEV, syscall.EREMOTEIO, syscall.ETIMEDOUT):
		return homeward.IO, "look at the kernel log and replace the medium if it fails again"
	case is(syscall.EROFS):
		return homeward.Forbidden, "remount its file system for writing"
	case is(fs.ErrNotExist):
		return homeward.NotFound, "check the path"
	case is(fs.ErrExist):
		return homeward.Exists, "remove it or choose another name"
	case is(fs.ErrPermission):
		return homeward.Forbidden, "give this user the right to it, or run as one that has it"
	case is(syscall.EBUSY, syscall.ETXTBSY):
		return homeward.InUse, "stop whatever uses it, or unmount it"
	case is(syscall.EOPNOTSUPP, syscall.ENOSYS):
		return homeward.Unsupported, "use another file system"
	case is(syscall.EISDIR, syscall.ENOTDIR, syscall.EINVAL, syscall.ENAMETOOLONG, syscall.ELOOP):
		return homeward.Invalid, "check the path"
	}
	return homeward.IO, ""
}

// Poison remembers the first failed sync of an open file and fails every later
// one (I-10). After a failed fsync the kernel marks the pages clean though they
// never reached the medium: the next fsync would return nil and lie. Whoever
// meets the error reopens the file and rewrites what was not durable.
//
// The zero Poison is clean. Safe for concurrent use.
type Poison struct {
	mu  sync.Mutex
	err error
}

// Err is the failure that poisoned the file, or nil.
func (p *Poison) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Sync runs sync unless the file is poisoned, and poisons it if sync fails;
// name names the file in the error.
func (p *Poison) Sync(name string, sync func() error) error {
	if err := p.Err(); err != nil {
		return homeward.Errorf("sync", homeward.KindOf(err), name,
			"reopen it and write again what was not durable",
			"refused, because an earlier sync failed: %w", err)
	}
	err := SystemError("sync", name, sync())
	if err != nil {
		p.mu.Lock()
		if p.err == nil {
			p.err = err
		}
		p.mu.Unlock()
	}
	return err
}
