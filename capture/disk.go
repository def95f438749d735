package capture

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// errDown: the checkpoint or the activity log failed earlier, which was told then.
var errDown = errors.New("the map on disk is given up until the next start")

// disk is one captured disk with its maps. Each role points to one of the bitmaps
// of the live file; a block that the other copy may lack is in one of the four.
type disk struct {
	m            *Machine
	index        int
	dev          block.Disk
	size, blocks int64
	live         *live
	keep         *keeper

	active  atomic.Pointer[bitmap] // where writes mark; changes only while the gate is closed
	frozen  *bitmap                // of the open cut; this and the next two are guarded by m.roles
	older   *bitmap                // of spooled cuts: generation A
	newer   *bitmap                // generation B
	suspect *bitmap

	flushed  atomic.Uint64         // every write of an epoch before this one is durable on the disk itself
	flushErr atomic.Pointer[error] // of the first flush that failed; sticky (I-10)
}

func (d *disk) name() string { return fmt.Sprintf("disk %d", d.index) }

func (d *disk) file(ext string) string {
	return filepath.Join(d.m.cfg.Dir, fmt.Sprintf("disk-%d.%s", d.index, ext))
}

// assign gives each role a bitmap of the live file.
func (d *disk) assign(l *live) {
	d.live = l
	d.active.Store(l.maps[0])
	d.frozen, d.older, d.newer, d.suspect = l.maps[1], l.maps[2], l.maps[3], l.maps[liveSuspect]
}

// changed are the bitmaps whose union is the changed map. The caller holds m.roles.
func (d *disk) changed() []*bitmap {
	return []*bitmap{d.active.Load(), d.frozen, d.older, d.newer}
}

// snapshot is a page of a whole map as of now.
func (d *disk) snapshot(kind int, p int64) *page {
	pg := new(page)
	if kind == suspectMap {
		d.suspect.orPage(p, pg)
		return pg
	}
	d.m.roles.RLock()
	defer d.m.roles.RUnlock()
	for _, b := range d.changed() {
		b.orPage(p, pg)
	}
	return pg
}

func (d *disk) hasPage(kind int, p int64) bool {
	if kind == suspectMap {
		return d.suspect.pages[p].Load() != nil
	}
	d.m.roles.RLock()
	defer d.m.roles.RUnlock()
	for _, b := range d.changed() {
		if b.pages[p].Load() != nil {
			return true
		}
	}
	return false
}

// flush flushes the medium and learns what is durable by it. Once failed it
// fails for ever, so no bit of this disk is cleared again in this run.
func (d *disk) flush() error {
	if err := d.flushErr.Load(); err != nil {
		return *err
	}
	epoch := d.m.epoch.Load() // read first: a cut during the flush is not covered
	if err := d.dev.Flush(); err != nil {
		return d.noFlush(err)
	}
	for {
		old := d.flushed.Load()
		if old >= epoch || d.flushed.CompareAndSwap(old, epoch) {
			return nil
		}
	}
}

func (d *disk) noFlush(err error) error {
	err = homeward.Wrap(err, "flush", d.name())
	if d.flushErr.CompareAndSwap(nil, &err) {
		d.m.cfg.Log.Error("flush failed: no block of this disk counts as applied until it is opened anew", "disk", d.index, "error", err)
	}
	return err
}

// distrust makes sure that the files of this disk are not believed at the next
// start after a power loss. One of three ways suffices.
func (d *disk) distrust(what string, cause error) {
	d.m.notes.add(d.index, fmt.Sprintf("%s: %v; after a power loss the whole disk would be suspect", what, cause))
	d.m.cfg.Log.Error(what+": the map of this disk would not survive a power loss", "disk", d.index, "error", cause)
	fsys := d.m.cfg.FS
	err := durable.WriteFile(fsys, d.file("untrusted"), []byte(fmt.Sprintf("%s: %v\n", what, cause)), 0o600)
	if err == nil {
		return
	}
	removed := errors.Join(durable.Remove(fsys, d.file("map")), durable.Remove(fsys, d.file("hot")))
	if removed == nil {
		return
	}
	if voided := d.voidStamp(); voided != nil {
		d.m.cfg.Log.Error("the damaged map cannot be made void: compare the disk after the next power loss",
			"disk", d.index, "error", errors.Join(err, removed, voided))
	}
}

