package recovery_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// A failover that may ask the source loses nothing when it shuts it down, and little
// when it does not; whoever dies on the way.
func TestFailOverWith_ControllersDie(t *testing.T) {
	for _, shutdown := range []bool{false, true} {
		w, it, ctx := protected(t)
		c := begin(t, it)
		source := w.Site(it.Running)
		written := source.Hyper.Guest(it.ID()).Done()
		var got recovery.Parting
		it = c.run("fail over", func(it *recovery.Item) (err error) {
			got, err = it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: shutdown})
			return err
		})
		if got.Off != shutdown || got.Lossless != shutdown || got.Shipped.Sequence == 0 || it.Point.Position.Sequence < got.Shipped.Sequence || len(got.Why) != 0 {
			t.Fatalf("shutdown %t: %+v, it runs from %v", shutdown, got, it.Point.Position)
		}
		if shutdown && source.Hyper.Guest(it.ID()) != nil {
			t.Fatalf("the source runs on after %d writes", written)
		}
		it = c.next(-1)
		must(t, it.Cancel(ctx)) // the source can be brought back
		replicates(ctx, t, w, it)
		_, err := it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: shutdown, Point: it.Point.Position})
		must(t, err)
		must(t, it.Commit(ctx))
		_, err = it.Reprotect(ctx)
		must(t, err)
		replicates(ctx, t, w, it)
	}
}

// awayAgent cannot be reached.
type awayAgent struct{ homeward.Agent }

func away(op string) error {
	return homeward.Errorf(op, homeward.Unavailable, "", "", "the site is away")
}

func (awayAgent) Report(context.Context, homeward.ItemRequest) (homeward.CaptureReport, error) {
	return homeward.CaptureReport{}, away("report")
}

func (awayAgent) Changes(context.Context, homeward.ItemRequest) (homeward.Changes, error) {
	return homeward.Changes{}, away("changes")
}

// deafSite does not shut machines down.
type deafSite struct{ homeward.Site }

func (deafSite) PowerOff(context.Context, string, homeward.Ref, homeward.Stop) (homeward.Operation, error) {
	return homeward.Operation{}, away("power off")
}

// muteSite never answers who wants a machine shut down.
type muteSite struct{ homeward.Site }

func (muteSite) PowerOff(ctx context.Context, _ string, _ homeward.Ref, _ homeward.Stop) (homeward.Operation, error) {
	<-ctx.Done()
	return homeward.Operation{}, ctx.Err()
}

// A source whose site does not answer, and whose agent does, ships its last writes.
func TestFailOverWith_SiteMute(t *testing.T) {
	_, it, ctx := protected(t)
	it.Running.Site = muteSite{it.Running.Site}
	got, err := it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: true, Within: 4 * time.Second})
	must(t, err)
	if got.Off || got.Shipped.Sequence == 0 || it.Point.Position.Sequence < got.Shipped.Sequence || len(got.Why) != 1 {
		t.Fatalf("%+v, it runs from %v", got, it.Point.Position)
	}
}

// The failover goes on without a source that cannot be asked, and says so.
func TestFailOverWith_SourceAway(t *testing.T) {
	w, it, ctx := protected(t)
	agent, site := it.Running.Agent, it.Running.Site
	it.Running.Agent, it.Running.Site = awayAgent{agent}, deafSite{site}
	failed := map[string]bool{}
	it.Watch = func(s recovery.Step) {
		if s.Err != nil && s.Optional {
			failed[s.Name] = true
		}
	}
	got, err := it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: true, Within: time.Minute})
	must(t, err)
	if got.Off || got.Lossless || !got.Shipped.IsZero() || len(got.Why) != 2 || len(failed) != 2 || it.State != recovery.FailedOver {
		t.Fatalf("%+v, steps that failed: %v", got, failed)
	}
	it.Running.Agent, it.Running.Site, it.Watch = agent, site, nil
	must(t, it.Commit(ctx))
	_, err = it.Reprotect(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
}

// stuckAgent makes no point.
type stuckAgent struct{ homeward.Agent }

func (stuckAgent) Cut(ctx context.Context, _ homeward.CutRequest) (homeward.CutReport, error) {
	<-ctx.Done()
	return homeward.CutReport{}, ctx.Err()
}

func TestFailOverWith_Deadline(t *testing.T) {
	_, it, ctx := protected(t)
	it.Running.Agent = stuckAgent{it.Running.Agent}
	got, err := it.FailOverWith(ctx, recovery.FailOverRequest{Within: time.Millisecond})
	must(t, err)
	if len(got.Why) != 1 || !got.Shipped.IsZero() {
		t.Fatalf("%+v", got)
	}
}

// goneTarget cannot be reached.
type goneTarget struct{ homeward.MasterTarget }

