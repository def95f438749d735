package recovery_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// twoTargets is a protected item whose standby side has a second master target.
func twoTargets(t *testing.T) (*world.World, *recovery.Item, *recovery.Side, context.Context) {
	t.Helper()
	w, it, ctx := protected(t)
	must(t, w.Site(it.Standby).AddTarget(ctx))
	return w, it, w.Site(it.Standby).SpareSide(it.Machine), ctx
}

func reassociated(ctx context.Context, it *recovery.Item, to *recovery.Side, req recovery.ReassociateRequest) error {
	if _, err := it.Reassociate(ctx, to, req); err != nil {
		return err
	}
	return it.AwaitReassociated(ctx)
}

// removeLeft removes what all master targets that were left have.
func removeLeft(ctx context.Context, it *recovery.Item, target homeward.MasterTarget) error {
	for _, l := range slices.Clone(it.Left) {
		if err := it.RemoveLeft(ctx, l, target); err != nil {
			return err
		}
	}
	return nil
}

func holdsNothing(ctx context.Context, t *testing.T, side *recovery.Side, it *recovery.Item) {
	t.Helper()
	if r, err := side.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()}); homeward.KindOf(err) != homeward.NotFound {
		t.Fatalf("%s still has %+v: %v", side.TargetName, r, err)
	}
}

// The replica is led to another master target, on new disks or on the same, by
// controllers that die at every step, under a machine that writes.
func TestReassociate_ControllersDie(t *testing.T) {
	for name, req := range map[string]recovery.ReassociateRequest{"new disks": {}, "same disks": {SameDisks: true}} {
		t.Run(name, func(t *testing.T) {
			w, it, to, ctx := twoTargets(t)
			old, copies, was := it.Standby, it.Copies(it.Standby), it.Generation
			c := begin(t, it)
			expect, err := it.EstimateReassociation(ctx, req)
			must(t, err)
			if len(expect.Losses) == 0 || req.SameDisks && expect.FullReads != 0 {
				t.Fatalf("expected %+v", expect)
			}
			now := func(it *recovery.Item) { // as the vault loads it
				if it.Serves[to.Name].Target == to.TargetName {
					it.Standby = to
				} else if it.Leaving != nil {
					it.To = to
				}
			}
			c.run("reassociate", func(it *recovery.Item) error {
				now(it)
				_, err := it.Reassociate(ctx, to, req)
				return err
			})
			it = c.runLong("reassociate", 1, func(it *recovery.Item) error { now(it); return it.AwaitReassociated(ctx) })
			if it.Standby.TargetName != to.TargetName || it.Generation == was {
				t.Fatalf("it is at %s under %v", it.Standby.TargetName, it.Generation)
			}
			replicates(ctx, t, w, it)
			c.left = -1
			must(t, c.save(it))
			c.sides[0] = to
			it = c.runLong("", 0, func(it *recovery.Item) error { return removeLeft(ctx, it, old.Target) })
			c.left = -1
			holdsNothing(ctx, t, old, it)
			for i, ref := range copies {
				if w.Away.Has(ref) != req.SameDisks || !w.Away.Has(it.Copies(to)[i]) {
					t.Fatalf("disk %s of the old replica is there: %t", ref, w.Away.Has(ref))
				}
			}
			must(t, it.FailOver(ctx, homeward.Position{}))
			must(t, it.Commit(ctx))
			_, err = it.Reprotect(ctx)
			must(t, err)
			replicates(ctx, t, w, it)
		})
	}
}

// The master target is dead for good: the replica is led on; when it comes back it
// takes nothing, and what it has is removed.
func TestReassociate_OldOneDead(t *testing.T) {
	for name, req := range map[string]recovery.ReassociateRequest{"new disks": {}, "same disks": {SameDisks: true, Gone: true}} {
		t.Run(name, func(t *testing.T) {
			w, it, to, ctx := twoTargets(t)
			old := it.Standby
			w.Away.LoseTarget()
			unsure := req
			unsure.Gone = false
			if _, err := it.Reassociate(ctx, to, unsure); req.SameDisks && (homeward.KindOf(err) != homeward.Unavailable || !strings.Contains(homeward.RemedyOf(err), "old-is-off")) {
				t.Fatalf("unknown is taken for absent: %v", err)
			}
			must(t, reassociated(ctx, it, to, req))
			replicates(ctx, t, w, it)
			if err := removeLeft(ctx, it, old.Target); !homeward.Retryable(err) || len(it.Left) != 1 {
				t.Fatalf("it cannot have been told: %v, left %+v", err, it.Left)
			}
			must(t, w.Away.FindTarget(ctx))
			must(t, removeLeft(ctx, it, old.Target))
			holdsNothing(ctx, t, old, it)
			if len(it.Left) != 0 {
				t.Fatalf("left: %+v", it.Left)
			}
			replicates(ctx, t, w, it)
			must(t, it.FailOver(ctx, homeward.Position{}))
		})
	}
}

