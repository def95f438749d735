package history

import (
	"container/list"
	"errors"
	"os"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/durable"
)

// MaxOpen is how many segment files are held open at most, besides those that a
// call is reading at the moment.
const MaxOpen = 256

// Files are open segment files, shared by all chains of a process so that
// neither descriptors nor memory grow with the length of history: at most MaxOpen
// are kept, each with one header and one index chunk (some 20 KiB, more with a
// large NVRAM in the machine manifest). Safe for concurrent use.
type Files struct {
	fsys   durable.FS
	mu     sync.Mutex
	opened map[string]*handle
	idle   list.List // of *handle without users, least recently used first
}

type handle struct {
	path   string
	file   durable.File
	reader *delta.Reader
	users  int
	gone   bool          // to be closed by its last user
	place  *list.Element // in idle
}

// NewFiles keeps files of fsys open.
func NewFiles(fsys durable.FS) *Files {
	return &Files{fsys: fsys, opened: map[string]*handle{}}
}

// open finds or opens a segment; done must follow.
func (f *Files) open(path string) (*handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.opened[path]; h != nil {
		if h.place != nil {
			f.idle.Remove(h.place)
			h.place = nil
		}
		h.users++
		return h, nil
	}
	h, err := openHandle(f.fsys, path)
	if err != nil {
		return nil, err
	}
	h.users = 1
	f.opened[path] = h
	return h, nil
}

func openHandle(fsys durable.FS, path string) (*handle, error) {
	file, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, homeward.Wrap(err, "open segment", path)
	}
	h := &handle{path: path, file: file}
	info, err := file.Stat()
	if err == nil {
		h.reader, err = delta.Open(file, info.Size())
	}
	if err != nil {
		return nil, errors.Join(homeward.Wrap(err, "open segment", path), file.Close())
	}
	return h, nil
}

func (f *Files) done(h *handle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h.users--
	if h.users > 0 {
		return
	}
	if h.gone {
		_ = h.file.Close() // was only read
		return
	}
	h.place = f.idle.PushBack(h)
	for f.idle.Len() > MaxOpen {
		f.forget(f.idle.Front().Value.(*handle))
	}
}

// forget, with mu held, takes a handle out; its last user closes it.
func (f *Files) forget(h *handle) {
	delete(f.opened, h.path)
	h.gone = true
	if h.place != nil {
		f.idle.Remove(h.place)
		h.place = nil
		_ = h.file.Close() // was only read
	}
}

// drop closes the file at path, if it is open: it goes, or gets another content.
func (f *Files) drop(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.opened[path]; h != nil {
		f.forget(h)
	}
}

// Close closes every file that nobody reads.
func (f *Files) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.opened {
		f.forget(h)
	}
}
