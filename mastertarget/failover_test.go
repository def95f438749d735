package mastertarget_test

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget"
)

func (r *rig) next() homeward.Generation {
	r.gen = homeward.Generation{Number: r.gen.Number + 1, ID: homeward.NewID()}
	return r.gen
}

func (r *rig) steps(n int) {
	r.t.Helper()
	for i := range n {
		kind := homeward.MarkCrash
		if i%3 == 2 {
			kind = homeward.MarkNone
		}
		if err := r.step(kind); err != nil {
			r.t.Fatal(err)
		}
	}
}

// promoted promotes to the end; it returns why the promotion stopped, if it did.
func (r *rig) promoted(g homeward.Generation) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		rep, err := r.target.Promote(ctx, homeward.GenerationRequest{Item: id, Generation: g})
		if err != nil {
			return err
		}
		if rep.State == homeward.ReplicaPromoted {
			return nil
		}
		if rep.Fault != "" {
			return errPower
		}
		<-tick.C
	}
}

// diverged holds the answer against the model: every block in which the point
// and the newest state differ must be in it (I-0).
func (r *rig) diverged(point, newest homeward.Position) {
	r.t.Helper()
	c := must(r.target.Diverged(ctx, homeward.ItemRequest{Item: id}))(r.t)
	for i, d := range c.Disks {
		m := must(block.UnmarshalMap(d.Changed, r.machine.Disks[i].Blocks()))(r.t)
		a, b := r.model[point][i], r.model[newest][i]
		for blk := range m.Blocks() {
			from, to := blk*block.Size, min((blk+1)*block.Size, int64(len(a)))
			if firstDifference(a[from:to], b[from:to]) >= 0 && !m.Has(blk) {
				r.t.Fatalf("disk %s block %d differs and is not in the diverged map", d.Disk, blk)
			}
		}
	}
}

func TestFailOver_ThereAndOn(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(9)
	newest := r.at
	points := r.points()
	// To an older point, then change to another one, then cancel, and on it goes.
	v := must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: points[1].Position}))(t)
	r.same(v, r.model[points[1].Position])
	r.diverged(points[1].Position, newest)
	g := boot(t, r.rng, r.model[points[1].Position])
	g.attach(r, v, true)
	if err := g.work(20); err != nil {
		t.Fatal(err)
	}
	r.check()
	v = must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: points[3].Position}))(t)
	r.same(v, r.model[points[3].Position])
	r.diverged(points[3].Position, newest)
	if body, _ := r.cut(homeward.MarkCrash, r.scribble()); body != nil {
		if err := r.step(homeward.MarkCrash); kindOf(err) != homeward.Conflict {
			t.Fatalf("a delta while failed over: %v", err)
		}
	}
	must(r.target.CancelFailOver(ctx, homeward.GenerationRequest{Item: id, Generation: r.next()}))(t)
	r.resume()
	if r.at != newest {
		t.Fatalf("after cancel it stands at %v", r.at)
	}
	r.steps(3)
	r.check()
	// Roll back, and go on from the base that both ends derive.
	before := r.at
	to := r.points()[2]
	must(r.target.RollBack(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: to.Position}))(t)
	r.diverged(to.Position, before)
	r.resume()
	if r.at != to.Position {
		t.Fatalf("rolled back to %v", r.at)
	}
	r.steps(3)
	r.check()
	r.crash(false)
	r.check()
	r.diverged(to.Position, before)
}

// One process goes there and back more than once.
func TestFailOver_PromotedTwice(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	for range 2 {
		r.steps(2)
		g := r.next()
		must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: g}))(t)
		if err := r.promoted(g); err != nil {
			t.Fatal(err)
		}
		req := r.request()
		req.Generation, req.Base = r.next(), r.at.Base(r.gen)
		must(r.target.Prepare(ctx, req))(t)
		r.model[req.Base] = r.source.clone()
		r.at = req.Base
	}
	r.check()
}

// Going back to a point that is older than the leg must not look, after a
// restart, like a Prepare that was cut off.
func TestFailOver_PointBeforeTheLeg(t *testing.T) {
	for name, back := range map[string]func(r *rig, to homeward.Position){
		"promoted": func(r *rig, to homeward.Position) {
			g := r.next()
			must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: g, Point: to}))(r.t)
			if err := r.promoted(g); err != nil {
				r.t.Fatal(err)
			}
		},
		"rolled back": func(r *rig, to homeward.Position) {
			must(r.target.RollBack(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: to}))(r.t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.open()
			r.prepare()
			r.steps(4)
			to := r.points()[1].Position
			req := r.request()
			req.Generation, req.Base = r.next(), r.at.Base(r.gen)
			must(r.target.Prepare(ctx, req))(t)
			r.model[req.Base], r.at = r.source.clone(), req.Base
			r.steps(3)
			back(r, to)
			before := r.report()
			r.crash(true)
			after := r.report()
			if after.State != before.State || after.Applied != to || after.Fault != "" {
				t.Fatalf("after a restart it is %s at %v: %s; it was %s, went back to %v",
					after.State, after.Applied, after.Fault, before.State, to)
			}
			if view := after.Views; len(view) > 0 { // the machine runs on
				if _, err := r.nbd.disk(t, view[0].Disks[0].URI).WriteAt([]byte("on"), 0); err != nil {
					t.Fatal(err)
				}
			}
			r.check()
		})
	}
}