// While it synchronizes with the other master target the machine is lost: the old one
// still has all its points, and what the machine wrote since is compared on the way home.
func TestReassociate_FailedOverMeanwhile(t *testing.T) {
	w, it, to, ctx := twoTargets(t)
	old := it.Standby
	points, err := old.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
	must(t, err)
	_, err = it.Reassociate(ctx, to, recovery.ReassociateRequest{})
	must(t, err)
	if it.State != recovery.Protected {
		t.Fatalf("it is %s", it.State)
	}
	after, err := old.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil || len(after.Points) < len(points.Points) {
		t.Fatalf("the old one has %d points, it had %d: %v", len(after.Points), len(points.Points), err)
	}
	if err := it.FailOverPlanned(ctx, homeward.Position{}); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("its last writes would go elsewhere: %v", err)
	}
	g := w.Home.Hyper.Guest(it.ID())
	for from, applied := g.Done(), uint64(0); g.Done() < from+20 || applied == 0; { // else all is in its map still
		must(t, w.Tick(ctx))
		there, err := to.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		must(t, err)
		applied = there.Applied.Sequence
	}
	parting, err := it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: true})
	must(t, err)
	if parting.Lossless || len(parting.Why) == 0 || it.Leaving != nil || it.Standby.TargetName != old.TargetName {
		t.Fatalf("%+v, at %s", parting, it.Standby.TargetName)
	}
	must(t, it.Commit(ctx))
	rev, err := it.Reprotect(ctx)
	must(t, err)
	if rev.FullReads == 0 {
		t.Error("nothing was compared")
	}
	replicates(ctx, t, w, it)
	must(t, removeLeft(ctx, it, to.Target))
	holdsNothing(ctx, t, to, it)
}

// A failover amid the move can be cancelled; and a move can be given up for where it was.
func TestReassociate_Back(t *testing.T) {
	w, it, to, ctx := twoTargets(t)
	old, copies := it.Standby, it.Copies(it.Standby)
	_, err := it.Reassociate(ctx, to, recovery.ReassociateRequest{})
	must(t, err)
	must(t, reassociated(ctx, it, old, recovery.ReassociateRequest{SameDisks: true}))
	if it.Standby.TargetName != old.TargetName || it.Copies(it.Standby)[0] != copies[0] {
		t.Fatalf("it is at %s on %v", it.Standby.TargetName, it.Copies(it.Standby))
	}
	replicates(ctx, t, w, it)
	_, err = it.Reassociate(ctx, to, recovery.ReassociateRequest{})
	must(t, err)
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Cancel(ctx))
	_, err = it.Resync(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
	must(t, removeLeft(ctx, it, to.Target))
	must(t, reassociated(ctx, it, to, recovery.ReassociateRequest{}))
	replicates(ctx, t, w, it)
}

// The agent is killed while it turns, and the other master target while it is filled.
func TestReassociate_RolesDie(t *testing.T) {
	w, it, to, ctx := twoTargets(t)
	c := begin(t, it)
	for n := int64(1); ; n += 7 {
		it = c.next(-1)
		p, err := w.Home.Agent.Await(ctx)
		must(t, err)
		p.KillAfter(n)
		_, err = it.Reassociate(ctx, to, recovery.ReassociateRequest{})
		p.Defuse()
		if err == nil {
			break
		}
		if !homeward.Retryable(err) {
			t.Fatalf("killed after %d operations: %v", n, err)
		}
		must(t, w.AwaitAll(ctx))
	}
	p, err := w.Away.Spare.Await(ctx)
	must(t, err)
	p.Kill()
	_, err = w.Away.Spare.Await(ctx)
	must(t, err)
	must(t, it.AwaitReassociated(ctx))
	replicates(ctx, t, w, it)
}

