package capture

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// rig is a machine under test on disks and files that can lose power.
type rig struct {
	*Machine
	t     *testing.T
	cfg   Config
	fs    *powerloss.FS
	disks []*powerloss.Disk
	boots int
}

const rigBlocks = 3*pageBlocks/2 + 7 // a page and a half of bitmap, and a partial block

func newRig(t *testing.T, sizes ...int64) *rig {
	t.Helper()
	live, err := os.MkdirTemp("/dev/shm", "homeward-capture-")
	if err != nil {
		t.Fatalf("the tests need a tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(live) })
	r := &rig{t: t, fs: powerloss.New()}
	r.cfg = Config{Dir: "/state", LiveDir: live, FS: r.fs, BootID: "boot 0", HoldDeadline: 50 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	for _, size := range sizes {
		r.disks = append(r.disks, powerloss.NewDisk(size))
	}
	r.open()
	t.Cleanup(func() {
		if r.Machine != nil && !r.closed.Load() {
			r.kill()
		}
	})
	return r
}

func (r *rig) open() {
	r.t.Helper()
	if err := r.tryOpen(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryOpen() (err error) {
	r.cfg.FS, r.cfg.Disks = r.fs, nil
	for _, d := range r.disks {
		r.cfg.Disks = append(r.cfg.Disks, d)
	}
	r.Machine, err = Open(context.Background(), r.cfg)
	return err
}

// kill ends the engine as kill -9 does: nothing is flushed, cut or written any more.
func (r *rig) kill() {
	m := r.Machine
	m.end(ErrClosed)
	close(m.stop)
	for _, d := range m.disks {
		d.keep.end()
	}
	m.work.Wait()
	if err := m.shut(false); err != nil {
		r.t.Error(err)
	}
	for i, d := range r.disks {
		r.disks[i] = d.Reopen()
	}
}

// powerOff is the state after a power loss now; the machine is killed.
func (r *rig) powerOff(rng *rand.Rand) {
	fs, disks := r.fs.Crash(rng), []*powerloss.Disk{}
	for _, d := range r.disks {
		disks = append(disks, d.Crash(rng))
	}
	r.kill()
	r.reboot()
	r.fs, r.disks = fs, disks
}

// reboot empties the tmpfs and begins another boot.
func (r *rig) reboot() {
	os.RemoveAll(r.cfg.LiveDir)
	r.boots++
	r.cfg.BootID = fmt.Sprintf("boot %d", r.boots)
}

func (r *rig) write(disk int, off int64, p []byte) {
	r.t.Helper()
	if _, err := r.Disk(disk).WriteAt(p, off); err != nil {
		r.t.Fatal(err)
	}
}

// fill writes count blocks of one byte.
func (r *rig) fill(disk int, start, count int64, with byte) {
	r.t.Helper()
	r.write(disk, start*block.Size, pattern(count, with))
}

func pattern(count int64, with byte) []byte {
	p := make([]byte, count*block.Size)
	for i := range p {
		p[i] = with
	}
	return p
}

func (r *rig) cut(o CutOptions) *Cut {
	r.t.Helper()
	c, err := r.Cut(context.Background(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// frozen reads one block of a cut.
func (r *rig) frozen(c *Cut, disk int, at int64) []byte {
	r.t.Helper()
	p := make([]byte, block.Size)
	r.must(c.ReadBlocks(disk, at, 1, p))
	return p
}

// wantRuns compares a map with runs written as text.
func wantRuns(t *testing.T, what string, m *block.Map, want ...block.Run) {
	t.Helper()
	w := block.NewMap(m.Blocks())
	for _, run := range want {
		w.Set(run.Start, run.Count)
	}
	if !m.Equal(w) {
		var got []block.Run
		for run := range m.Runs(0) {
			got = append(got, run)
		}
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// slowDisk stops a write amid a sector, on demand.
type slowDisk struct {
	block.Disk
	next    atomic.Pointer[chan struct{}] // where the next write waits
	waiting chan struct{}                 // one does
}

func (d *slowDisk) WriteAt(p []byte, off int64) (int, error) {
	if g := d.next.Swap(nil); g != nil {
		const part = 100
		if n, err := d.Disk.WriteAt(p[:part], off); err != nil {
			return n, err
		}
		d.waiting <- struct{}{}
		<-*g
		n, err := d.Disk.WriteAt(p[part:], off+part)
		return n + part, err
	}
	return d.Disk.WriteAt(p, off)
}

// block makes the next write stop until the returned function is called.
func (d *slowDisk) block() (release func()) {
	g := make(chan struct{})
	d.next.Store(&g)
	return func() { close(g) }
}
