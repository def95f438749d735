package overlay

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// maxPending bounds the runs that wait for a Flush; past it Put flushes itself.
const maxPending = 1 << 16

// Store holds some blocks of a disk. Memory: two bits per block that was ever put
// near another, untouched regions take none (at most 64 MiB per TiB of disk).
// Methods may be called concurrently; callers do not put overlapping blocks at
// the same time.
type Store struct {
	fsys  durable.FS
	path  string
	size  int64
	data  durable.File
	held  *block.Map // every block put, durable or not
	bytes atomic.Int64

	flushing sync.Mutex // one Flush at a time
	durable  *mapFile   // nil: a scratch store, which is gone after a crash
	live     *live      // nil: what was not flushed may be lost with the process

	mu      sync.Mutex
	pending []block.Run // put, and not yet in the map file
}

// Create makes an empty store, durably: path.data and path.map (Open adds
// path.live). What is there of that name is overwritten.
func Create(fsys durable.FS, path string, size int64) error {
	blocks := block.BlocksOf(size)
	if err := durable.Remove(fsys, path+".live"); err != nil {
		return homeward.Wrap(err, "create overlay", path)
	}
	for name, length := range map[string]int64{path + ".data": size, path + ".map": sectorsOf(blocks) * sectorSize} {
		f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return homeward.Wrap(err, "create overlay", path)
		}
		err = f.Truncate(length)
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return homeward.Wrap(err, "create overlay", path)
		}
	}
	return homeward.Wrap(fsys.SyncDir(filepath.Dir(path)), "create overlay", path)
}

// Open opens what Create made. boot names this boot of the kernel: then a write
// that was not flushed outlives the process, as long as the kernel does. Without
// it only flushed writes do.
//
// Corrupt: a map is damaged, or the files do not fit each other.
func Open(fsys durable.FS, path, boot string) (*Store, error) {
	s := &Store{fsys: fsys, path: path}
	var err error
	if s.data, err = fsys.OpenFile(path+".data", os.O_RDWR, 0); err != nil {
		return nil, homeward.Wrap(err, "open overlay", path)
	}
	info, err := s.data.Stat()
	if err == nil {
		s.size = info.Size()
		err = s.openMaps(boot)
	}
	if err != nil {
		return nil, errors.Join(homeward.Wrap(err, "open overlay", path), s.Close())
	}
	s.bytes.Store(s.held.Count() * block.Size)
	return s, nil
}

func (s *Store) openMaps(boot string) (err error) {
	if s.durable, err = openMap(s.fsys, s.path+".map", block.BlocksOf(s.size)); err != nil {
		return err
	}
	s.held = s.durable.bits.Clone()
	if boot == "" {
		return nil
	}
	if s.live, err = openLive(s.fsys, s.path+".live", boot, s.held); err != nil {
		return err
	}
	unflushed := s.held.Clone()
	unflushed.AndNot(s.durable.bits)
	for run := range unflushed.Runs(0) {
		s.pending = append(s.pending, run)
	}
	return nil
}

// Scratch makes a store that does not outlive the process: path.data only.
func Scratch(fsys durable.FS, path string, size int64) (*Store, error) {
	f, err := fsys.OpenFile(path+".data", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, homeward.Wrap(err, "create overlay", path)
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(homeward.Wrap(err, "create overlay", path), f.Close())
	}
	return &Store{fsys: fsys, path: path, size: size, data: f, held: block.NewMap(block.BlocksOf(size))}, nil
}

// Remove removes the files of a store, durably. Absent ones are fine.
func Remove(fsys durable.FS, path string) error {
	return errors.Join(durable.Remove(fsys, path+".live"), durable.Remove(fsys, path+".map"), durable.Remove(fsys, path+".data"))
}

// Size of the disk in bytes.
func (s *Store) Size() int64 { return s.size }

// Held is the map of blocks that are there. It must not be changed.
func (s *Store) Held() *block.Map { return s.held }

// Bytes is the content held.
func (s *Store) Bytes() int64 { return s.bytes.Load() }

