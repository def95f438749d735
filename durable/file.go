package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/homeward-dr/homeward"
)

// TempSuffix ends the name of a file that is not finished yet; SweepTemps
// removes what a crash left of them.
const TempSuffix = ".tmp"

// NewFile is a file being built beside its final name. Nobody sees it there
// before Commit. Not for concurrent use, but WriteAt may be called concurrently.
type NewFile struct {
	fsys FS
	path string
	file File
	done bool
}

// Create begins a new file at path (or what shall replace the one there). One
// writer per path: a second Create of the same path starts the same temp anew.
func Create(fsys FS, path string, perm fs.FileMode) (*NewFile, error) {
	f, err := fsys.OpenFile(path+TempSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return nil, homeward.Wrap(err, "create", path)
	}
	return &NewFile{fsys: fsys, path: path, file: f}, nil
}

func (n *NewFile) Write(p []byte) (int, error)              { return n.file.Write(p) }
func (n *NewFile) WriteAt(p []byte, off int64) (int, error) { return n.file.WriteAt(p, off) }
func (n *NewFile) ReadAt(p []byte, off int64) (int, error)  { return n.file.ReadAt(p, off) }

// File is the temp file itself, for Allocate and the like; do not close it.
func (n *NewFile) File() File { return n.file }

// Commit makes the bytes durable, gives the file its name and makes that durable
// too. When it fails before the name is given, the temp is removed and what was
// at the path is still there; when only the last step fails (the error says so),
// either may be there after a power loss.
func (n *NewFile) Commit() error {
	if n.done {
		return homeward.Errorf("commit", homeward.Internal, n.path, "", "committed or aborted already")
	}
	if err := n.file.Sync(); err != nil {
		return errors.Join(homeward.Wrap(err, "commit", n.path), n.Abort())
	}
	n.done = true
	err := n.file.Close()
	if err == nil {
		err = n.fsys.Rename(n.path+TempSuffix, n.path)
	}
	if err != nil {
		return homeward.Wrap(errors.Join(err, n.fsys.Remove(n.path+TempSuffix)), "commit", n.path)
	}
	return homeward.Wrap(n.fsys.SyncDir(filepath.Dir(n.path)), "commit", n.path)
}

// Abort gives the file up and removes the temp. After Commit it does nothing, so
// it may be deferred.
func (n *NewFile) Abort() error {
	if n.done {
		return nil
	}
	n.done = true
	closed := n.file.Close()
	return homeward.Wrap(errors.Join(closed, n.fsys.Remove(n.path+TempSuffix)), "abort", n.path)
}

// WriteFile replaces the file at path by data, atomically and durably: after a
// crash the file is the old one or the new one, whole. One writer per path.
func WriteFile(fsys FS, path string, data []byte, perm fs.FileMode) error {
	n, err := Create(fsys, path, perm)
	if err != nil {
		return err
	}
	if _, err := n.Write(data); err != nil {
		return errors.Join(err, n.Abort())
	}
	return n.Commit()
}

// ReadFile reads a whole file; NotFound when there is none.
func ReadFile(fsys FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, homeward.Wrap(err, "read", path)
	}
	return data, nil
}

func readAll(f File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil
}

// Remove removes a file durably. That it is absent already is no error.
func Remove(fsys FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := fsys.SyncDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // neither is its directory
	}
	return err
}

// SweepTemps removes the unfinished files that a crash left in dir. Call it when
// the directory is opened, before anything is created there. An absent dir has none.
func SweepTemps(fsys FS, dir string) error {
	list, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	swept := false
	for _, e := range list {
		if e.IsDir() || !strings.HasSuffix(e.Name(), TempSuffix) {
			continue
		}
		if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		swept = true
	}
	if !swept {
		return nil
	}
	return fsys.SyncDir(dir)
}