func TestReassociate_Refusals(t *testing.T) {
	w, it, to, ctx := twoTargets(t)
	refused := func(what string, to *recovery.Side, kind homeward.Kind) {
		t.Helper()
		if _, err := it.Reassociate(ctx, to, recovery.ReassociateRequest{}); homeward.KindOf(err) != kind || errors.Is(err, errDied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("to where it is", it.Standby, homeward.Invalid)
	refused("to the other site", w.Home.Side(it.Machine), homeward.Invalid)
	must(t, it.Pause(ctx))
	refused("paused", to, homeward.Conflict)
	must(t, it.Unpause(ctx))
	_, err := to.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: []string{"medium:/other/0", "medium:/other/1"}, Create: true, Generation: it.Generation, Base: it.Base, Policy: it.Policy})
	must(t, err)
	refused("it has one of this id", to, homeward.Exists)
	_, err = to.Target.Forget(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
	must(t, err)
	replicates(ctx, t, w, it)
	must(t, it.FailOver(ctx, homeward.Position{}))
	refused("failed over", to, homeward.Conflict)
	must(t, it.Cancel(ctx))
	it.State, it.List = recovery.Synchronizing, recovery.Unfinished{Op: "fail over", Point: it.Base}
	refused("a failover amid a synchronization was cut short", to, homeward.Conflict)
	it.State, it.List = recovery.Protected, recovery.Unfinished{}
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	refused("committed", to, homeward.Conflict)
}

// The record of a replica that was led to another master target is lost. The old one knows
// the generation in force, and has no part in the leg: it is not what protects the item.
func TestReassociate_Adopt(t *testing.T) {
	w, it, to, ctx := twoTargets(t)
	old, record := it.Standby, it.Snapshot()
	_, err := it.Reassociate(ctx, to, recovery.ReassociateRequest{})
	must(t, err)
	for _, arrived := range []bool{false, true} {
		if arrived {
			must(t, it.AwaitReassociated(ctx))
		}
		sights := seen(ctx, it)
		away := sights[old.Name]
		away.Target.V, away.Target.Err = old.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		sights[old.Name] = away
		if got, err := recovery.Adopt(record, sights, it.Generation, false); homeward.KindOf(err) != homeward.Unavailable {
			t.Fatalf("arrived %t, by the old one: %v, %+v", arrived, err, got.Found)
		}
		got, err := recovery.Adopt(record, sights, it.Generation, true)
		if err != nil || got.Again != "cancel failover" {
			t.Fatalf("arrived %t, by the old one and by force: %v, %+v", arrived, err, got.Found)
		}
		away.Target.V, away.Target.Err = to.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		sights[old.Name] = away
		got, err = recovery.Adopt(record, sights, it.Generation, false)
		if err != nil || got.Record.Generation != it.Generation || (got.Record.State == recovery.Protected) != arrived {
			t.Fatalf("arrived %t: %v, %+v", arrived, err, got.Found)
		}
	}
	replicates(ctx, t, w, it)
}

// A synchronization after a reprotect is led to another master target. If the running side
// is lost then, the old one still boots what was there before, and what was to be compared
// is compared on the way back.
func TestReassociate_Interrupted(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		w, it, branch, ctx := synchronizing(t)
		must(t, w.Site(it.Standby).AddTarget(ctx))
		to := w.Site(it.Standby).SpareSide(it.Machine)
		_, err := it.Reassociate(ctx, to, recovery.ReassociateRequest{SameDisks: true})
		if e, _ := it.EstimateReassociation(ctx, recovery.ReassociateRequest{SameDisks: true}); homeward.KindOf(err) != homeward.Conflict || !strings.Contains(strings.Join(e.Losses, "; "), recovery.BranchName) {
			t.Fatalf("the disks of the branch would lose it: %v; foretold %q", err, e.Losses)
		}
		_, err = it.Reassociate(ctx, to, recovery.ReassociateRequest{})
		must(t, err)
		ran(ctx, t, w, it.Running, it.ID())
		must(t, it.FailOver(ctx, branch.Position))
		beganAt(ctx, t, w, it, branch.Position)
		if cancel {
			must(t, it.Cancel(ctx))
			if it.State != recovery.Synchronizing {
				t.Fatalf("no point stands, and it is %s", it.State)
			}
			_, err = it.AwaitReverse(ctx)
		} else {
			must(t, it.Commit(ctx))
			_, err = it.Reprotect(ctx)
		}
		must(t, err)
		if it.Interrupted != nil || it.Strayed {
			t.Fatalf("interrupted %+v, strayed %t", it.Interrupted, it.Strayed)
		}
		replicates(ctx, t, w, it)
		must(t, removeLeft(ctx, it, to.Target))
	}
}

