package capture

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// writersUntil runs guests that write until they are refused, and returns what was
// acknowledged to them.
func writersUntil(r *rig, refused error) (wait func() *block.Map) {
	acked := block.NewMap(powerDisk / block.Size)
	var guests sync.WaitGroup
	for g := range int64(4) {
		guests.Go(func() {
			for at := g; ; at += 4 {
				b := at * 1009 % acked.Blocks()
				_, err := r.Disk(0).WriteAt(pattern(1, 'x'), b*block.Size)
				if errors.Is(err, refused) {
					return
				}
				if err != nil {
					r.t.Errorf("write: %v", err)
					return
				}
				acked.Set(b, 1)
			}
		})
	}
	return func() *block.Map {
		guests.Wait()
		return acked
	}
}

// Handover amid writes: what was acknowledged is in the final map, which a power
// loss does not change, and the disk holds it (I-11).
func TestHandoverAmidWrites(t *testing.T) {
	rng := powerloss.Rand(t)
	for range 5 {
		r := newRig(t, powerDisk)
		r.kill()
		r.cfg.hotExtents = 4
		r.open()
		wait := writersUntil(r, ErrHandedOver)
		for range 1 + rng.IntN(3) {
			c := r.cut(CutOptions{})
			r.must(c.Spooled()) // unapplied for ever
		}
		r.must(r.Handover(context.Background()))
		final := r.Dirty(0)
		missing := wait().Clone()
		missing.AndNot(final)
		if missing.Count() > 0 {
			t.Fatalf("%d acknowledged blocks are not in the final map", missing.Count())
		}
		r.powerOff(rng)
		r.open()
		if !r.Dirty(0).Equal(final) || r.Suspect(0).Count() > 0 {
			t.Fatalf("the final map changed: %d blocks, %d before, started %+v", r.Dirty(0).Count(), final.Count(), r.Started())
		}
		got := make([]byte, block.Size)
		for run := range wait().Runs(0) {
			if _, err := r.Disk(0).ReadAt(got, run.Start*block.Size); err != nil || got[0] != 'x' {
				t.Fatalf("acknowledged block %d is lost: %v", run.Start, err)
			}
		}
		if c, err := r.Cut(context.Background(), CutOptions{}); !errors.Is(err, ErrHandedOver) {
			t.Fatalf("cut after handover: %v, %v", c, err)
		}
		if err := r.Mark(0, final); !errors.Is(err, ErrHandedOver) {
			t.Fatalf("mark after handover: %v", err)
		}
	}
}

func TestCloseAmidWrites(t *testing.T) {
	rng := powerloss.Rand(t)
	r := newRig(t, powerDisk)
	for range 5 {
		wait := writersUntil(r, ErrClosed)
		c := r.cut(CutOptions{})
		if rng.IntN(2) == 0 {
			r.must(c.Spooled())
		}
		r.must(r.Close(context.Background()))
		r.must(r.Close(context.Background()))
		acked := wait()
		if r.Dirty(0).Count() != acked.Blocks() || r.Suspect(0).Count() != acked.Blocks() {
			t.Error("a closed engine claims to know")
		}
		if err := r.Handover(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("handover after close: %v", err)
		}
		r.fs = r.fs.Crash(rng)
		r.disks[0] = r.disks[0].Crash(rng)
		r.reboot()
		r.open()
		if s := r.Started(); s.Kind != StartClean {
			t.Fatalf("started %+v", s)
		}
		acked.AndNot(r.Dirty(0))
		if acked.Count() > 0 {
			t.Fatalf("%d acknowledged blocks are in no map", acked.Count())
		}
	}
}

// A write that never ends does not let the handover lie: it fails, writes stay
// refused, and it succeeds later.
func TestHandoverWaitsForWrites(t *testing.T) {
	lateWrite(t, func(r *rig, c *Cut, release func()) {
		r.must(c.Demote())
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error)
		go func() { result <- r.Handover(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-result; homeward.KindOf(err) != homeward.Timeout {
			t.Errorf("handover with a write in flight: %v", err)
		}
		if _, err := r.Disk(0).WriteAt([]byte("x"), 0); !errors.Is(err, ErrHandedOver) {
			t.Errorf("write after a handover that failed: %v", err)
		}
		release()
		r.must(r.Handover(context.Background()))
	})
}

// A disk that cannot flush at the handover is wholly suspect, and the handover goes on.
func TestHandoverOfFailingDisk(t *testing.T) {
	r := newRig(t, 1<<20)
	r.fill(0, 3, 1, 'a')
	r.disks[0].Fail(powerloss.OpSync, 0, syscall.EIO)
	r.must(r.Handover(context.Background()))
	if r.Suspect(0).Count() != 256 || len(r.Reasons(0)) != 1 {
		t.Errorf("%d blocks suspect, because %v", r.Suspect(0).Count(), r.Reasons(0))
	}
}

// What is no longer suspect was compared on the medium, not in a cache (I-4).
func TestClearSuspectFlushes(t *testing.T) {
	r := newRig(t, 1<<20)
	r.must(r.AddSuspect(0, runMap(256, 3, 2), "told so"))
	r.disks[0].Fail(powerloss.OpSync, 1, syscall.EIO)
	if err := r.ClearSuspect(0, runMap(256, 3, 2)); homeward.KindOf(err) != homeward.IO {
		t.Errorf("cleared on a disk that cannot flush: %v", err)
	}
	wantRuns(t, "suspect", r.Suspect(0), block.Run{Start: 3, Count: 2})
}
