package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// covered fails unless all runs of disk 0 are dirty or suspect.
func (r *rig) covered(when string, runs ...block.Run) {
	r.t.Helper()
	known := r.Dirty(0)
	known.Or(r.Suspect(0))
	for _, run := range runs {
		if known.CountRange(run.Start, run.Count) != run.Count {
			r.t.Errorf("%s: not all of %v is in a map", when, run)
		}
	}
}

// Each operation on each file fails, once or for ever, at any time: the guest goes
// on, and after a power loss nothing it wrote is missing from the maps (I-5).
func TestFaultsOfFiles(t *testing.T) {
	for _, op := range []string{powerloss.OpWrite, powerloss.OpSync, powerloss.OpOpen, powerloss.OpRename, powerloss.OpSyncDir, powerloss.OpAllocate} {
		for _, glob := range []string{"*.map*", "*.hot*", "stamp.json*", "*"} {
			for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
				for _, nth := range []int{0, 1, 2, 7} {
					t.Run(fmt.Sprintf("%s %s %v %d", op, strings.Trim(glob, "*"), cause, nth), func(t *testing.T) {
						faultOfFile(t, op, glob, cause, nth)
					})
				}
			}
		}
	}
}

func faultOfFile(t *testing.T, op, glob string, cause error, nth int) {
	rng := powerloss.Rand(t)
	r := newRig(t, powerDisk)
	r.kill()
	r.cfg.hotExtents = 4
	r.open()
	r.fill(0, 1, 1, 'a')
	r.fs.Fail(op, glob, nth, cause)
	var runs []block.Run
	for e := range int64(11) {
		r.fill(0, e*extentBlocks+5, 2, 'b')
		runs = append(runs, block.Run{Start: e*extentBlocks + 5, Count: 2})
	}
	c := r.cut(CutOptions{})
	if c.Map(0).Count() != 23 {
		t.Errorf("the live map has %d blocks", c.Map(0).Count())
	}
	r.must(c.Demote())
	hurt := len(r.Stats().Unprotected) > 0
	r.powerOff(rng)
	r.open()
	r.covered("after the power loss", append(runs, block.Run{Start: 1, Count: 1})...)
	if kind := r.Started().Kind; hurt != (kind == StartUnreadable) {
		t.Errorf("unprotected: %v, but started %+v", hurt, r.Started())
	}
}

// Files that cannot be made at the start: the guest runs, or Open says why not.
func TestFaultsAtStart(t *testing.T) {
	for _, op := range []string{powerloss.OpWrite, powerloss.OpSync, powerloss.OpRead, powerloss.OpOpen, powerloss.OpRename, powerloss.OpSyncDir, powerloss.OpAllocate} {
		for _, glob := range []string{"*.map*", "*.hot*", "stamp.json*", "*"} {
			t.Run(op+" "+strings.Trim(glob, "*"), func(t *testing.T) {
				rng := powerloss.Rand(t)
				r := newRig(t, powerDisk)
				r.fill(0, 1, 1, 'a')
				r.powerOff(rng)
				r.fs.Fail(op, glob, 0, syscall.ENOSPC)
				if err := r.tryOpen(); err != nil {
					if homeward.KindOf(err) != homeward.NoSpace || homeward.RemedyOf(err) == "" {
						t.Errorf("refused with %v", err)
					}
					r.fs.Heal()
					r.open()
				}
				r.covered("at once", block.Run{Start: 1, Count: 1})
				r.fill(0, 2*extentBlocks, 1, 'b')
				r.powerOff(rng)
				r.open()
				r.covered("after a power loss", block.Run{Start: 1, Count: 1}, block.Run{Start: 2 * extentBlocks, Count: 1})
			})
		}
	}
}