// What a failover interrupted is over when a replica elsewhere is complete: a later
// failover and its cancel do not go back to it.
func TestReassociate_EndsInterrupted(t *testing.T) {
	w, it, branch, ctx := synchronizing(t)
	must(t, it.FailOver(ctx, branch.Position))
	must(t, it.Commit(ctx))
	_, err := it.Reverse(ctx)
	must(t, err)
	must(t, w.Site(it.Standby).AddTarget(ctx))
	must(t, reassociated(ctx, it, w.Site(it.Standby).SpareSide(it.Machine), recovery.ReassociateRequest{}))
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Cancel(ctx))
	if it.State != recovery.Protected || it.Interrupted != nil {
		t.Fatalf("it is %s", it.State)
	}
	replicates(ctx, t, w, it)
}

// forgets counts who was told to forget an item.
type forgets struct {
	homeward.MasterTarget
	told int
}

func (f *forgets) Forget(context.Context, homeward.GenerationRequest) (homeward.Done, error) {
	f.told++
	return homeward.Done{}, nil
}

// A master target that was left once, and has the item again, is not told to forget it:
// neither while it has the replica nor when the machine runs on what it serves.
func TestReassociate_LeftAndComeBack(t *testing.T) {
	_, it, ctx := protected(t)
	it.Left = []recovery.Left{{Side: it.Standby.Name, Target: it.Standby.TargetName}}
	left, role := it.Left[0], &forgets{MasterTarget: it.Standby.Target}
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	must(t, it.RemoveLeft(ctx, left, role))
	if role.told > 0 || len(it.Left) > 0 {
		t.Fatalf("told %d times, left %+v", role.told, it.Left)
	}
}

// unprepared is a master target that does not take a replica.
type unprepared struct{ homeward.MasterTarget }

func (unprepared) Prepare(context.Context, homeward.ReplicaRequest) (homeward.ReplicaReport, error) {
	return homeward.ReplicaReport{}, homeward.Errorf("prepare replica", homeward.Unavailable, "m0", "", "it is away")
}

// Once a dead master target's disks are taken, who goes on need not say again that it is
// off: there is no old replica to bring to rest any more.
func TestReassociate_GoneAndGoneOn(t *testing.T) {
	w, it, to, ctx := twoTargets(t)
	w.Away.LoseTarget()
	role := to.Target
	to.Target = unprepared{role}
	if _, err := it.Reassociate(ctx, to, recovery.ReassociateRequest{SameDisks: true, Gone: true}); !homeward.Retryable(err) {
		t.Fatal(err)
	}
	to.Target = role
	must(t, reassociated(ctx, it, to, recovery.ReassociateRequest{SameDisks: true}))
	replicates(ctx, t, w, it)
}

// A record of amid a move that was given up since: the disks that were made for it are
// nobody's, and it is said.
func TestReassociate_AdoptGivenUp(t *testing.T) {
	w, it, to, ctx := twoTargets(t)
	old := it.Standby
	_, err := it.Reassociate(ctx, to, recovery.ReassociateRequest{})
	must(t, err)
	record := it.Snapshot()
	made := it.Leaving.Disks[0]
	for _, back := range []bool{false, true} {
		if back {
			must(t, reassociated(ctx, it, old, recovery.ReassociateRequest{SameDisks: true}))
		}
		sights := seen(ctx, it)
		if !back {
			away := sights[old.Name]
			away.Target.V, away.Target.Err = to.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
			sights[old.Name] = away
		}
		got, err := recovery.Adopt(record, sights, it.Generation, false)
		if lost := strings.Join(got.Lost, "; "); err != nil || (strings.Contains(lost, made) && strings.Contains(lost, "have no part")) != back {
			t.Fatalf("given up %t: %v, told %q", back, err, lost)
		}
	}
	replicates(ctx, t, w, it)
}
