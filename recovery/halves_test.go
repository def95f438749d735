package recovery_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// committed is an item whose machine runs at the other side, committed.
func committed(t *testing.T) (*world.World, *recovery.Item, context.Context) {
	t.Helper()
	w, it, ctx := protected(t)
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	return w, it, ctx
}

func begin(t *testing.T, it *recovery.Item) *controllers {
	t.Helper()
	c := &controllers{t: t, sides: [2]*recovery.Side{it.Standby, it.Running}, left: -1}
	must(t, c.save(it))
	return c
}

// Each half is begun by one controller and ended by another, and between the halves
// the item says where it stands and cannot be moved.
func TestHalves_ControllersDie(t *testing.T) {
	w := world.New(t, powerloss.Rand(t), world.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	must(t, w.AwaitAll(ctx))
	c := begin(t, w.Items[0])
	refuses := func(it *recovery.Item) {
		t.Helper()
		if it.State != recovery.Synchronizing {
			t.Fatalf("between the halves the item is %s", it.State)
		}
		for what, err := range map[string]error{
			"fail over": it.FailOver(ctx, homeward.Position{}), "fail back": it.FailOverPlanned(ctx, homeward.Position{}),
		} {
			if homeward.KindOf(err) != homeward.Conflict || !strings.Contains(homeward.RemedyOf(err), "R3") {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	refuses(c.run("protect", func(it *recovery.Item) error { return it.Enable(ctx) }))
	must(t, c.next(-1).Enable(ctx)) // ended already
	it := c.runLong("protect", 1, func(it *recovery.Item) error { return it.AwaitInitial(ctx) })
	replicates(ctx, t, w, it)
	must(t, c.next(-1).AwaitInitial(ctx))

	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	refuses(c.run("reprotect", func(it *recovery.Item) error { _, err := it.Reverse(ctx); return err }))
	predicted, err := c.next(-1).Reverse(ctx)
	must(t, err)
	if predicted.Item != it.ID() || predicted.Bytes == 0 {
		t.Fatalf("predicted %+v", predicted)
	}
	it = c.run("reprotect", func(it *recovery.Item) error { _, err := it.AwaitReverse(ctx); return err })
	first := *it.Took
	again, err := c.next(-1).AwaitReverse(ctx)
	must(t, err)
	if again.Estimate.Bytes != predicted.Bytes || again.Branch.Position != first.Branch.Position || again.Branch.Position.IsZero() {
		t.Fatalf("the reversal's account: %+v, it was %+v", again, first)
	}
	replicates(ctx, t, w, it)
	if err := it.AwaitInitial(ctx); err != nil {
		t.Fatal(err)
	}
}

// The half that waits is not taken for one that begins.
func TestHalves_Order(t *testing.T) {
	_, it, ctx := protected(t)
	if _, err := it.AwaitReverse(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("nothing to await: %v", err)
	}
	if _, err := it.Reverse(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("reversed while protected: %v", err)
	}
}

// A machine that runs on its own disks is shut down and gets the agent's.
func TestEnable_MachineThatRuns(t *testing.T) {
	w := world.New(t, powerloss.Rand(t), world.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	must(t, w.AwaitAll(ctx))
	it := w.Items[0]
	own := homeward.Attachment{Disk: it.Machine.Disks[0].ID, Ref: it.Running.Disks[0]}
	op, err := it.Running.Site.Create(ctx, "", it.Machine, []homeward.Attachment{own})
	must(t, err)
	it.Refs[it.Running.Name] = op.Result
	w.Home.Hyper.Intrude(it.ID())
	must(t, it.Protect(ctx))
	replicates(ctx, t, w, it)
	m, err := it.Running.Site.Machine(ctx, op.Result)
	must(t, err)
	if len(m.Disks) != len(it.Machine.Disks) || m.Disks[0].Ref == own.Ref {
		t.Fatalf("it runs on %+v", m.Disks)
	}
}

// While the machine runs elsewhere its old copy is off and guarded; somebody who
// powers it on is found and fenced; the failback lifts the guard, its cancel restores it.
func TestReverse_OldMachineStaysOff(t *testing.T) {
	w, it, ctx := committed(t)
	old := it.Standby
	oldGuards := func() int {
		t.Helper()
		m, err := old.Site.Machine(ctx, it.Refs[old.Name])
		must(t, err)
		return len(m.Guards)
	}
	w.Site(old).Hyper.Intrude(it.ID()) // nobody shut it down
	if _, on, err := it.Intruder(ctx); err != nil || !on {
		t.Fatalf("the source still runs: found %t, %v", on, err)
	}
	_, err := it.Reprotect(ctx)
	must(t, err)
	if _, on, err := it.Intruder(ctx); err != nil || on {
		t.Fatalf("the old machine is on after reprotect: %v", err)
	}
	if _, err := old.Site.PowerOn(ctx, "by hand", it.Refs[old.Name]); homeward.KindOf(err) != homeward.InUse {
		t.Fatalf("powered on by hand: %v", err)
	}
	w.Site(old).Hyper.Intrude(it.ID())
	if m, on, err := it.FenceIntruder(ctx); err != nil || !on || m.Power != homeward.PowerOn {
		t.Fatalf("%+v %t %v", m, on, err)
	}
	if _, on, err := it.Intruder(ctx); err != nil || on {
		t.Fatalf("not fenced: %v", err)
	}
	must(t, it.FailOverPlanned(ctx, homeward.Position{}))
	if oldGuards() != 0 {
		t.Fatal("the guard is still there where the machine runs")
	}
	must(t, it.Cancel(ctx))
	if oldGuards() != 1 {
		t.Fatal("a cancelled failback leaves no guard")
	}
	replicates(ctx, t, w, it)
}

// awaySite cannot be reached.
type awaySite struct{ homeward.Site }

func (awaySite) Machine(context.Context, homeward.Ref) (homeward.SiteMachine, error) {
	return homeward.SiteMachine{}, homeward.Errorf("describe machine", homeward.Unavailable, "", "", "the site is away")
}

// The old side's disks are not taken while nobody can say that its machine is off.
func TestReverse_OldSiteAway(t *testing.T) {
	w, it, ctx := committed(t)
	site := it.Standby.Site
	it.Standby.Site = awaySite{site}
	if _, err := it.Reverse(ctx); homeward.KindOf(err) != homeward.Unavailable || it.State != recovery.Committed {
		t.Fatalf("%s: %v", it.State, err)
	}
	it.Standby.Site = site
	_, err := it.Reprotect(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
}

// After a committed failback the recovery machine goes, and only then.
func TestRemoveStandbyMachine(t *testing.T) {
	w, it, ctx := committed(t)
	if err := it.RemoveStandbyMachine(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("removed the original machine: %v", err)
	}
	_, err := it.Reprotect(ctx)
	must(t, err)
	must(t, it.FailOverPlanned(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	away := it.Standby
	ref := it.Refs[away.Name]
	c := begin(t, it)
	for n := 0; ; n++ {
		it = c.next(n)
		if err := it.RemoveStandbyMachine(ctx); err == nil {
			break
		} else if !errors.Is(err, errDied) {
			t.Fatal(err)
		}
	}
	if _, err := away.Site.Machine(ctx, ref); homeward.KindOf(err) != homeward.NotFound {
		t.Fatalf("it is still there: %v", err)
	}
	it = c.next(-1)
	must(t, it.RemoveStandbyMachine(ctx))
	_, err = it.Reprotect(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
	must(t, it.FailOver(ctx, homeward.Position{})) // it is made anew
	if w.Site(away).Hyper.Guest(it.ID()) == nil {
		t.Fatal("no machine runs")
	}
}
