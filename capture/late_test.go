package capture

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"github.com/homeward-dr/homeward/block"
)

// lateWrite runs do with a cut that did not wait for a write of 'b' over block 7,
// where 'a' was, and that is stopped amid a sector until release is called.
func lateWrite(t *testing.T, do func(r *rig, c *Cut, release func())) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.kill()
		slow := &slowDisk{Disk: r.disks[0], waiting: make(chan struct{})}
		r.cfg.Disks = []block.Disk{slow}
		var err error
		r.Machine, err = Open(context.Background(), r.cfg)
		r.must(err)
		r.fill(0, 7, 1, 'a')
		r.fill(0, 9, 1, 'a')
		release := slow.block()
		guest := make(chan struct{})
		go func() {
			defer close(guest)
			if _, err := r.Disk(0).WriteAt(pattern(1, 'b'), 7*block.Size); err != nil {
				t.Error(err)
			}
		}()
		<-slow.waiting
		c := r.cut(CutOptions{}) // held until its deadline
		if c.Late != 1 {
			t.Errorf("%d late writes, want 1", c.Late)
		}
		do(r, c, func() { release(); <-guest })
		r.must(r.Close(context.Background()))
	})
}

// A write that the cut did not wait for counts in both epochs (I-1), and frozen
// readers of its blocks, and of no others, wait for it (I-2).
func TestReaderWaitsForLateWrite(t *testing.T) {
	lateWrite(t, func(r *rig, c *Cut, release func()) {
		wantRuns(t, "frozen", c.Map(0), block.Run{Start: 7, Count: 1}, block.Run{Start: 9, Count: 1})
		if got := r.frozen(c, 0, 9); got[0] != 'a' {
			t.Errorf("another block reads %q", got[0])
		}
		var got []byte
		read := make(chan struct{})
		go func() {
			defer close(read)
			got = r.frozen(c, 0, 7)
		}()
		synctest.Wait()
		release()
		<-read
		if !bytes.Equal(got, pattern(1, 'b')) {
			t.Errorf("a block was read amid a write: %q", got[90:110])
		}
		r.must(c.Applied())
		wantRuns(t, "the late write is dirty in the new epoch", r.Dirty(0), block.Run{Start: 7, Count: 1})
	})
}

// So does a write of the next epoch before it saves the block.
func TestWriterWaitsForLateWrite(t *testing.T) {
	lateWrite(t, func(r *rig, c *Cut, release func()) {
		over := make(chan struct{})
		go func() {
			defer close(over)
			r.fill(0, 7, 1, 'c')
		}()
		synctest.Wait()
		release()
		<-over
		if got := r.frozen(c, 0, 7); !bytes.Equal(got, pattern(1, 'b')) {
			t.Errorf("a block was saved amid a write: %q", got[90:110])
		}
	})
}

// Giving the cut up ends all waiting for it.
func TestDemotionEndsWaiting(t *testing.T) {
	lateWrite(t, func(r *rig, c *Cut, release func()) {
		read := make(chan error)
		go func() { read <- c.ReadBlocks(0, 7, 1, make([]byte, block.Size)) }()
		synctest.Wait()
		r.must(c.Demote())
		if err := <-read; err == nil {
			t.Error("read a block of a cut that was given up")
		}
		release()
		wantRuns(t, "dirty", r.Dirty(0), block.Run{Start: 7, Count: 1}, block.Run{Start: 9, Count: 1})
	})
}
