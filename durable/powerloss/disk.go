package powerloss

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// Disk is a block.Disk in memory with a volatile cache. Safe for concurrent use.
type Disk struct {
	faults faults
	poison durable.Poison
	mu     sync.Mutex
	data   *content
	size   int64
	closed bool
}

var (
	_ block.Disk      = (*Disk)(nil)
	_ block.FUAWriter = (*Disk)(nil)
)

// NewDisk makes a disk that is durably zero; size is in bytes, a multiple of 512,
// else it panics.
func NewDisk(size int64) *Disk {
	if size <= 0 || size%512 != 0 {
		panic(fmt.Sprintf("powerloss: a disk of %d bytes", size))
	}
	d := &Disk{data: newContent(), size: size}
	d.data.size, d.data.sizes = size, []int64{size}
	return d
}

// Crash is the disk after a power loss now, without faults; d stays as it is.
func (d *Disk) Crash(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{data: d.data.crash(rng), size: d.size}
}

// Fail makes the nth call (1: the next, 0: every one) of OpRead, OpWrite, OpPunch
// or OpSync return err.
func (d *Disk) Fail(op string, nth int, err error) { d.faults.plan(op, "*", nth, err, nil) }

// Hang makes such a call wait until a channel is closed, and then go on.
func (d *Disk) Hang(op string, nth int, until <-chan struct{}) {
	d.faults.plan(op, "*", nth, nil, until)
}

// Heal takes back every Fail and Hang; a poisoned disk stays so until Reopen.
func (d *Disk) Heal() { d.faults.heal() }

// Reopen is the disk as another process finds it after this one died: the same
// cache, open and not poisoned. d must not be used any more.
func (d *Disk) Reopen() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return &Disk{data: d.data, size: d.size}
}

// onRange runs an action on a range of the disk, unless a fault strikes first; a
// write that is struck does half of its range.
func (d *Disk) onRange(op string, off, n int64, action func(n int64)) (int64, error) {
	fault := d.faults.strike(op, "disk")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, homeward.Errorf(op, homeward.Unavailable, "powerloss disk", "open it again", "the disk is closed")
	}
	if off < 0 || n < 0 || off > d.size || n > d.size-off {
		return 0, homeward.Errorf(op, homeward.Invalid, "powerloss disk", "stay within the disk",
			"%d bytes at %d are not within its %d bytes", n, off, d.size)
	}
	if fault != nil {
		n = n / 2
		if op == OpRead {
			n = 0
		}
	}
	action(n)
	return n, durable.SystemError(op, "powerloss disk", fault)
}

func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.onRange(OpRead, off, int64(len(p)), func(n int64) { d.data.read(p[:n], off) })
	return int(n), err
}

func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.onRange(OpWrite, off, int64(len(p)), func(n int64) { d.data.write(p[:n], off, n) })
	return int(n), err
}

// WriteAtFUA makes the pages it touches durable, what was in them before included.
func (d *Disk) WriteAtFUA(p []byte, off int64) (int, error) {
	n, err := d.WriteAt(p, off)
	if err == nil {
		err = d.sync(func() { d.data.syncRange(off, int64(n)) })
	}
	return n, err
}

func (d *Disk) Zero(off, n int64, _ bool) error {
	_, err := d.onRange(OpPunch, off, n, func(n int64) { d.data.write(nil, off, n) })
	return err
}

func (d *Disk) Flush() error { return d.sync(func() { d.data.sync() }) }

func (d *Disk) sync(settle func()) error {
	return d.poison.Sync("powerloss disk", func() error {
		fault := d.faults.strike(OpSync, "disk")
		d.mu.Lock()
		defer d.mu.Unlock()
		switch {
		case d.closed:
			return homeward.Errorf(OpSync, homeward.Unavailable, "powerloss disk", "open it again", "the disk is closed")
		case fault != nil:
			d.data.failSync()
			return fault
		}
		settle()
		return nil
	})
}

func (d *Disk) Size() int64 { return d.size }

func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}
