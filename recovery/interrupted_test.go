package recovery_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// synchronizing is an item amid its way back: the machine runs at the other side, and
// the first one follows, but for a point. It answers the branch there.
func synchronizing(t *testing.T) (*world.World, *recovery.Item, homeward.Point, context.Context) {
	t.Helper()
	w, it, ctx := committed(t)
	_, err := it.Reverse(ctx)
	must(t, err)
	return w, it, branchOf(ctx, t, it.Standby, it.ID()), ctx
}

// branchOf is the newest branch at a side.
func branchOf(ctx context.Context, t *testing.T, side *recovery.Side, item homeward.ItemID) (branch homeward.Point) {
	t.Helper()
	list, err := side.Target.Points(ctx, homeward.ItemRequest{Item: item})
	must(t, err)
	for _, p := range list.Points {
		if slices.Contains(p.Pins, "branch:"+recovery.BranchName) {
			branch = p
		}
	}
	if branch.Position.IsZero() || !branch.Mark.Kind.Bootable() || branch.At.IsZero() {
		t.Fatalf("no bootable branch at %s: %+v", side.Name, list.Points)
	}
	return branch
}

// ran writes for a while where the machine runs now.
func ran(ctx context.Context, t *testing.T, w *world.World, side *recovery.Side, item homeward.ItemID) {
	t.Helper()
	g := w.Site(side).Hyper.Guest(item)
	for from := g.Done(); g.Done() < from+20; {
		must(t, w.Tick(ctx))
	}
}

// beganAt checks that the machine began with the content of a point, and that this is
// what the side's own machine had left there.
func beganAt(ctx context.Context, t *testing.T, w *world.World, it *recovery.Item, at homeward.Position) {
	t.Helper()
	contents, err := w.ReadPoint(ctx, it.Standby, it.ID(), at)
	must(t, err)
	if world.Hash(contents) != w.Began(it.ID(), it.Generation) {
		t.Fatal("the machine began with something else than the point")
	}
}

// The running side is lost amid the reverse synchronization. The standby side boots at
// its own last state, whoever dies on the way; that can be changed, cancelled, and
// committed, and then it goes there again with what differs only.
func TestInterrupted_ControllersDie(t *testing.T) {
	w, it, branch, ctx := synchronizing(t)
	lost, left := it.Running, it.Standby
	ran(ctx, t, w, lost, it.ID())
	c := begin(t, it)
	for kind, err := range map[homeward.Kind]error{
		homeward.Conflict: it.FailOver(ctx, homeward.Position{}), // the newest, which none is
		homeward.NotFound: it.FailOver(ctx, homeward.Position{Sequence: 7}),
	} {
		if homeward.KindOf(err) != kind || it.State != recovery.Synchronizing || it.List.Op != "reprotect" {
			t.Fatalf("%s: %v; the item is %s, in %q", kind, err, it.State, it.List.Op)
		}
	}
	failOver := func(it *recovery.Item) error { return it.FailOver(ctx, branch.Position) }
	it = c.run("fail over", failOver)
	beganAt(ctx, t, w, it, branch.Position)
	must(t, w.Site(left).Hyper.Guest(it.ID()).Err())

	c.run("change point", func(it *recovery.Item) error { return it.ChangePoint(ctx, branch.Position) })
	it = c.run("cancel failover", func(it *recovery.Item) error { return it.Cancel(ctx) })
	if it.State != recovery.Synchronizing || it.List.Op != "reprotect" || it.Interrupted != nil {
		t.Fatalf("cancelled, the item is %s, in %q", it.State, it.List.Op)
	}
	it = c.run("reprotect", func(it *recovery.Item) error { _, err := it.AwaitReverse(ctx); return err })
	replicates(ctx, t, w, it)
	if p := it.Took.Branch.Position; p != branch.Position || it.Took.Sent.PlainBytes < 0 {
		t.Fatalf("the branch is %v now, it was %v; sent %+v", p, branch.Position, it.Took.Sent)
	}
}

