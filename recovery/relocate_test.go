package recovery_test

import (
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
)

// The machine comes back to new disks; what the old ones hold stays until it runs
// there again and is followed.
func TestRelocate_ControllersDie(t *testing.T) {
	w, it, ctx := committed(t)
	home := it.Standby
	old := it.Copies(home)
	c := begin(t, it)
	before, err := it.EstimateCopy()
	must(t, err)
	it = c.run("relocate", func(it *recovery.Item) error {
		_, err := it.Relocate(ctx, recovery.RelocateRequest{})
		return err
	})
	if it.State != recovery.Synchronizing || it.Doomed == nil || it.Copies(it.Standby)[0] == old[0] {
		t.Fatalf("%s, left behind: %+v, disks %v", it.State, it.Doomed, it.Copies(it.Standby))
	}
	c.run("relocate", func(it *recovery.Item) error { _, err := it.AwaitReverse(ctx); return err })
	it = c.next(-1)
	total := int64(0)
	for _, d := range it.Machine.Disks {
		total += d.Blocks() * homeward.BlockSize
	}
	if before.Bytes != total || before.Certainty != homeward.Bound || it.Took.Estimate.Bytes != total || it.Took.Changed < total {
		t.Fatalf("estimated %d and %d, took %d, the disks have %d bytes", before.Bytes, it.Took.Estimate.Bytes, it.Took.Changed, total)
	}
	replicates(ctx, t, w, it)
	if _, err := it.RemoveDoomed(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("removed before the failback: %v", err)
	}
	must(t, it.FailOverPlanned(ctx, homeward.Position{}))
	m, err := it.Standby.Site.Machine(ctx, it.Refs[it.Standby.Name])
	must(t, err)
	if m.Machine.Item == it.ID() || it.Doomed.Machine == m.Ref {
		t.Fatalf("the new machine %+v has the old one's place", m.Ref)
	}
	must(t, it.Commit(ctx))
	if _, err := it.RemoveDoomed(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("removed before the reprotect: %v", err)
	}
	must(t, c.save(it))
	it = c.next(-1)
	_, err = it.Reprotect(ctx)
	must(t, err)
	must(t, c.save(it))
	it = c.runLong("", 1, func(it *recovery.Item) error { _, err := it.RemoveDoomed(ctx); return err })
	for i, ref := range old {
		if w.Home.Has(ref) || !w.Home.Has(it.Copies(it.Running)[i]) {
			t.Fatalf("disk %d: the old one is there: %t", i, w.Home.Has(ref))
		}
	}
	if d, err := it.RemoveDoomed(ctx); d != nil || err != nil {
		t.Fatalf("once more: %+v %v", d, err)
	}
	_, err = it.Prove(ctx)
	must(t, err)
}

// A machine that its site lost is made anew.
func TestRelocate_MachineGone(t *testing.T) {
	w, it, ctx := committed(t)
	w.Home.Hyper.Crash(it.ID())
	_, err := it.Standby.Site.Delete(ctx, "", it.Refs[it.Standby.Name])
	must(t, err)
	_, err = it.Relocate(ctx, recovery.RelocateRequest{})
	must(t, err)
	_, err = it.AwaitReverse(ctx)
	must(t, err)
	must(t, it.FailOverPlanned(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	_, err = it.Reprotect(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
}

// What has begun with the old disks is not ended with new ones, nor the other way round.
func TestRelocate_NotToBoth(t *testing.T) {
	w, it, ctx := committed(t)
	c := begin(t, it)
	for n := 1; it.Doomed == nil; n++ {
		if _, err := c.next(n).Relocate(ctx, recovery.RelocateRequest{}); err == nil {
			t.Fatal("it ended before anybody saw it move")
		}
		it = c.next(-1)
	}
	if _, err := it.Reverse(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("reversed to disks that are given up: %v", err)
	}
	_, err := it.Relocate(ctx, recovery.RelocateRequest{})
	must(t, err)
	_, err = it.AwaitReverse(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
}

func TestRelocate_OldDisksTaken(t *testing.T) {
	w, it, ctx := committed(t)
	c := begin(t, it)
	for n := 1; ; n++ {
		it = c.next(n)
		_, err := it.Reverse(ctx)
		if err == nil {
			break // but its last save did not come to anybody
		}
		it = c.next(-1)
		r, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		if err == nil && r.Applied.Generation == it.Generation {
			_, err := it.Relocate(ctx, recovery.RelocateRequest{})
			if homeward.KindOf(err) != homeward.Conflict {
				t.Fatalf("relocated from disks that are the replica: %v", err)
			}
			_, err = it.Reprotect(ctx)
			must(t, err)
			replicates(ctx, t, w, it)
			return
		}
	}
	t.Fatal("no controller died after the old disks were taken")
}