// A disk that fails a flush keeps its blocks dirty, however often it succeeds later.
func TestFailedFlush(t *testing.T) {
	rng := powerloss.Rand(t)
	r := newRig(t, 1<<20)
	r.fill(0, 3, 1, 'a')
	c := r.cut(CutOptions{})
	r.disks[0].Fail(powerloss.OpSync, 1, syscall.EIO)
	if err := c.Applied(); homeward.KindOf(err) != homeward.IO || homeward.RemedyOf(err) == "" {
		t.Errorf("applied on a disk that cannot flush: %v", err)
	}
	r.fill(0, 4, 1, 'a')
	c = r.cut(CutOptions{})
	wantRuns(t, "the next cut has only what is new", c.Map(0), block.Run{Start: 4, Count: 1})
	if err := c.Applied(); homeward.KindOf(err) != homeward.IO {
		t.Errorf("the next one: %v", err)
	}
	if err := r.Disk(0).Flush(); err == nil {
		t.Error("a flush succeeds after one that failed")
	}
	wantRuns(t, "dirty", r.Dirty(0), block.Run{Start: 3, Count: 2})
	if len(r.Stats().FlushFailed) != 1 {
		t.Errorf("stats: %+v", r.Stats())
	}
	if err := r.Close(context.Background()); err == nil {
		t.Error("closed cleanly though the disk cannot flush")
	}
	r.fs, r.disks[0] = r.fs.Crash(rng), r.disks[0].Crash(rng)
	r.reboot()
	r.open()
	r.covered("after the power loss", block.Run{Start: 3, Count: 2})
}

// A guest's flush spares the engine one.
func TestGuestFlushCounts(t *testing.T) {
	r := newRig(t, 1<<20)
	r.fill(0, 3, 1, 'a')
	c := r.cut(CutOptions{})
	r.must(r.Disk(0).Flush())
	r.disks[0].Fail(powerloss.OpSync, 0, syscall.EIO)
	r.must(c.Applied())
	r.fill(0, 3, 1, 'a')
	r.disks[0].Heal()
	r.must(r.Disk(0).Flush()) // of before the cut: it has the write, but not one that is late
	c = r.cut(CutOptions{})
	r.disks[0].Fail(powerloss.OpSync, 0, syscall.EIO)
	if c.Applied() == nil {
		t.Error("a flush of before the cut counts")
	}
}

// Errors of the disk reach the guest, and the cut goes when its content cannot be saved.
func TestErrorsOfTheDisk(t *testing.T) {
	r := newRig(t, 1<<20)
	r.fill(0, 3, 1, 'a')
	c := r.cut(CutOptions{})
	r.disks[0].Fail(powerloss.OpRead, 1, syscall.EIO)
	r.fill(0, 3, 1, 'b')
	<-c.Done()
	if err := c.Err(); !errors.Is(err, ErrDemoted) || !errors.Is(err, syscall.EIO) {
		t.Errorf("cut given up with %v", err)
	}
	r.disks[0].Fail(powerloss.OpWrite, 1, syscall.EIO)
	if n, err := r.Disk(0).WriteAt(pattern(2, 'c'), 5*block.Size); n != block.Size || !errors.Is(err, syscall.EIO) {
		t.Errorf("failed write: %d, %v", n, err)
	}
	wantRuns(t, "a failed write is dirty", r.Dirty(0), block.Run{Start: 3, Count: 1}, block.Run{Start: 5, Count: 2})
	for _, off := range []int64{-1, 1<<20 - 1} {
		if _, err := r.Disk(0).WriteAt([]byte("ab"), off); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("write at %d: %v", off, err)
		}
		if err := r.Disk(0).Zero(off, 2, false); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("zero at %d: %v", off, err)
		}
	}
}

// No room on the tmpfs: the map stays exact, and after a kill all is suspect.
func TestLiveMapFull(t *testing.T) {
	r := newRig(t, powerDisk)
	r.Machine.disks[0].live.reserve = func(int64) error { return syscall.ENOSPC }
	r.fill(0, 3, 1, 'a')
	r.fill(0, pageBlocks+3, 1, 'a')
	want := []block.Run{{Start: 3, Count: 1}, {Start: pageBlocks + 3, Count: 1}}
	wantRuns(t, "dirty", r.Dirty(0), want...)
	if len(r.Stats().Unprotected) != 1 {
		t.Errorf("stats: %+v", r.Stats())
	}
	r.kill()
	r.open()
	r.covered("after the kill", want...)
	if s := r.Started(); s.Kind != StartUnreadable {
		t.Errorf("started %+v", s)
	}
}

