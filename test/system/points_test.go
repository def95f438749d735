package system

import (
	"os"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/stage"
)

// The choice of points, up to the commit: an older one, a newer one instead, none
// at all; then again, committed, and what was lost by it is kept as a branch that
// can be served.
func TestChangePointCancelAndLostWritesBranch(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{})
	var points []homeward.Point
	for range 3 {
		r.write(60)
		r.replicated()
		points = append(points, r.newest())
	}
	least := func(p homeward.Point) uint64 { return r.console.AckedBy(p.Mark.At) }
	oldest, newer := least(points[0]), least(points[2])
	last := r.console.Last()
	// The running side lives on, cut off: it is fenced when the failover is cancelled.
	r.Away.In.Cut()
	r.must(r.Item.FailOver(r.ctx, points[0].Position))
	r.hearBetween(r.Away, 0, oldest, last)
	said := r.Said(r.ctx, r.Away)
	r.must(r.Item.ChangePoint(r.ctx, points[2].Position))
	r.hearBetween(r.Away, said, newer, last)
	said = r.Said(r.ctx, r.Home)
	r.Away.In.Restore()
	r.must(r.Item.Cancel(r.ctx))
	if found := r.hear(r.Home, said); found.Last < last {
		t.Fatalf("after cancel record %d was announced, %d found", last, found.Last)
	}
	r.replicated()
	r.prove()

	// Committed at an older point, home lost: its newer state stays as the branch.
	point := r.newest()
	r.write(60)
	r.replicated()
	atLoss := r.console.Last()
	r.must(r.Lose(r.ctx, r.Home))
	said = r.Said(r.ctx, r.Away)
	r.must(r.Item.FailOver(r.ctx, point.Position))
	r.hear(r.Away, said)
	r.must(r.Item.Commit(r.ctx))
	r.must(r.Restore(r.ctx, r.Home))
	took := r.reprotect()
	if took.Branch.Position.IsZero() {
		t.Fatal("no branch of lost writes")
	}
	view, err := r.Home.Side.Target.OpenView(r.ctx, homeward.ViewRequest{Item: r.Item.ID(), Name: "lost", Kind: homeward.ViewReadOnly, Point: took.Branch.Position})
	r.must(err)
	r.holds(view, atLoss)
	// A scratch view while replication goes on: written to, and gone with it.
	scratch, err := r.Home.Side.Target.OpenView(r.ctx, homeward.ViewRequest{Item: r.Item.ID(), Name: "rehearsal", Kind: homeward.ViewScratch})
	r.must(err)
	r.runsOn(scratch)
	r.must(r.closeView("rehearsal"))
	r.must(r.closeView("lost"))
	r.replicated()
	r.prove()
}

func (r *rig) closeView(name string) error {
	_, err := r.Item.Standby.Target.CloseView(r.ctx, homeward.ViewRequest{Item: r.Item.ID(), Name: name})
	return err
}

// hearBetween listens like hear; what the machine found must be of a point.
func (r *rig) hearBetween(p *stage.Place, from int64, least, most uint64) {
	r.t.Helper()
	before := r.console
	r.console = nil // of the other side, which runs on
	found := r.hear(p, from)
	r.t.Cleanup(before.Stop)
	if found.Last < least || found.Last > most+1 {
		r.t.Fatalf("found record %d, the point is of %d to %d", found.Last, least, most)
	}
}

// A disk that grows while it is protected is noticed, and one that shrinks is
// refused, with what to do; the guest runs on within what it has.
func TestDiskChangesItsSizeWhileProtected(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{})
	r.write(20)
	image := strings.TrimPrefix(r.Home.Side.Disks[1], "file:")
	size := r.Machine().Disks[1].Size
	r.must(os.Truncate(image, size+4<<20))
	r.eventually("the agent to say that the disk has grown", func() (bool, error) {
		return strings.Contains(strings.Join(r.said(), " "), "web01-data"), nil
	})
	t.Log(r.said())
	r.write(20)
	r.must(os.Truncate(image, size))
	r.write(20)
	r.replicated()
	r.prove()
	r.Home.Agent.Kill()
	r.must(os.Truncate(image, size/2))
	r.must(r.Restart(r.ctx, r.Home.Agent))
	r.eventually("the agent to refuse the disk", func() (bool, error) {
		return strings.Contains(strings.Join(r.said(), " "), "web01-data"), nil
	})
	tells(t, strings.Join(r.said(), " "), "web01-data")
	t.Log(r.said())
}
