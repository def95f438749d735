package powerloss

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/homeward-dr/homeward/durable"
)

// FS is a durable.FS in memory. Safe for concurrent use. Paths are absolute or
// relative to the root alike.
type FS struct {
	faults faults
	mu     sync.Mutex
	root   *node
	life   int // of the process that uses it: files opened in an earlier one are dead
}

var _ durable.FS = (*FS)(nil)

// node is a file or a directory.
type node struct {
	perm    fs.FileMode
	changed time.Time
	data    *content         // of a file
	entries map[string]*node // of a directory, as seen
	synced  map[string]*node // of a directory, as durable
	pending []dirOp          // of a directory, since its last sync
	locked  int              // the life in which somebody has the lock
}

// dirOp is one change of a directory, done by the medium as a whole or not at all.
type dirOp struct {
	name string
	to   *node  // nil: removed
	from string // of a rename within the directory
}

// New makes an empty file system: one root directory.
func New() *FS { return &FS{root: newDir(0o755), life: 1} }

func newDir(perm fs.FileMode) *node {
	return &node{perm: perm | fs.ModeDir, changed: time.Now(), entries: map[string]*node{}, synced: map[string]*node{}}
}

func sortedKeys[K ~string | ~int64, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// Fail makes the nth call (1: the next, 0: every one) of an operation, on paths
// that match glob (whole, or by the last element), return err: say syscall.EIO or
// syscall.ENOSPC. See the Op constants.
func (f *FS) Fail(op, glob string, nth int, err error) { f.faults.plan(op, glob, nth, err, nil) }

// Hang makes such a call wait until a channel is closed, and then go on.
func (f *FS) Hang(op, glob string, nth int, until <-chan struct{}) {
	f.faults.plan(op, glob, nth, nil, until)
}

// Heal takes back every Fail and Hang. Calls that hang already go on hanging.
func (f *FS) Heal() { f.faults.heal() }

// Crash is the file system after a power loss now: without locks, open files and
// faults. f stays as it is.
func (f *FS) Crash(rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &FS{root: f.root.crash(rng, map[*node]*node{}), life: 1}
}

// Kill is the death of the process alone: what it wrote stays, also unsynced, its
// open files fail from now on, and its locks are free.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life++
}

// crash copies a node; seen keeps two names of one file one file.
func (n *node) crash(rng *rand.Rand, seen map[*node]*node) *node {
	if after := seen[n]; after != nil {
		return after
	}
	after := &node{perm: n.perm, changed: n.changed}
	seen[n] = after
	if n.data != nil {
		after.data = n.data.crash(rng)
		return after
	}
	after.entries, after.synced = map[string]*node{}, map[string]*node{}
	left := maps.Clone(n.synced)
	for _, op := range n.pending {
		if rng.IntN(2) == 0 {
			op.apply(left)
		}
	}
	for _, name := range sortedKeys(left) {
		child := left[name].crash(rng, seen)
		after.entries[name], after.synced[name] = child, child
	}
	return after
}

func (op dirOp) apply(entries map[string]*node) {
	if op.to == nil {
		delete(entries, op.name)
		return
	}
	if op.from != "" {
		delete(entries, op.from)
	}
	entries[op.name] = op.to
}

// change does op in memory and remembers it until the directory is synced.
func (n *node) change(op dirOp) {
	op.apply(n.entries)
	n.pending = append(n.pending, op)
}

func clean(path string) string { return filepath.Clean("/" + path) }

