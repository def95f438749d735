package capture

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

func TestRoundOfCuts(t *testing.T) {
	r := newRig(t, rigBlocks*block.Size-512, 1<<20)
	if s := r.Started(); s.Kind != StartFresh || len(s.Reasons) > 0 {
		t.Fatalf("started %+v", s)
	}
	r.fill(0, 10, 2, 'a')
	r.write(0, 20*block.Size+4000, make([]byte, 200)) // across a boundary
	r.write(1, 512, []byte("x"))
	c := r.cut(CutOptions{})
	wantRuns(t, "map of disk 0", c.Map(0), block.Run{Start: 10, Count: 2}, block.Run{Start: 20, Count: 2})
	wantRuns(t, "map of disk 1", c.Map(1), block.Run{Start: 0, Count: 1})
	r.fill(0, 10, 1, 'b')
	r.fill(0, rigBlocks-2, 1, 'b')
	if got := r.frozen(c, 0, 10); !bytes.Equal(got, pattern(1, 'a')) {
		t.Errorf("frozen content is newer than the cut: %q", got[:4])
	}
	if err := c.ReadBlocks(0, 12, 1, make([]byte, block.Size)); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("reading a block that is not frozen: %v", err)
	}
	if _, err := r.Cut(context.Background(), CutOptions{}); !errors.Is(err, ErrCutOpen) {
		t.Errorf("second cut: %v", err)
	}
	c.Shipped(0, 10, 2)
	if err := c.ReadBlocks(0, 10, 1, make([]byte, block.Size)); !errors.Is(err, ErrReleased) {
		t.Errorf("reading a shipped block: %v", err)
	}
	r.must(c.Spooled())
	r.must(c.Spooled())
	if err := c.ReadBlocks(0, 11, 1, make([]byte, block.Size)); !errors.Is(err, ErrReleased) {
		t.Errorf("reading a spooled cut: %v", err)
	}
	all := []block.Run{{Start: 10, Count: 2}, {Start: 20, Count: 2}, {Start: rigBlocks - 2, Count: 1}}
	wantRuns(t, "dirty", r.Dirty(0), all...)
	wantRuns(t, "unapplied", r.Unapplied(0), all[:2]...)
	r.must(c.Applied())
	wantRuns(t, "dirty after applied", r.Dirty(0), block.Run{Start: 10, Count: 1}, all[2])
	c = r.cut(CutOptions{})
	wantRuns(t, "map of the second cut", c.Map(0), block.Run{Start: 10, Count: 1}, all[2])
	r.must(c.Demote())
	if !errors.Is(c.Err(), ErrDemoted) || !errors.Is(c.Spooled(), ErrDemoted) {
		t.Errorf("demoted cut says %v", c.Err())
	}
	wantRuns(t, "dirty after demotion", r.Dirty(0), block.Run{Start: 10, Count: 1}, all[2])
	r.must(r.Close(context.Background()))
	r.open()
	if s := r.Started(); s.Kind != StartClean {
		t.Errorf("after a clean detach: %+v", s)
	}
	wantRuns(t, "dirty after reopening", r.Dirty(0), block.Run{Start: 10, Count: 1}, all[2])
	wantRuns(t, "suspect after reopening", r.Suspect(0))
}

// While the oldest cut waits to be applied, newer ones gather, and all go in order.
func TestGenerations(t *testing.T) {
	r := newRig(t, 1<<20)
	var cuts []*Cut
	for i := range int64(5) {
		r.fill(0, i, 1, 'x')
		c := r.cut(CutOptions{})
		r.must(c.Spooled())
		cuts = append(cuts, c)
	}
	if err := cuts[1].Applied(); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("applied out of order: %v", err)
	}
	r.must(cuts[0].Applied())
	wantRuns(t, "the first generation is gone", r.Dirty(0), block.Run{Start: 1, Count: 4})
	r.fill(0, 9, 1, 'x')
	last := r.cut(CutOptions{})
	for _, c := range cuts[1:] {
		wantRuns(t, "second generation", r.Unapplied(0), block.Run{Start: 1, Count: 4})
		r.must(c.Applied())
	}
	wantRuns(t, "unapplied", r.Unapplied(0))
	r.must(last.Spooled())
	r.must(r.Reship())
	if err := last.Applied(); !errors.Is(err, ErrReleased) {
		t.Errorf("applied after Reship: %v", err)
	}
	wantRuns(t, "active after Reship", r.cut(CutOptions{}).Map(0), block.Run{Start: 9, Count: 1})
}

// Cuts without blocks, as a guest at rest makes them, keep no blocks of others dirty.
func TestGenerations_emptyCuts(t *testing.T) {
	r := newRig(t, 1<<20)
	var cuts []*Cut
	for i := range int64(2) {
		r.fill(0, i, 1, 'x')
		for range 2 { // every other one is empty
			c := r.cut(CutOptions{})
			r.must(c.Spooled())
			cuts = append(cuts, c)
		}
	}
	r.must(cuts[0].Applied())
	r.must(cuts[1].Applied())
	wantRuns(t, "dirty after the first", r.Dirty(0), block.Run{Start: 1, Count: 1})
	r.must(cuts[2].Applied())
	wantRuns(t, "dirty after all with blocks", r.Dirty(0))
	r.must(cuts[3].Applied())
	c := r.cut(CutOptions{})
	r.must(c.Spooled())
	if err := c.Demote(); !errors.Is(err, ErrReleased) {
		t.Errorf("demoting a spooled cut: %v", err)
	}
}

func TestHandover(t *testing.T) {
	r := newRig(t, 1<<20)
	r.fill(0, 3, 1, 'x')
	r.must(r.Handover(context.Background()))
	r.must(r.Handover(context.Background()))
	if _, err := r.Disk(0).WriteAt([]byte("y"), 0); !errors.Is(err, ErrHandedOver) || homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("write after handover: %v", err)
	}
	wantRuns(t, "final map", r.Dirty(0), block.Run{Start: 3, Count: 1})
	r.must(r.Close(context.Background()))
	r.open()
	if s := r.Started(); s.Kind != StartHandedOver {
		t.Errorf("started %+v", s)
	}
	if _, err := r.Disk(0).WriteAt([]byte("y"), 0); !errors.Is(err, ErrHandedOver) {
		t.Errorf("write after handover and restart: %v", err)
	}
	wantRuns(t, "final map after restart", r.Dirty(0), block.Run{Start: 3, Count: 1})
	r.must(r.Close(context.Background()))
	r.must(Forget(r.cfg))
	r.open()
	if s := r.Started(); s.Kind != StartFresh {
		t.Errorf("after Forget: %+v", s)
	}
}
