package mastertarget_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget"
)

// Any file or disk may fail at any call: the delta is refused or applied, every
// point stays what it was, and the item works again once the medium does.
func TestFaults_OfEveryFile(t *testing.T) {
	rng := powerloss.Rand(t)
	for _, f := range []struct{ op, glob string }{
		{powerloss.OpWrite, "*.undo.tmp"}, {powerloss.OpSync, "*.undo.tmp"}, {powerloss.OpRename, "*.undo.tmp"},
		{powerloss.OpSyncDir, "undo"}, {powerloss.OpWrite, "position"}, {powerloss.OpSync, "position"},
		{powerloss.OpWrite, "disk"}, {powerloss.OpSync, "disk"}, {powerloss.OpRead, "disk"},
	} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprintf("%s %s %v", f.op, f.glob, cause), func(t *testing.T) {
				r := newRigWith(t, rng)
				r.open()
				r.prepare()
				r.steps(4)
				if f.glob == "disk" {
					r.disks["data"].Fail(f.op, 1, cause)
				} else {
					r.fs.Fail(f.op, f.glob, 1, cause)
				}
				r.scribble()
				fill(r.rng, r.source[1][:40960])
				maps := r.scribble()
				maps[1].Set(0, maps[1].Blocks())
				maps[0].Set(0, maps[0].Blocks())
				body, to := r.cut(homeward.MarkCrash, maps)
				err := r.put(body, to)
				r.check() // whatever became of the delta
				if err == nil {
					return // tried again by itself, or the call did not happen
				}
				rep := r.report()
				if rep.Fault == "" || rep.Remedy == "" {
					t.Fatalf("refused with %v, and the report shows fault %q, remedy %q", err, rep.Fault, rep.Remedy)
				}
				r.fs.Heal()
				for _, d := range r.disks {
					d.Heal()
				}
				if err := r.put(body, to); err != nil { // stopped: prepare it again, as the remedy says
					req := r.request()
					req.Base = homeward.Position{}.Base(r.gen)
					must(r.target.Prepare(ctx, req))(t)
					r.check()
					if err := r.put(body, to); err != nil {
						t.Fatal(err)
					}
				}
				if rep := r.report(); rep.Fault != "" {
					t.Fatalf("still at fault: %s", rep.Fault)
				}
				r.check()
			})
		}
	}
}

// When room runs out: points go first, then scratch views, then deltas wait;
// what is held stays.
func TestSpace_Rules(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(6)
	held := r.points()[1]
	must(r.target.Pin(ctx, homeward.PinRequest{Item: id, Point: held.Position, Name: "hold:court"}))(t)
	scratch := must(r.target.OpenView(ctx, homeward.ViewRequest{Item: id, Name: "drill", Kind: homeward.ViewScratch}))(t)
	m := boot(t, r.rng, r.model[scratch.Point.Position])
	m.attach(r, scratch, true)
	if err := m.work(10); err != nil {
		t.Fatal(err)
	}
	r.free = 1000
	body, to := r.cut(homeward.MarkCrash, r.scribble())
	err := r.put(body, to)
	if kindOf(err) != homeward.NoSpace {
		t.Fatalf("a full volume: %v", err)
	}
	rep := r.report()
	if rep.Fault == "" || len(rep.Views) != 0 {
		t.Fatalf("fault %q, views %v", rep.Fault, rep.Views)
	}
	if got := r.points(); got[0].Position != held.Position {
		t.Fatalf("the oldest point is %v, %v is held", got[0].Position, held.Position)
	}
	r.check()
	r.free = 1 << 40
	if err := r.put(body, to); err != nil {
		t.Fatal(err)
	}
	r.check()
}

// A pinned point does not keep those behind it from going.
func TestSpace_PrunesBehindAPin(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	rewrite := func() error {
		var maps []*block.Map
		for _, disk := range r.source {
			m := block.NewMap(block.BlocksOf(int64(len(disk))))
			m.Set(10, 40)
			fill(r.rng, disk[10*block.Size:50*block.Size])
			maps = append(maps, m)
		}
		body, to := r.cut(homeward.MarkCrash, maps)
		return r.put(body, to)
	}
	for range 12 {
		if err := rewrite(); err != nil {
			t.Fatal(err)
		}
	}
	before := r.points()
	held := []homeward.Position{before[0].Position, before[5].Position}
	for _, p := range held {
		must(r.target.Pin(ctx, homeward.PinRequest{Item: id, Point: p, Name: "hold:court"}))(t)
	}
	r.free = 65<<20 + 1000 // the reserve and one segment's slack
	if err := rewrite(); err != nil {
		t.Fatalf("nothing was pruned behind the pin: %v", err)
	}
	after := r.points()
	if len(after) > len(before) || after[0].Position != held[0] { // and there is a new one
		t.Fatalf("%d points of %d are left, the oldest %v", len(after), len(before), after[0].Position)
	}
	for _, p := range held {
		r.checkPoint("held"+p.Cut.String()[:4], p)
	}
	r.check()
}

func TestVerify_NamesWhatIsDamaged(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(6)
	list, err := r.fs.ReadDir("/vol/web01/undo")
	if err != nil {
		t.Fatal(err)
	}
	name := "/vol/web01/undo/" + list[len(list)/2].Name()
	f, err := r.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	b := make([]byte, 1)
	_, _ = f.ReadAt(b, info.Size()/2)
	b[0] ^= 4
	_, _ = f.WriteAt(b, info.Size()/2)
	_ = f.Close()
	v := must(r.target.Verify(ctx, homeward.ItemRequest{Item: id}))(t)
	if len(v.Faults) != 1 || !strings.Contains(v.Faults[0], name) || !strings.Contains(v.Faults[0], "it costs points up to") {
		t.Fatalf("faults %q", v.Faults)
	}
}