func (goneTarget) Report(context.Context, homeward.ItemRequest) (homeward.ReplicaReport, error) {
	return homeward.ReplicaReport{}, away("report")
}

// The source is not stopped for a standby side that cannot run the machine.
func TestFailOverWith_StandbyAway(t *testing.T) {
	w, it, ctx := protected(t)
	target := it.Standby.Target
	it.Standby.Target = goneTarget{target}
	if _, err := it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: true}); homeward.KindOf(err) != homeward.Unavailable {
		t.Fatalf("%v", err)
	}
	if g := w.Site(it.Running).Hyper.Guest(it.ID()); g == nil || g.Ended() {
		t.Fatal("the machine was stopped")
	}
	it.Standby.Target = target
	must(t, it.Cancel(ctx))
	replicates(ctx, t, w, it)
}

// settled is how the replica stands when everything that was spooled is applied.
func settled(ctx context.Context, t *testing.T, w *world.World, it *recovery.Item) homeward.ReplicaReport {
	t.Helper()
	for id := (homeward.ItemRequest{Item: it.ID()}); ; must(t, w.Tick(ctx)) {
		route, err := it.Running.Process.Report(ctx, id)
		must(t, err)
		replica, err := it.Standby.Target.Report(ctx, id)
		must(t, err)
		if s := route.Standing.Spooled; s.IsZero() || s == replica.Applied {
			return replica
		}
	}
}

// While paused nothing is shipped and nothing is forgotten.
func TestPause(t *testing.T) {
	w, it, ctx := protected(t)
	must(t, errors.Join(it.Pause(ctx), it.Pause(ctx)))
	g := w.Site(it.Running).Hyper.Guest(it.ID())
	must(t, g.AwaitWrites(ctx, g.Done()+50))
	before := settled(ctx, t, w, it)
	r, err := it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	must(t, err)
	if !it.Paused || r.Disks[0].DirtyBytes+r.Disks[1].DirtyBytes == 0 {
		t.Fatalf("paused %t, the map: %+v", it.Paused, r.Disks)
	}
	if err := it.FailOverPlanned(ctx, homeward.Position{}); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("failed back while paused: %v", err)
	}
	must(t, g.AwaitWrites(ctx, g.Done()+50))
	if after := settled(ctx, t, w, it); after.Applied != before.Applied {
		t.Fatal("it shipped while paused")
	}
	c := begin(t, it)
	must(t, c.next(-1).Unpause(ctx))
	it = c.next(-1)
	if it.Paused {
		t.Fatal("still paused")
	}
	replicates(ctx, t, w, it)
}

// Before the commit the estimate is of the way back as it is now; a side that is away
// makes it unknown.
func TestEstimate_BeforeCommit(t *testing.T) {
	w, it, ctx := protected(t)
	must(t, it.FailOver(ctx, homeward.Position{}))
	w.Site(it.Running).Hyper.Crash(it.ID())
	g := w.Site(it.Standby).Hyper.Guest(it.ID())
	must(t, g.AwaitWrites(ctx, 50))
	must(t, g.Pause(ctx))
	before, err := it.Estimate(ctx)
	must(t, err)
	agent := it.Running.Agent
	it.Running.Agent = awayAgent{agent}
	unknown, err := it.Estimate(ctx)
	must(t, err)
	it.Running.Agent = agent
	if unknown.Certainty != homeward.Unknown || len(unknown.Stops) != 1 || unknown.Bytes < before.Bytes {
		t.Fatalf("with the old side away: %+v", unknown)
	}
	must(t, it.Commit(ctx))
	after, err := it.Estimate(ctx)
	must(t, err)
	if before.Bytes == 0 || before.Bytes != after.Bytes || before.Certainty != homeward.Exact {
		t.Fatalf("before the commit %+v, after it %+v", before, after)
	}
	it.Standby.Agent = awayAgent{it.Standby.Agent}
	if e, err := it.Estimate(ctx); err != nil || e.Certainty != homeward.Unknown {
		t.Fatalf("after the commit, with the old side away: %+v %v", e, err)
	}
}

// What is told of a step's progress never falls.
func TestProgress_NeverFalls(t *testing.T) {
	_, it, ctx := committed(t)
	var mu sync.Mutex
	last := map[time.Time]float64{} // by when the step began
	it.Watch = func(s recovery.Step) {
		mu.Lock()
		defer mu.Unlock()
		if s.Progress.Total <= 0 {
			return
		}
		part := float64(s.Progress.Done) / float64(s.Progress.Total)
		if part < last[s.Began]-1e-9 || part > 1 {
			t.Errorf("%s: %v after %v", s.Name, part, last[s.Began])
		}
		last[s.Began] = part
	}
	_, err := it.Reprotect(ctx)
	must(t, err)
	if len(last) == 0 {
		t.Fatal("nobody was told of any progress")
	}
}