// What only a digest tree holds is no recovery point.
func TestPoints_DigestMakesNone(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	if err := r.step(homeward.MarkNone); err != nil {
		t.Fatal(err)
	}
	must(r.target.Digest(ctx, homeward.DigestRequest{Item: id, Disk: r.machine.Disks[0].ID, Count: 1}))(t)
	if err := r.step(homeward.MarkCrash); err != nil {
		t.Fatal(err)
	}
	if list := r.points(); len(list) != 1 || list[0].Position != r.at {
		t.Fatalf("points %v, want the one that can boot", list)
	}
}

// The whole way of a copy that comes to run, with the power going at any
// operation: fail over to an older point, run, promote behind the machine, run
// on, prepare for a new leg, take deltas again.
func TestFailOver_PowerLossAtAnyOperation(t *testing.T) {
	total, rng := 1, powerloss.Rand(t)
	for last := 0; last < total; last += 1 + rng.IntN(14) { // another choice of operations in each run
		r := newRigWith(t, rng)
		r.open()
		r.prepare()
		r.steps(5)
		w := &journey{rig: r, newest: r.at, point: r.points()[1].Position}
		w.older = r.points()[0].Position
		w.guest = boot(t, r.rng, r.model[w.point])
		w.failOver, w.leg = r.next(), r.next()
		r.power.count(last)
		if w.travel() {
			if last > 0 {
				break
			}
			total = r.power.counted() // with power all the way
			continue
		}
		t.Logf("power gone at operation %d, kill %v", last, last%3 == 0)
		r.crash(last%3 == 0)
		w.arrive(last%3 == 0)
		if !w.travel() {
			t.Fatalf("power gone at operation %d: did not come through", last)
		}
		w.arrive(true)
		_ = r.target.Close(ctx)
		r.target = nil
	}
	if total < 50 {
		t.Fatalf("only %d operations were tried", total)
	}
	t.Logf("%d operations", total)
}

type journey struct {
	*rig
	guest         *guest
	failOver, leg homeward.Generation
	older, point  homeward.Position
	newest        homeward.Position
	base          homeward.Position
	attached      *mastertarget.Target
}

// travel does what is left of the journey; false: it broke off.
func (w *journey) travel() bool {
	if w.report().Generation.Number < w.leg.Number {
		if !w.runHere() {
			return false
		}
		w.base = w.point.Base(w.leg)
		w.model[w.base] = w.guest.content()
	}
	req := w.request()
	req.Generation, req.Base, req.Branch, req.Bootable = w.leg, w.base, "lost-writes", true
	if _, err := w.target.Prepare(ctx, req); err != nil {
		return false
	}
	w.gen = w.leg
	w.resume()
	for range 2 {
		if w.step(homeward.MarkCrash) != nil {
			return false
		}
	}
	return true
}

func (w *journey) runHere() bool {
	v, err := w.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: w.failOver, Point: w.point})
	if err != nil {
		return false
	}
	if w.attached != w.target {
		w.guest.attach(w.rig, v, true)
		w.attached = w.target
	}
	if w.guest.work(8) != nil {
		return false
	}
	if w.promoted(w.failOver) != nil {
		return false
	}
	return w.guest.work(8) == nil && w.guest.flush() == nil
}

// arrive looks around after a restart.
func (w *journey) arrive(exact bool) {
	w.t.Helper()
	rep := w.report()
	if rep.Fault != "" {
		w.t.Fatalf("fault: %s", rep.Fault)
	}
	if rep.Generation.Number < w.leg.Number && rep.State != homeward.ReplicaReplicating {
		w.diverged(w.point, w.newest)
		for _, v := range rep.Views {
			w.guest.attach(w.rig, v, exact)
			w.attached = w.target
		}
	}
	have := map[homeward.Position]bool{}
	for i, p := range w.points() {
		have[p.Position] = true
		w.checkPoint(string(rune('a'+i)), p.Position)
	}
	if !have[w.point] || !have[w.older] {
		w.t.Fatalf("a point up to the one that ran is gone (state %s)", rep.State)
	}
	w.check()
}