// One flipped bit in a file, after a power loss or a clean end: nothing goes missing.
func TestFlippedBits(t *testing.T) {
	rng := powerloss.Rand(t)
	for _, clean := range []bool{false, true} {
		base := newRig(t, powerDisk)
		base.kill()
		base.cfg.hotExtents = 4
		base.open()
		var runs []block.Run
		for e := range int64(11) {
			base.fill(0, e*extentBlocks+5, 2, 'b')
			runs = append(runs, block.Run{Start: e*extentBlocks + 5, Count: 2})
		}
		if clean {
			base.must(base.Close(context.Background()))
		} else {
			base.must(base.Disk(0).Flush())
			base.kill()
		}
		base.reboot()
		files := []string{"disk-0.map", "disk-0.hot", "stamp.json"}
		for range 120 {
			r := &rig{t: t, cfg: base.cfg, fs: base.fs.Crash(rng), disks: []*powerloss.Disk{base.disks[0].Crash(rng)}}
			file := files[rng.IntN(len(files))]
			flip(t, r.fs, filepath.Join("/state", file), rng)
			r.open()
			r.covered(fmt.Sprintf("flipped in %s, clean %v, started %+v", file, clean, r.Started()), runs...)
			r.kill()
			r.reboot()
		}
	}
}

// A file that is missing is no file that is empty.
func TestMissingFiles(t *testing.T) {
	for _, file := range []string{"disk-0.map", "disk-0.hot", "stamp.json"} {
		r := newRig(t, powerDisk)
		r.fill(0, 7, 1, 'a')
		r.kill()
		r.reboot()
		r.must(r.fs.Remove("/state/" + file))
		r.open()
		if s := r.Started(); s.Kind != StartUnreadable || len(s.Reasons) != 1 {
			t.Errorf("without %s: %+v", file, s)
		}
		r.covered("without "+file, block.Run{Start: 0, Count: powerDisk / block.Size})
		r.must(r.Close(context.Background()))
		r.open()
		if s := r.Started(); s.Kind != StartClean || len(r.Reasons(0)) != 1 {
			t.Errorf("reasons are forgotten with a clean end: %+v", s)
		}
		r.must(r.ClearSuspect(0, r.Suspect(0)))
		if len(r.Reasons(0)) != 0 || r.Suspect(0).Count() != 0 {
			t.Error("suspicion does not end")
		}
	}
}

func TestOtherDisks(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 1<<20+512)
	r.fill(0, 7, 1, 'a')
	r.must(r.AddSuspect(0, runMap(257, 20, 3), "somebody said so"))
	if err := r.Mark(0, block.NewMap(3)); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("a map of another disk: %v", err)
	}
	r.must(r.Mark(0, runMap(257, 40, 1)))
	other := r.cfg
	if _, err := Open(ctx, other); homeward.KindOf(err) != homeward.InUse {
		t.Errorf("a second engine: %v", err)
	}
	r.must(r.Close(ctx))
	small := r.disks[0]
	r.disks[0] = powerloss.NewDisk(1 << 20)
	if err := r.tryOpen(); homeward.KindOf(err) != homeward.Invalid || homeward.RemedyOf(err) == "" {
		t.Errorf("a shrunk disk: %v", err)
	}
	r.disks = []*powerloss.Disk{small, powerloss.NewDisk(1 << 20)}
	if err := r.tryOpen(); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("one disk more: %v", err)
	}
	grown := powerloss.NewDisk(4 << 20)
	if _, err := grown.WriteAt(pattern(1, 'a'), 7*block.Size); err != nil {
		t.Fatal(err)
	}
	r.disks = []*powerloss.Disk{grown}
	r.open()
	if s := r.Started(); s.Kind != StartClean || !slices.ContainsFunc(s.Reasons, func(s string) bool { return strings.Contains(s, "grew") }) {
		t.Errorf("a grown disk: %+v", s)
	}
	wantRuns(t, "grown", r.Dirty(0), block.Run{Start: 7, Count: 1}, block.Run{Start: 40, Count: 1}, block.Run{Start: 256, Count: 768})
	wantRuns(t, "suspect", r.Suspect(0), block.Run{Start: 20, Count: 3})
	r.must(r.Close(ctx))
	if _, err := grown.WriteAt([]byte("foreign"), 1024); err != nil {
		t.Fatal(err)
	}
	r.open()
	if s := r.Started(); s.Kind != StartUnreadable || r.Suspect(0).Count() != 1024 {
		t.Errorf("somebody wrote to the disk meanwhile: %+v", s)
	}
}

