package system

import (
	"os"
	"testing"

	"github.com/homeward-dr/homeward/test/stage"
)

// The old side comes back from a power loss: its live map, in memory, is gone.
// What the checkpoint and the log of hot extents say is suspect is compared by
// digest, and only that.
func TestOldSideReturnsAfterPowerLoss(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{DiskSize: 512 << 20})
	r.write(200)
	r.replicated()
	r.must(r.Lose(r.ctx, r.Home))
	r.must(os.RemoveAll(r.Home.Live()))
	r.failOver(r.newestPoint)
	r.write(100)
	r.must(r.Item.Commit(r.ctx))
	r.must(r.Restore(r.ctx, r.Home))
	took := r.reprotect()
	t.Logf("estimate %d bytes (%s), full reads %d predicted, %d done; sent %+v",
		took.Estimate.Bytes, took.Estimate.Certainty, took.Estimate.FullReads, took.FullReads, took.Sent)
	suspect := false
	for _, f := range took.Estimate.Figures {
		suspect = suspect || f.Why != ""
		t.Logf("%s: %s: %d bytes, %s %s", f.Disk, f.Cause, f.Bytes, f.Certainty, f.Why)
	}
	if !suspect {
		t.Error("after a power loss nothing is suspect")
	}
	// What differs within a suspect range is read a second time, block by block: here
	// that is little beside the ranges, which are hot extents and not the whole disk.
	both, foreseen := 2*(int64(512<<20)+64<<20), took.Estimate.FullReads
	if foreseen > both/8*5 || took.FullReads > foreseen/8*9 {
		t.Errorf("%d bytes were read, %d foreseen, to compare disks of %d on both sides: more than the suspect ranges", took.FullReads, foreseen, both)
	}
	r.write(20)
	r.failBack(r.planned)
	r.must(r.Item.Commit(r.ctx))
	r.reprotect()
}