// After it was committed, the lost side comes back: its machine is off, its content is
// a branch, and what differs travels; nothing else.
func TestInterrupted_TheOtherWayRound(t *testing.T) {
	w, it, branch, ctx := synchronizing(t)
	lost := it.Running
	ran(ctx, t, w, lost, it.ID())
	must(t, it.FailOver(ctx, branch.Position))
	ran(ctx, t, w, it.Standby, it.ID())
	must(t, it.Commit(ctx))
	expected, err := it.Estimate(ctx)
	must(t, err)
	if expected.FullReads != 0 || expected.Certainty != homeward.Exact {
		t.Fatalf("all maps are known: %+v", expected)
	}
	rev, err := it.Reprotect(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
	if it.Standby != lost || it.Interrupted != nil || rev.Estimate.FullReads != 0 {
		t.Fatalf("it stands by at %s: %+v", it.Standby.Name, rev)
	}
	contents, err := w.ReadPoint(ctx, lost, it.ID(), rev.Branch.Position)
	must(t, err)
	must(t, w.Site(lost).Hyper.CheckEnd(it.ID(), contents))
	m, err := lost.Site.Machine(ctx, it.Refs[lost.Name])
	must(t, err)
	if m.Power != homeward.PowerOff {
		t.Fatalf("the machine at %s is %s", lost.Name, m.Power)
	}
	must(t, it.FailOverPlanned(ctx, homeward.Position{}))
}

// What the synchronization was to compare, and had not, is compared by the next one: no
// map has it (I-0).
func TestInterrupted_SuspectsStay(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		w, it, ctx := committed(t)
		req := homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation}
		must(t, stop(ctx, it.Standby, it)) // what it wrote at the end no map has, from here on
		_, err := it.Standby.Agent.Handover(ctx, req)
		must(t, err)
		_, err = it.Standby.Agent.Release(ctx, req)
		must(t, err)
		_, err = it.Reverse(ctx)
		must(t, err)
		if it.List.Predicted.FullReads == 0 {
			t.Fatalf("nothing is suspect: %+v", it.List.Predicted)
		}
		must(t, it.FailOver(ctx, branchOf(ctx, t, it.Standby, it.ID()).Position))
		if cancel {
			must(t, it.Cancel(ctx))
			r, err := it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
			must(t, err)
			if r.Complete {
				t.Fatal("the map is called whole before it was compared")
			}
			rev, err := it.AwaitReverse(ctx)
			must(t, err)
			if rev.FullReads == 0 {
				t.Fatalf("nothing was compared: %+v", rev)
			}
		} else {
			must(t, it.Commit(ctx))
			rev, err := it.Reprotect(ctx)
			must(t, err)
			if rev.Estimate.FullReads == 0 || rev.FullReads == 0 {
				t.Fatalf("nothing was compared: %+v", rev)
			}
		}
		replicates(ctx, t, w, it)
	}
}

// stop ends the machine at a side.
func stop(ctx context.Context, side *recovery.Side, it *recovery.Item) error {
	_, err := side.Site.PowerOff(ctx, "stop", it.Refs[side.Name], homeward.Stop{})
	return err
}

// The source is asked to stop, and for nothing else; one that cannot be asked is left.
func TestInterrupted_TakesLeave(t *testing.T) {
	for _, away := range []bool{false, true} {
		w, it, branch, ctx := synchronizing(t)
		agent, site := it.Running.Agent, it.Running.Site
		if away {
			it.Running.Agent, it.Running.Site = awayAgent{agent}, deafSite{site}
		}
		got, err := it.FailOverWith(ctx, recovery.FailOverRequest{Point: branch.Position, Shutdown: true, Within: 20 * time.Second})
		must(t, err)
		if got.Off == away || got.Lossless || !got.Shipped.IsZero() || (len(got.Why) == 0) == away {
			t.Fatalf("away %t: %+v", away, got)
		}
		if g := w.Site(it.Running).Hyper.Guest(it.ID()); (g == nil) == away {
			t.Fatalf("away %t: the source's machine is %v", away, g)
		}
		it.Running.Agent, it.Running.Site = agent, site
		must(t, it.Cancel(ctx))
		_, err = it.AwaitReverse(ctx)
		must(t, err)
		replicates(ctx, t, w, it)
	}
}

// A first synchronization has nothing to go back to, and nor has one to new disks.
func TestInterrupted_NothingOlder(t *testing.T) {
	w, it, ctx := committed(t)
	_, err := it.Relocate(ctx, recovery.RelocateRequest{})
	must(t, err)
	if err := it.FailOver(ctx, it.Point.Position); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("relocated: %v", err)
	}
	_, err = it.AwaitReverse(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
}

// forgetfulTarget serves what it is asked for, and its answer is lost.
type forgetfulTarget struct{ homeward.MasterTarget }

func (f forgetfulTarget) FailOver(ctx context.Context, req homeward.FailOverRequest) (homeward.View, error) {
	if _, err := f.MasterTarget.FailOver(ctx, req); err != nil {
		return homeward.View{}, err
	}
	return homeward.View{}, homeward.Errorf("fail over", homeward.IO, "m0", "", "the answer is lost")
}

// A failover that nobody knows was served is cancelled, or goes to another point.
func TestFailOver_AnswerLost(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		w, it, branch, ctx := synchronizing(t)
		target := it.Standby.Target
		it.Standby.Target = forgetfulTarget{target}
		if err := it.FailOver(ctx, branch.Position); err == nil || it.State != recovery.Synchronizing {
			t.Fatalf("the item is %s: %v", it.State, err)
		}
		it.Standby.Target = target
		if cancel {
			must(t, it.Cancel(ctx))
			_, err := it.AwaitReverse(ctx)
			must(t, err)
		} else {
			must(t, it.FailOver(ctx, branch.Position))
			must(t, it.Commit(ctx))
			_, err := it.Reprotect(ctx)
			must(t, err)
		}
		replicates(ctx, t, w, it)
	}
}
