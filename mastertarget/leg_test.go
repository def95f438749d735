package mastertarget_test

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// promotedRig is one on whose replica a machine runs.
func promotedRig(t *testing.T) (*rig, *guest, homeward.Point) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(6)
	p := r.points()[2]
	v := must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: p.Position}))(t)
	m := boot(t, r.rng, r.model[p.Position])
	m.attach(r, v, true)
	if err := m.write(); err != nil {
		t.Fatal(err)
	}
	if err := r.promoted(r.gen); err != nil {
		t.Fatal(err)
	}
	return r, m, p
}

// When what a running machine overwrites finds no room, older points go and the
// machine runs on; when one of them is held, its write fails instead.
func TestPromoted_NoRoomForThePast(t *testing.T) {
	for _, held := range []bool{false, true} {
		r, m, p := promotedRig(t)
		if held {
			must(r.target.Pin(ctx, homeward.PinRequest{Item: id, Point: p.Position, Name: "hold:court"}))(t)
		}
		r.fs.Fail(powerloss.OpWrite, "*.data", 0, syscall.ENOSPC)
		var err error
		for range 60 { // until a region comes that was not kept before
			if err = m.write(); err != nil {
				break
			}
		}
		r.fs.Heal()
		if held {
			if kindOf(err) != homeward.NoSpace {
				t.Fatalf("a write that would have cost a held point: %v", err)
			}
			r.checkPoint("held", p.Position)
			continue
		}
		if err != nil {
			t.Fatalf("the machine was stopped: %v", err)
		}
		rep := r.report()
		if rep.Points != 0 || len(rep.Alarms) != 1 || rep.Alarms[0].Code != "points-given-up" {
			t.Fatalf("%d points, alarms %v", rep.Points, rep.Alarms)
		}
		m.attach(r, rep.Views[0], true)
		r.crash(true)
		m.attach(r, r.report().Views[0], true)
		// A new leg begins with what the machine left.
		r.at = p.Position.Base(r.next())
		req := r.request()
		req.Bootable = true
		must(r.target.Prepare(ctx, req))(t)
		r.source = m.content()
		r.model[r.at] = r.source.clone()
		r.steps(3)
		r.check()
	}
}

// The branch that Prepare pinned by itself does not stop the machine, and a new leg
// begins without it.
func TestPromoted_BranchGivesWay(t *testing.T) {
	r := newRig(t)
	r.open()
	r.at = homeward.Position{}.Base(r.gen)
	req := r.request()
	req.Branch, req.Bootable = "lost-writes", true
	must(r.target.Prepare(ctx, req))(t)
	r.model[r.at] = r.source.clone()
	r.steps(4)
	v := must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next()}))(t)
	if err := r.promoted(r.gen); err != nil {
		t.Fatal(err)
	}
	r.free = 100 << 20
	if rep := r.report(); len(rep.Alarms) != 1 || rep.Alarms[0].Code != "volume-low" {
		t.Fatalf("before the volume is full: %v", rep.Alarms)
	}
	r.fs.Fail(powerloss.OpWrite, "/vol/web01/past/*", 0, syscall.ENOSPC)
	data := readAll(t, r.nbd.disk(t, v.Disks[1].URI))
	copy(data[100*block.Size:], "a row of the bank's")
	if _, err := r.nbd.disk(t, v.Disks[1].URI).WriteAt(data[100*block.Size:101*block.Size], 100*block.Size); err != nil {
		t.Fatalf("the machine's write: %v", err)
	}
	r.fs.Heal()
	r.free = 1 << 40
	r.source = content{readAll(t, r.nbd.disk(t, v.Disks[0].URI)), data}
	r.at = v.Point.Position.Base(r.next())
	req = r.request()
	req.Bootable = true
	must(r.target.Prepare(ctx, req))(t)
	r.model[r.at] = r.source.clone()
	r.steps(3)
	for _, p := range r.points() {
		if len(p.Pins) > 0 {
			t.Fatalf("%v is pinned by %q", p.Position, p.Pins)
		}
	}
	r.check()
}

// A disk that grows needs a new leg; older points keep their size.
func TestPrepare_GrownDisk(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(4)
	old := r.points()[1]
	grown := r.machine
	grown.Disks = append([]homeward.Disk{}, r.machine.Disks...)
	grown.Disks[0].Size += 10*block.Size + 1024
	was := r.machine
	r.machine = grown
	body, _ := r.cut(homeward.MarkCrash, []*block.Map{block.NewMap(71), block.NewMap(300)})
	if _, err := r.target.Put(ctx, id, bytes.NewReader(body)); kindOf(err) != homeward.Invalid {
		t.Fatalf("a delta of a grown disk: %v", err)
	}
	bigger := powerloss.NewDisk(grown.Disks[0].Size)
	must(bigger.WriteAt(r.source[0], 0))(t)
	must(0, bigger.Flush())(t)
	r.disks["root"] = bigger
	r.source[0] = append(r.source[0], make([]byte, grown.Disks[0].Size-was.Disks[0].Size)...)
	r.at = r.at.Base(r.next())
	must(r.target.Prepare(ctx, r.request()))(t)
	r.model[r.at] = r.source.clone()
	r.steps(4)
	r.checkPoint("old", old.Position)
	r.check()
	r.crash(false)
	r.check()
	shrunk := r.request()
	shrunk.Machine, shrunk.Generation = was, r.next()
	if _, err := r.target.Prepare(ctx, shrunk); kindOf(err) != homeward.Conflict {
		t.Fatalf("a shrunk disk: %v", err)
	}
}

func TestPrepare_Refusals(t *testing.T) {
	r := newRig(t)
	r.open()
	bad := r.request()
	bad.Disks[1] = "mem:nowhere"
	if _, err := r.target.Prepare(ctx, bad); kindOf(err) != homeward.NotFound {
		t.Fatalf("a missing image: %v", err)
	}
	if n := len(r.target.Items()); n != 0 {
		t.Fatalf("a refused request left %d items", n)
	}
	small := r.request()
	small.Machine.Disks = []homeward.Disk{{ID: "root", Size: 4096}, r.machine.Disks[1]}
	if _, err := r.target.Prepare(ctx, small); kindOf(err) != homeward.Invalid {
		t.Fatalf("a wrong size: %v", err)
	}
	r.prepare()
	r.steps(3)
	again := r.request()
	again.Base = homeward.Position{Sequence: 77}
	if _, err := r.target.Prepare(ctx, again); kindOf(err) != homeward.Conflict {
		t.Fatalf("another base under the same generation: %v", err)
	}
	p := r.points()[0]
	must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: p.Position}))(t)
	next := r.request()
	next.Generation = r.next()
	if _, err := r.target.Prepare(ctx, next); kindOf(err) != homeward.Conflict {
		t.Fatalf("a new leg under a machine that runs on a view: %v", err)
	}
	r.check()
}
