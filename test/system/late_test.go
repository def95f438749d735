package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/stage"
)

// A machine runs on its raw disks while no agent looks. With a baseline from
// before, what it wrote is known to the block and nothing else travels; without
// one, everything is suspect, said so, and compared by digest.
func TestLateCapture(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(map[bool]string{false: "with baseline", true: "baseline lost"}[lost], func(t *testing.T) {
			t.Parallel()
			r := protected(t, stage.Options{})
			r.write(50)
			r.standStill()
			req := homeward.BaselineRequest{Machine: r.Machine(), Disks: r.Home.Side.Disks}
			base, err := r.Home.Side.Agent.Baseline(r.ctx, req)
			r.must(err)
			r.announces(100, "--gap", "1ms", "--churn", "2", "--disk", req.Disks[0], "--disk", req.Disks[1])
			if lost {
				r.must(os.RemoveAll(filepath.Join(r.Home.Agent.Dir(), "baselines")))
			}
			changed, err := r.Home.Side.Agent.ChangedSince(r.ctx, req)
			r.must(err)
			bytes, suspect, size := int64(0), int64(0), int64(0)
			for i, d := range changed.Disks {
				bytes, suspect, size = bytes+d.ChangedBytes, suspect+d.SuspectBytes, size+r.Machine().Disks[i].Size
				if lost && len(d.Reasons) == 0 {
					t.Errorf("disk %s is suspect for no reason", d.Disk)
				}
			}
			if lost && suspect != size || !lost && (suspect != 0 || bytes == 0 || bytes > size/8) {
				t.Fatalf("baseline %v: %d bytes changed, %d suspect of %d", base, bytes, suspect, size)
			}
			least, said := uint64(150), r.Said(r.ctx, r.Home)
			r.must(r.Item.Resume(r.ctx, changed))
			if found := r.hear(r.Home, said); found.Last < least {
				t.Errorf("%d records found, at least %d were announced", found.Last, least)
			}
			rep, err := r.Home.Side.Agent.Report(r.ctx, r.id())
			r.must(err)
			t.Logf("changed %d, suspect %d; sent %+v", bytes, suspect, rep.Sent)
			if rep.Sent.DirtyBytes > size/4 {
				t.Errorf("%d bytes travelled of a disk that hardly changed", rep.Sent.DirtyBytes)
			}
			r.prove()
		})
	}
}

// standStill ends the machine and its leg: the replica holds all it wrote.
func (r *rig) standStill() {
	r.t.Helper()
	r.powerOff(r.Home)
	_, err := r.Home.Side.Agent.Drain(r.ctx, homeward.DrainRequest{Item: r.Item.ID(), Stopped: true})
	r.must(err)
	over := homeward.GenerationRequest{Item: r.Item.ID(), Generation: r.Item.Generation.Next()}
	_, err = r.Home.Side.Agent.Handover(r.ctx, over)
	r.must(err)
	_, err = r.Home.Side.Agent.Release(r.ctx, over)
	r.must(err)
	r.Item.Next = over.Generation
}
