package overlay

import (
	"iter"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Disk is a writable block.Disk over a base that is only read. All methods may
// be called concurrently.
type Disk struct {
	base  block.Disk
	store *Store
	latch Latch // a write holds its blocks

	// mode is held shared by every request and alone by Pause.
	mode   sync.RWMutex
	direct block.Disk // requests go here once it is set

	mu       sync.Mutex
	mirror   block.Disk // gets what is written to blocks below covered too
	covered  int64
	mirrored error // why the mirror was given up
}

// NewDisk lays store over base; sizes must agree. The Disk owns neither.
func NewDisk(base block.Disk, store *Store) *Disk { return &Disk{base: base, store: store} }

// Size in bytes.
func (d *Disk) Size() int64 { return d.base.Size() }

// Close does nothing: base and store belong to whoever made them.
func (d *Disk) Close() error { return nil }

// Store is what it writes to.
func (d *Disk) Store() *Store { return d.store }

func (d *Disk) check(op string, off, n int64) error {
	if off >= 0 && n >= 0 && off <= d.Size() && n <= d.Size()-off {
		return nil
	}
	return homeward.Errorf(op, homeward.Invalid, "overlay disk", "stay within the disk",
		"%d bytes at %d are not within its %d bytes", n, off, d.Size())
}

// ReadAt reads from the store what is there and from the base what is not.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mode.RLock()
	defer d.mode.RUnlock()
	if d.direct != nil {
		return d.direct.ReadAt(p, off)
	}
	if err := d.check("read", off, int64(len(p))); err != nil {
		return 0, err
	}
	if err := d.read(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d *Disk) read(p []byte, off int64) error {
	for at, held := range d.natures(off, int64(len(p))) {
		part := p[at.Off-off : at.Off-off+at.Len]
		var err error
		if held {
			err = d.store.ReadAt(part, at.Off)
		} else {
			_, err = d.base.ReadAt(part, at.Off)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// natures splits a range of bytes by whether the store holds its blocks.
func (d *Disk) natures(off, n int64) iter.Seq2[block.Extent, bool] {
	return func(yield func(block.Extent, bool) bool) {
		held := d.store.Held()
		for end := off + n; off < end; {
			b := off / block.Size
			has := held.Has(b)
			for b++; b*block.Size < end && held.Has(b) == has; b++ {
			}
			to := min(b*block.Size, end)
			if !yield(block.Extent{Off: off, Len: to - off}, has) {
				return
			}
			off = to
		}
	}
}

// Extents calls what the store holds data, and asks the base for the rest.
func (d *Disk) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		d.mode.RLock()
		defer d.mode.RUnlock()
		if d.direct != nil {
			block.Extents(d.direct, off, n)(yield)
			return
		}
		if err := d.check("list extents", off, n); err != nil {
			yield(block.Extent{}, err)
			return
		}
		for at, held := range d.natures(off, n) {
			if held {
				if !yield(at, nil) {
					return
				}
				continue
			}
			for e, err := range block.Extents(d.base, at.Off, at.Len) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// WriteAt writes to the store.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.mode.RLock()
	defer d.mode.RUnlock()
	if d.direct != nil {
		return d.direct.WriteAt(p, off)
	}
	err := d.change("write", off, int64(len(p)), func() error {
		return d.store.WriteAt(p, off)
	}, func(mirror block.Disk, n int64) error {
		_, err := mirror.WriteAt(p[:n], off)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Zero makes a range zero in the store.
func (d *Disk) Zero(off, n int64, punch bool) error {
	d.mode.RLock()
	defer d.mode.RUnlock()
	if d.direct != nil {
		return d.direct.Zero(off, n, punch)
	}
	return d.change("zero", off, n, func() error {
		return d.store.Zero(off, n)
	}, func(mirror block.Disk, n int64) error {
		return mirror.Zero(off, n, punch)
	})
}

// change does a write with its blocks latched. The blocks at its edges that it
// covers in part and that the store has not are copied up before.
func (d *Disk) change(op string, off, n int64, do func() error, again func(mirror block.Disk, n int64) error) error {
	if err := d.check(op, off, n); err != nil || n == 0 {
		return err
	}
	first, last := off/block.Size, (off+n-1)/block.Size
	run := block.Run{Start: first, Count: last - first + 1}
	d.latch.Lock(run)
	defer d.latch.Unlock(run)
	if off%block.Size != 0 {
		if err := d.copyUp(first); err != nil {
			return err
		}
	}
	if end := off + n; end%block.Size != 0 && end != d.Size() {
		if err := d.copyUp(last); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	d.repeat(min(n, d.below()*block.Size-off), again)
	return nil
}

// copyUp brings a block of the base into the store.
func (d *Disk) copyUp(b int64) error {
	if d.store.Held().Has(b) {
		return nil
	}
	var buf [block.Size]byte
	p := buf[:min(block.Size, d.Size()-b*block.Size)]
	if _, err := d.base.ReadAt(p, b*block.Size); err != nil {
		return err
	}
	return d.store.WriteAt(p, b*block.Size)
}

// Flush makes durable every write that returned before.
func (d *Disk) Flush() error {
	d.mode.RLock()
	defer d.mode.RUnlock()
	if d.direct != nil {
		return d.direct.Flush()
	}
	return d.store.Flush()
}