func (d *disk) voidStamp() error { return durable.Remove(d.m.cfg.FS, d.m.stampPath()) }

// admit lets one write in: its blocks are marked, and their extents are in the
// durable log.
func (d *disk) admit(start, count int64) (ticket, error) {
	for {
		t, err := d.m.gate.enter(d, start, count)
		if err != nil || d.keep.ready(start, count) {
			return t, err
		}
		d.m.gate.leave(t) // nothing of it is submitted: no cut has to wait for the log
		d.keep.warm(start, count)
	}
}

// submit passes a write of n bytes at off through the gate.
func (d *disk) submit(off, n int64, do func() error) error {
	start, count := off/block.Size, (off+n-1)/block.Size-off/block.Size+1
	t, err := d.admit(start, count)
	if err != nil {
		return err
	}
	if t.cut != nil {
		t.cut.protect(d, start, count)
	}
	err = do()
	d.m.gate.leave(t)
	return err
}

func (d *disk) check(op string, off, n int64) error {
	if off >= 0 && n >= 0 && off <= d.size && n <= d.size-off {
		return nil
	}
	return homeward.Errorf(op, homeward.Invalid, d.name(), "stay within the disk",
		"%d bytes at %d are not within its %d bytes", n, off, d.size)
}

// maxSubmit bounds what passes the gate at once: a whole disk zeroed is many
// writes, none of which needs more than the activity log can hold.
const maxSubmit = 128 << 20

// export is a disk as the guest sees it.
type export struct{ d *disk }

var (
	_ block.Disk      = export{}
	_ block.Extenter  = export{}
	_ block.FUAWriter = export{}
)

func (e export) ReadAt(p []byte, off int64) (int, error) { return e.d.dev.ReadAt(p, off) }
func (e export) Size() int64                             { return e.d.size }
func (e export) Flush() error                            { return e.d.flush() }

// Close does nothing: the disk stays open for the engine.
func (e export) Close() error { return nil }

func (e export) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return block.Extents(e.d.dev, off, n)
}

func (e export) WriteAt(p []byte, off int64) (int, error) {
	return e.write(p, off, e.d.dev.WriteAt)
}

// WriteAtFUA falls back to a flush where the disk has no FUA.
func (e export) WriteAtFUA(p []byte, off int64) (int, error) {
	fua, ok := e.d.dev.(block.FUAWriter)
	if !ok {
		n, err := e.WriteAt(p, off)
		if err == nil {
			err = e.d.flush()
		}
		return n, err
	}
	if err := e.d.flushErr.Load(); err != nil {
		return 0, *err
	}
	return e.write(p, off, func(p []byte, off int64) (int, error) {
		n, err := fua.WriteAtFUA(p, off)
		if err != nil {
			err = e.d.noFlush(err)
		}
		return n, err
	})
}

func (e export) write(p []byte, off int64, do func(p []byte, off int64) (int, error)) (done int, err error) {
	if err := e.d.check("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	for done < len(p) && err == nil {
		part := p[done:min(len(p), done+maxSubmit)]
		at := off + int64(done)
		var n int
		err = e.d.submit(at, int64(len(part)), func() (err error) {
			n, err = do(part, at)
			return err
		})
		done += n
	}
	return done, err
}

func (e export) Zero(off, n int64, punch bool) error {
	if err := e.d.check("zero", off, n); err != nil {
		return err
	}
	for end := off + n; off < end; {
		part := min(maxSubmit, end-off)
		at := off
		if err := e.d.submit(at, part, func() error { return e.d.dev.Zero(at, part, punch) }); err != nil {
			return err
		}
		off += part
	}
	return nil
}
