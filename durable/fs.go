package durable

import (
	"io"
	"io/fs"
)

// FS is a file system as far as durable files need it. Errors carry a
// homeward.Kind and still match fs.ErrNotExist and the like with errors.Is.
// All methods may be called concurrently.
type FS interface {
	// OpenFile opens with the flags of package os.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces new atomically. It is durable only after SyncDir of the
	// directories of both names.
	Rename(old, new string) error
	// Remove removes a file or an empty directory; durable only after SyncDir.
	Remove(name string) error
	// MkdirAll creates dir and its parents; they are durable when it returns.
	MkdirAll(dir string, perm fs.FileMode) error
	// ReadDir lists a directory sorted by name.
	ReadDir(dir string) ([]fs.DirEntry, error)
	// Stat describes a file.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
}

// File is an open file. ReadAt and WriteAt may be called concurrently; Write
// keeps a position of its own, as in package os, and is for one caller.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.WriteCloser
	// Sync makes everything written durable (fdatasync or stronger). Once it has
	// failed it fails for ever on this File: see Poison.
	Sync() error
	// Truncate sets the size in bytes; new bytes read as zero.
	Truncate(size int64) error
	// Allocate reserves room for n bytes at off, growing the file if need be, so
	// that writing them cannot run out of space. Where the file system cannot,
	// it only grows the file.
	Allocate(off, n int64) error
	// Punch makes n bytes at off read as zero and gives their room back where the
	// file system can; the size stays.
	Punch(off, n int64) error
	// Stat describes the file as it is now.
	Stat() (fs.FileInfo, error)
	// Name is the name given to OpenFile.
	Name() string
}

// Locker is what a File of an FS that supports LockFile also has.
type Locker interface {
	// TryLock takes the exclusive lock of the file without waiting; false: somebody
	// else has it. Close gives it back.
	TryLock() (bool, error)
}
