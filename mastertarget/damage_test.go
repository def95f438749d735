package mastertarget_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/homeward-dr/homeward"
)

// flip damages one byte of a file.
func (r *rig) flip(path string, at int64) {
	r.t.Helper()
	f := must(r.fs.OpenFile(path, os.O_RDWR, 0))(r.t)
	b := make([]byte, 1)
	must(f.ReadAt(b, at))(r.t)
	b[0] ^= 0xff
	must(f.WriteAt(b, at))(r.t)
	must(0, f.Close())(r.t)
}

// segments are the files of the chain, oldest first.
func (r *rig) segments() (list []string) {
	r.t.Helper()
	for _, e := range must(r.fs.ReadDir("/vol/web01/undo"))(r.t) {
		if strings.HasSuffix(e.Name(), ".undo") {
			list = append(list, "/vol/web01/undo/"+e.Name())
		}
	}
	return list
}

// damagedRig is one that is failed over to its second point, and whose history
// between that point and the newest state is found damaged at a restart.
func damagedRig(t *testing.T) (r *rig, points []homeward.Point) {
	r = newRig(t)
	r.open()
	r.prepare()
	r.steps(9)
	points = r.points()
	must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: points[1].Position}))(t)
	must(0, r.target.Close(ctx))(t)
	files := r.segments()
	r.flip(files[len(files)-3], 3)
	r.open()
	if rep := r.report(); rep.State != homeward.ReplicaFailedOver || rep.Fault == "" || rep.Remedy == "" {
		t.Fatalf("%s, fault %q, remedy %q", rep.State, rep.Fault, rep.Remedy)
	}
	return r, points
}

// What the chain cannot tell any more is suspect, all of it; and nothing that
// rests on it is begun.
func TestFailedOver_DamagedHistory(t *testing.T) {
	r, _ := damagedRig(t)
	c := must(r.target.Diverged(ctx, homeward.ItemRequest{Item: id}))(t)
	for i, d := range c.Disks {
		if d.SuspectBytes != r.machine.Disks[i].Size || len(d.Reasons) == 0 {
			t.Errorf("disk %s: %d bytes suspect of %d, because %q", d.Disk, d.SuspectBytes, r.machine.Disks[i].Size, d.Reasons)
		}
	}
	for range 2 {
		if _, err := r.target.Promote(ctx, homeward.GenerationRequest{Item: id, Generation: r.gen}); kindOf(err) != homeward.Corrupt {
			t.Fatalf("promoting what is not served: %v", err)
		}
	}
	r.crash(true)
	if rep := r.report(); rep.State != homeward.ReplicaFailedOver {
		t.Fatalf("after a refused promotion it is %s", rep.State)
	}
}

// A newer point can be run instead, or none.
func TestFailedOver_DamagedHistoryWaysOut(t *testing.T) {
	r, points := damagedRig(t)
	newer := points[len(points)-1]
	v := must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: newer.Position}))(t)
	r.same(v, r.model[newer.Position])
	if err := r.promoted(r.gen); err != nil {
		t.Fatal(err)
	}
	r.same(r.report().Views[0], r.model[newer.Position])

	r, _ = damagedRig(t)
	must(r.target.CancelFailOver(ctx, homeward.GenerationRequest{Item: id, Generation: r.next()}))(t)
	if rep := r.report(); rep.State != homeward.ReplicaReplicating || rep.Fault != "" {
		t.Fatalf("cancelled, it is %s, fault %q", rep.State, rep.Fault)
	}
	r.resume()
	r.steps(3)
	for i, p := range r.points() {
		r.checkPoint("check"+string(rune('a'+i)), p.Position)
	}
}

// A roll-back that was cut off is not finished over history that was damaged since.
func TestRollBack_DamagedHistory(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(9)
	to := r.points()[1]
	r.disks["data"].Fail("write", 1, os.ErrInvalid)
	req := homeward.FailOverRequest{Item: id, Generation: r.next(), Point: to.Position}
	if _, err := r.target.RollBack(ctx, req); err == nil {
		t.Fatal("the disk that failed was not written")
	}
	r.disks["data"].Heal()
	_ = r.target.Close(ctx)
	files := r.segments()
	r.flip(files[len(files)-3], 3)
	r.open()
	if rep := r.report(); !strings.Contains(rep.Fault, "no chain of segments leads to") {
		t.Fatalf("fault %q", rep.Fault)
	}
	if _, err := r.target.RollBack(ctx, req); kindOf(err) != homeward.Corrupt {
		t.Fatalf("going on with the roll-back: %v", err)
	}
}

// A manifest larger than any before needs a larger position record. When there is
// no room for one the item stops, and goes on once there is.
func TestPosition_NoRoomToGrow(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(3)
	r.machine.NVRAM = make([]byte, 100<<10)
	body, to := r.cut(homeward.MarkCrash, r.scribble())
	r.fs.Fail("write", "position.tmp", 1, syscall.ENOSPC)
	if err := r.put(body, to); kindOf(err) != homeward.NoSpace {
		t.Fatalf("no room for the position record: %v", err)
	}
	if rep := r.report(); rep.Fault == "" || rep.Remedy == "" {
		t.Fatalf("fault %q, remedy %q", rep.Fault, rep.Remedy)
	}
	r.check()
	req := r.request()
	req.Base = homeward.Position{}.Base(r.gen)
	must(r.target.Prepare(ctx, req))(t)
	if err := r.put(body, to); err != nil {
		t.Fatal(err)
	}
	r.check()
	r.crash(false)
	r.check()
}