// find is the node at a path.
func (f *FS) find(path string) (*node, error) {
	n := f.root
	for _, name := range strings.Split(clean(path)[1:], "/") {
		if name == "" {
			continue
		}
		if n.entries == nil {
			return nil, syscall.ENOTDIR
		}
		if n = n.entries[name]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// parent is the directory that has, or would have, a path, and the last name.
func (f *FS) parent(path string) (*node, string, error) {
	path = clean(path)
	if path == "/" {
		return nil, "", syscall.EINVAL
	}
	dir, err := f.find(filepath.Dir(path))
	if err == nil && dir.entries == nil {
		err = syscall.ENOTDIR
	}
	return dir, filepath.Base(path), err
}

// unlessFaulty runs an operation on the tree, unless a fault strikes first.
func (f *FS) unlessFaulty(op, path string, action func() error) error {
	err := f.faults.strike(op, path)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		err = action()
	}
	return durable.SystemError(op, path, err)
}

// Rename replaces new; a crash may undo it as a whole until SyncDir of new's
// directory. Between directories, each side is decided for itself.
func (f *FS) Rename(old, new string) error {
	return f.unlessFaulty(OpRename, old, func() error {
		from, oldName, err := f.parent(old)
		if err != nil {
			return err
		}
		to, newName, err := f.parent(new)
		if err != nil {
			return err
		}
		moved, there := from.entries[oldName], to.entries[newName]
		switch {
		case moved == nil:
			return fs.ErrNotExist
		case moved == there:
			return nil
		case there != nil && (there.data == nil) != (moved.data == nil):
			return syscall.EISDIR
		case there != nil && len(there.entries) > 0:
			return syscall.ENOTEMPTY
		case from == to:
			to.change(dirOp{name: newName, to: moved, from: oldName})
		default:
			to.change(dirOp{name: newName, to: moved})
			from.change(dirOp{name: oldName})
		}
		return nil
	})
}

// Remove takes a name away; open files stay readable.
func (f *FS) Remove(name string) error {
	return f.unlessFaulty(OpRemove, name, func() error {
		dir, last, err := f.parent(name)
		if err != nil {
			return err
		}
		n := dir.entries[last]
		if n == nil {
			return fs.ErrNotExist
		}
		if len(n.entries) > 0 {
			return syscall.ENOTEMPTY
		}
		dir.change(dirOp{name: last})
		return nil
	})
}

// MkdirAll makes directories durably, as the contract of durable.FS has it.
func (f *FS) MkdirAll(path string, perm fs.FileMode) error {
	return f.unlessFaulty(OpMkdir, path, func() error {
		n := f.root
		for _, name := range strings.Split(clean(path)[1:], "/") {
			if name == "" {
				continue
			}
			child := n.entries[name]
			if child == nil {
				child = newDir(perm)
				n.change(dirOp{name: name, to: child})
				n.settle()
			}
			if child.entries == nil {
				return syscall.ENOTDIR
			}
			n = child
		}
		return nil
	})
}

func (n *node) settle() {
	n.synced, n.pending = maps.Clone(n.entries), nil
}

// ReadDir lists a directory.
func (f *FS) ReadDir(path string) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	err := f.unlessFaulty(OpReadDir, path, func() error {
		dir, err := f.find(path)
		if err != nil {
			return err
		}
		if dir.entries == nil {
			return syscall.ENOTDIR
		}
		for _, name := range sortedKeys(dir.entries) {
			list = append(list, fs.FileInfoToDirEntry(dir.entries[name].info(name)))
		}
		return nil
	})
	return list, err
}

// Stat describes a file.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	var found info
	err := f.unlessFaulty(OpStat, name, func() error {
		n, err := f.find(name)
		if err == nil {
			found = n.info(filepath.Base(clean(name)))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// SyncDir makes the names in a directory durable. A fault leaves them undecided.
func (f *FS) SyncDir(path string) error {
	return f.unlessFaulty(OpSyncDir, path, func() error {
		dir, err := f.find(path)
		if err != nil {
			return err
		}
		if dir.entries == nil {
			return syscall.ENOTDIR
		}
		dir.settle()
		return nil
	})
}

// info is the fs.FileInfo of a node at one instant.
type info struct {
	name    string
	size    int64
	mode    fs.FileMode
	changed time.Time
}

func (n *node) info(name string) info {
	i := info{name: name, mode: n.perm, changed: n.changed}
	if n.data != nil {
		i.size = n.data.size
	}
	return i
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.changed }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