// With nothing else alive: list, verify, boot.
func TestOffline_Recover(t *testing.T) {
	r := newRig(t)
	if _, err := mastertarget.OpenOffline(ctx, r.config()); kindOf(err) != homeward.NotFound {
		t.Fatalf("a directory that is not there: %v", err)
	}
	if _, err := r.config().FS.Stat("/vol"); kindOf(err) != homeward.NotFound {
		t.Fatalf("it was made: %v", err)
	}
	r.open()
	r.prepare()
	r.steps(6)
	if _, err := mastertarget.OpenOffline(ctx, r.lockedConfig()); kindOf(err) != homeward.InUse {
		t.Fatalf("a second master target: %v", err)
	}
	_ = r.target.Close(ctx)
	r.nbd = newExporter()
	target := must(mastertarget.OpenOffline(ctx, r.config()))(t)
	r.target = target
	if ids := target.Items(); len(ids) != 1 || ids[0] != id {
		t.Fatalf("items %v", ids)
	}
	r.check()
	p := r.points()[1]
	v := must(mastertarget.Recover(ctx, target, id, p.Position))(t)
	r.same(v, r.model[p.Position])
	if v.Generation.Number != 2 {
		t.Fatalf("recovered under generation %d", v.Generation.Number)
	}
	m := boot(t, r.rng, r.model[p.Position])
	m.attach(r, v, true)
	if err := m.work(5); err != nil {
		t.Fatal(err)
	}
	m.attach(r, must(mastertarget.Recover(ctx, target, id, homeward.Position{}))(t), true)
	// The agent of before comes back: it is fenced.
	body, _ := r.cut(homeward.MarkCrash, r.scribble())
	if _, err := target.Put(ctx, id, bytes.NewReader(body)); kindOf(err) != homeward.Fenced {
		t.Fatalf("an old agent: %v", err)
	}
}

// A view that was given out by hand is known as such, whoever made it, also after a
// crash and once it is the replica; a failover by the vault is not.
func TestRecover_IsRemembered(t *testing.T) {
	for _, served := range []bool{false, true} {
		r := newRig(t)
		r.open()
		r.prepare()
		r.steps(4)
		byHand := func(want bool) {
			t.Helper()
			views := r.report().Views
			if len(views) != 1 || views[0].ByHand != want {
				t.Fatalf("served before: %t; views %+v, by hand: %t", served, views, want)
			}
		}
		if served {
			must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next()}))(t)
			byHand(false)
		}
		v := must(mastertarget.Recover(ctx, r.target, id, homeward.Position{}))(t)
		if !v.ByHand {
			t.Fatalf("the view says nothing: %+v", v)
		}
		byHand(true)
		r.crash(false)
		byHand(true)
		g := r.report().Generation
		must(r.target.Promote(ctx, homeward.GenerationRequest{Item: id, Generation: g}))(t)
		byHand(true)
	}
}

func TestForget_LeavesDisksAndFence(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(4)
	old := r.gen
	must(r.target.Forget(ctx, homeward.GenerationRequest{Item: id, Generation: r.next()}))(t)
	must(r.target.Forget(ctx, homeward.GenerationRequest{Item: id, Generation: r.gen}))(t)
	if len(r.target.Items()) != 0 {
		t.Fatal("still listed")
	}
	for i, d := range r.machine.Disks {
		if b := firstDifference(readAll(t, r.disks[string(d.ID)].Reopen()), r.source[i]); b >= 0 {
			t.Fatalf("disk %s changed at block %d", d.ID, b)
		}
		r.disks[string(d.ID)] = r.disks[string(d.ID)].Reopen()
	}
	r.crash(false)
	req := r.request()
	req.Generation = old
	if _, err := r.target.Prepare(ctx, req); kindOf(err) != homeward.Fenced {
		t.Fatalf("prepare under an old generation: %v", err)
	}
	r.next()
	req = r.request()
	req.Base, req.Bootable, req.Branch = homeward.Position{}.Base(r.gen), true, "lost-writes"
	must(r.target.Prepare(ctx, req))(t)
	r.at = req.Base
	r.model[r.at] = r.source.clone()
	r.steps(3)
	if p := r.points()[0]; len(p.Pins) != 1 || p.Pins[0] != "branch:lost-writes" {
		t.Fatalf("the base is pinned by %v", p.Pins)
	}
	r.check()
}

// A roll-back whose power goes comes to its end at the next start.
func TestRollBack_PowerLoss(t *testing.T) {
	rng := powerloss.Rand(t)
	for last := 1; last < 60; last += 1 + rng.IntN(5) {
		r := newRigWith(t, rng)
		r.open()
		r.prepare()
		r.steps(7)
		before, to := r.at, r.points()[2]
		req := homeward.FailOverRequest{Item: id, Generation: r.next(), Point: to.Position}
		r.power.count(last)
		_, _ = r.target.RollBack(ctx, req)
		r.crash(last%3 == 0)
		r.check()
		must(r.target.RollBack(ctx, req))(t)
		r.diverged(to.Position, before)
		r.resume()
		if r.at != to.Position {
			t.Fatalf("power gone at operation %d: stands at %v", last, r.at)
		}
		r.steps(2)
		r.check()
		_ = r.target.Close(ctx)
		r.target = nil
	}
}
