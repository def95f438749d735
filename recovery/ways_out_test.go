package recovery_test

import (
	"context"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// brokenAgent cannot open the disks of a view.
type brokenAgent struct{ homeward.Agent }

func (brokenAgent) Prepare(context.Context, homeward.CaptureRequest) (homeward.CaptureReport, error) {
	return homeward.CaptureReport{}, homeward.Errorf("prepare capture", homeward.IO, "m0", "", "the view's disks cannot be opened")
}

// brokenTarget cannot serve a point; with away set it cannot be reached either.
type brokenTarget struct {
	homeward.MasterTarget
	away bool
}

func (brokenTarget) FailOver(context.Context, homeward.FailOverRequest) (homeward.View, error) {
	return homeward.View{}, homeward.Errorf("fail over", homeward.IO, "m0", "", "the retention volume is broken")
}

func (b brokenTarget) CancelFailOver(ctx context.Context, req homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	if b.away {
		return homeward.ReplicaReport{}, homeward.Errorf("cancel failover", homeward.IO, "m0", "", "the site has burnt down")
	}
	return b.MasterTarget.CancelFailOver(ctx, req)
}

// protected is a world whose machine is protected.
func protected(t *testing.T) (*world.World, *recovery.Item, context.Context) {
	t.Helper()
	w := world.New(t, powerloss.Rand(t), world.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	t.Cleanup(cancel)
	must(t, w.AwaitAll(ctx))
	it := w.Items[0]
	must(t, it.Protect(ctx))
	return w, it, ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// replicates sees to it that the machine runs at the running side, and that what it
// wrote is at the other.
func replicates(ctx context.Context, t *testing.T, w *world.World, it *recovery.Item) {
	t.Helper()
	if it.State != recovery.Protected {
		t.Fatalf("the item is %s", it.State)
	}
	g := w.Site(it.Running).Hyper.Guest(it.ID())
	for from := g.Done(); g.Done() < from+20; {
		must(t, w.Tick(ctx))
	}
	_, err := it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash})
	must(t, err)
	proof, err := it.Prove(ctx)
	must(t, err)
	if !proof.Equal {
		t.Fatalf("the sides differ: %+v", proof)
	}
}

// A failover whose machine could not be started there can be cancelled, or go to
// another point; it cannot be committed.
func TestFailOver_StandbyAgentFails(t *testing.T) {
	w, it, ctx := protected(t)
	agent := it.Standby.Agent
	it.Standby.Agent = brokenAgent{agent}
	if err := it.FailOver(ctx, homeward.Position{}); err == nil || it.State != recovery.FailedOver {
		t.Fatalf("the item is %s: %v", it.State, err)
	}
	it.Standby.Agent = agent
	if err := it.Commit(ctx); homeward.KindOf(err) != homeward.Conflict || it.State != recovery.FailedOver {
		t.Fatalf("committed a machine that does not run: %v", err)
	}
	must(t, it.ChangePoint(ctx, it.Point.Position))
	it.Standby.Agent = brokenAgent{agent}
	if err := it.ChangePoint(ctx, it.Point.Position); err == nil {
		t.Fatal("the broken agent prepared")
	}
	it.Standby.Agent = agent
	must(t, it.Cancel(ctx))
	replicates(ctx, t, w, it)
}

// When the standby side fails after production was shut down and handed over, it
// can be brought back where it ran.
func TestFailOverPlanned_StandbyTargetFails(t *testing.T) {
	for _, away := range []bool{false, true} {
		w, it, ctx := protected(t)
		target := it.Standby.Target
		it.Standby.Target = brokenTarget{target, away}
		if err := it.FailOverPlanned(ctx, homeward.Position{}); err == nil || it.State != recovery.Protected {
			t.Fatalf("the item is %s: %v", it.State, err)
		}
		err := it.Cancel(ctx)
		if (err != nil) != away {
			t.Fatalf("with the standby side away: %t; cancelled: %v", away, err)
		}
		if away { // production is back all the same
			g := w.Site(it.Running).Hyper.Guest(it.ID())
			for from := g.Done(); g.Done() < from+20; {
				must(t, w.Tick(ctx))
			}
			it.Standby.Target = target
			base := it.Base
			must(t, it.Cancel(ctx))
			// What the process server still held may have moved the replica on meanwhile.
			if again := w.Site(it.Running).Hyper.Guest(it.ID()) != g; again != (it.Base != base) {
				t.Fatalf("the machine was started once more: %t; it began at %v and at %v", again, base, it.Base)
			}
			_, err := it.Resync(ctx) // no cut that the agent knows of ends where the replica stands then
			must(t, err)
		}
		it.Standby.Target = target
		replicates(ctx, t, w, it)
	}
}

// A failover that cannot be is cancelled too: the machine still runs where it ran.
func TestFailOver_StandbyTargetFails(t *testing.T) {
	w, it, ctx := protected(t)
	target := it.Standby.Target
	it.Standby.Target = brokenTarget{target, false}
	if err := it.FailOver(ctx, homeward.Position{}); err == nil || it.State != recovery.Protected {
		t.Fatalf("the item is %s: %v", it.State, err)
	}
	must(t, it.Cancel(ctx))
	it.Standby.Target = target
	replicates(ctx, t, w, it)
	if err := it.Cancel(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("cancelling nothing: %v", err)
	}
}

// Once a commit has begun at the standby side nothing else stops the machine.
func TestCommit_Begun(t *testing.T) {
	_, it, ctx := protected(t)
	must(t, it.FailOver(ctx, homeward.Position{}))
	_, err := it.Standby.Target.Promote(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
	must(t, err)
	for what, err := range map[string]error{"cancel": it.Cancel(ctx), "change point": it.ChangePoint(ctx, homeward.Position{})} {
		if homeward.KindOf(err) != homeward.Conflict {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must(t, it.Commit(ctx))
}

// grown is a master target whose view somebody wrote to, with its agent away.
type grown struct{ homeward.MasterTarget }

func (g grown) Report(ctx context.Context, req homeward.ItemRequest) (homeward.ReplicaReport, error) {
	r, err := g.MasterTarget.Report(ctx, req)
	for i := range r.Views {
		r.Views[i].OverlayBytes += 1 << 30 // more than blocks of zeroes, which it does not count, could hide
	}
	return r, err
}

// byHand is a master target that gave its view out offline.
type byHand struct{ homeward.MasterTarget }

func (b byHand) Report(ctx context.Context, req homeward.ItemRequest) (homeward.ReplicaReport, error) {
	r, err := b.MasterTarget.Report(ctx, req)
	for i := range r.Views {
		r.Views[i].ByHand = true
	}
	return r, err
}

// A view that was given out by hand, or holds more than its agent saw, was written to
// by somebody else, under the generation in force: the next reprotect compares
// everything, and else nothing.
func TestCommit_Unseen(t *testing.T) {
	for _, how := range []func(homeward.MasterTarget) homeward.MasterTarget{nil,
		func(role homeward.MasterTarget) homeward.MasterTarget { return grown{role} },
		func(role homeward.MasterTarget) homeward.MasterTarget { return byHand{role} }} {
		by := how != nil
		w, it, ctx := protected(t)
		must(t, it.FailOver(ctx, homeward.Position{}))
		ran(ctx, t, w, it.Standby, it.ID())
		role := it.Standby.Target
		if by {
			it.Standby.Target = how(role)
		}
		must(t, it.Commit(ctx))
		it.Running.Target = role
		if it.Unseen != by {
			t.Fatalf("written to by somebody else: %t; found so: %t", by, it.Unseen)
		}
		rev, err := it.Reprotect(ctx)
		must(t, err)
		if rev.Estimate.FullReads > 0 != by {
			t.Fatalf("written to by somebody else: %t; %d bytes were compared", by, rev.Estimate.FullReads)
		}
		replicates(ctx, t, w, it)
	}
}