// ReadAt reads bytes of blocks that are held.
func (s *Store) ReadAt(p []byte, off int64) error {
	n, err := s.data.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = homeward.Errorf("read overlay", homeward.Corrupt, s.path, "verify the item", "the file is shorter than the disk")
	}
	return err
}

// WriteAt writes bytes; every block they touch must be held already, or be
// written whole.
func (s *Store) WriteAt(p []byte, off int64) error {
	if _, err := s.data.WriteAt(p, off); err != nil {
		return err
	}
	return s.note(off, int64(len(p)))
}

// Zero makes bytes zero; with the same condition as WriteAt.
func (s *Store) Zero(off, n int64) error {
	if err := s.data.Punch(off, n); err != nil {
		return err
	}
	return s.note(off, n)
}

// note enters blocks whose data is written. The order matters: a block is in
// pending before it is held, so a second writer who finds it held and flushes
// makes it durable; and its data is in the file before either.
func (s *Store) note(off, n int64) error {
	start := off / block.Size
	count := (off+n+block.Size-1)/block.Size - start
	fresh := count - s.held.CountRange(start, count)
	if fresh == 0 {
		return nil
	}
	full := false
	if s.durable != nil {
		s.mu.Lock()
		s.pending = append(s.pending, block.Run{Start: start, Count: count})
		full = len(s.pending) >= maxPending
		s.mu.Unlock()
	}
	if s.live == nil {
		s.held.Set(start, count)
	} else if err := s.live.add(block.Run{Start: start, Count: count}); err != nil {
		return err
	}
	s.bytes.Add(fresh * block.Size)
	if full {
		return s.Flush()
	}
	return nil
}

// Flush makes every block whose write returned before durable: first the data,
// then the map. After a failure it fails for ever (I-10). Of a scratch store it
// does nothing.
func (s *Store) Flush() error {
	if s.durable == nil {
		return nil
	}
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	runs := s.pending
	s.pending = nil
	s.mu.Unlock()
	err := s.data.Sync()
	if err == nil && len(runs) > 0 {
		if err = s.durable.add(runs); err == nil {
			err = s.durable.file.Sync()
		}
	}
	if err != nil { // they are still not in the map file
		s.mu.Lock()
		s.pending = append(s.pending, runs...)
		s.mu.Unlock()
	}
	return homeward.Wrap(err, "flush overlay", s.path)
}

// ReadBlocks calls fn for the blocks held of a range, ascending; data is valid
// during the call.
func (s *Store) ReadBlocks(start, count int64, fn func(start int64, data []byte) error) error {
	const step = 64
	var buf []byte
	for b, end := start, min(start+count, s.held.Blocks()); b < end; {
		if !s.held.Has(b) {
			b++
			continue
		}
		n := int64(1)
		for n < step && b+n < end && s.held.Has(b+n) {
			n++
		}
		if buf == nil {
			buf = make([]byte, min(step, count)*block.Size)
		}
		p := buf[:min(n*block.Size, s.size-b*block.Size)]
		if err := s.ReadAt(p, b*block.Size); err != nil {
			return err
		}
		if err := fn(b, p); err != nil {
			return err
		}
		b += n
	}
	return nil
}

// Close closes the files and does not flush.
func (s *Store) Close() error {
	err := s.data.Close()
	if s.durable != nil {
		err = errors.Join(err, s.durable.file.Close())
	}
	if s.live != nil {
		err = errors.Join(err, s.live.m.file.Close())
	}
	return err
}

// Drop closes and removes a store that is not needed any more.
func (s *Store) Drop() error { return errors.Join(s.Close(), Remove(s.fsys, s.path)) }

// Path is what the store was made with.
func (s *Store) Path() string { return s.path }

// Verify reads the map file again and checks it; Corrupt if it is damaged.
func (s *Store) Verify() error {
	if s.durable == nil {
		return nil
	}
	s.flushing.Lock()
	defer s.flushing.Unlock()
	again := &mapFile{file: s.durable.file, bits: block.NewMap(s.held.Blocks())}
	return again.load()
}