func runMap(blocks, start, count int64) *block.Map {
	m := block.NewMap(blocks)
	m.Set(start, count)
	return m
}

// What is marked without being written is as durable as what is written.
func TestMarksSurvivePowerLoss(t *testing.T) {
	rng := powerloss.Rand(t)
	for range 20 {
		r := newRig(t, powerDisk)
		blocks := int64(powerDisk / block.Size)
		marked, suspect := rng.Int64N(blocks-9), rng.Int64N(blocks-9)
		r.must(r.Mark(0, runMap(blocks, marked, 9)))
		r.must(r.AddSuspect(0, runMap(blocks, suspect, 9), "told so"))
		r.powerOff(rng)
		r.open()
		wantRuns(t, "marked", r.Dirty(0), block.Run{Start: marked, Count: 9})
		wantRuns(t, "suspect", r.Suspect(0), block.Run{Start: suspect, Count: 9})
	}
}

// Killed at any moment, with a cut in any state: every block is still in the map (I-1).
func TestKill(t *testing.T) {
	rng := powerloss.Rand(t)
	r := newRig(t, powerDisk)
	blocks := int64(powerDisk / block.Size)
	must := block.NewMap(blocks) // written since it was last applied
	for range 40 {
		var cuts []*Cut
		for range rng.IntN(5) {
			for range 20 {
				at := rng.Int64N(blocks)
				r.fill(0, at, 1, 'x')
				must.Set(at, 1)
			}
			c := r.cut(CutOptions{})
			if rng.IntN(3) == 0 {
				break
			}
			r.must(c.Spooled())
			cuts = append(cuts, c)
			if rng.IntN(3) == 0 {
				for _, c := range cuts {
					r.must(c.Applied())
				}
				cuts = nil
				must.Clear()
			}
		}
		r.kill()
		r.open()
		if s := r.Started(); s.Kind != StartSurvived {
			t.Fatalf("started %+v", s)
		}
		missing := must.Clone()
		missing.AndNot(r.Dirty(0))
		if missing.Count() > 0 || r.Suspect(0).Count() > 0 {
			t.Fatalf("%d blocks missing, %d suspect", missing.Count(), r.Suspect(0).Count())
		}
	}
}

// A live map that was cut off is not believed, and the files take its place.
func TestDamagedLiveMap(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"short":   func(path string) error { return os.Truncate(path, liveHeader+100) },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, powerDisk)
			r.fill(0, 7, 1, 'a')
			r.kill()
			r.must(damage(livePath(r.cfg.LiveDir, 0)))
			r.open()
			if s := r.Started(); s.Kind != StartReboot {
				t.Errorf("started %+v", s)
			}
			r.covered("without a live map", block.Run{Start: 7, Count: 1})
		})
	}
}

// A file that was made and cannot be opened, and a stamp that cannot be written:
// Open says so and leaves nothing behind.
func TestFaultsAtStart_madeNotOpened(t *testing.T) {
	for _, file := range []string{"disk-0.map", "disk-0.hot"} {
		t.Run(file, func(t *testing.T) {
			r := newRig(t, powerDisk)
			r.kill()
			r.fs = powerloss.New()
			r.fs.Fail(powerloss.OpOpen, file, 0, syscall.EIO)
			r.fs.Fail(powerloss.OpRename, "*stamp*", 2, syscall.EIO)
			if err := r.tryOpen(); homeward.KindOf(err) != homeward.IO {
				t.Errorf("opened: %v", err)
			}
			r.fs.Heal()
			r.open()
		})
	}
}
