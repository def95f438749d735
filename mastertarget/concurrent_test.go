package mastertarget_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// Views show their point whatever is applied, merged and thinned meanwhile, and
// digests of a point do not change.
func TestTarget_ViewsHoldWhileItMoves(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(12)
	var g errgroup.Group
	stop := make(chan struct{})
	for i, p := range r.points()[2:7] {
		want := r.model[p.Position]
		seed := r.rng.Uint64()
		v := must(r.target.OpenView(ctx, homeward.ViewRequest{Item: id, Name: fmt.Sprintf("v%d", i), Point: p.Position, Kind: homeward.ViewReadOnly}))(t)
		disks := []block.Disk{r.nbd.disk(t, v.Disks[0].URI), r.nbd.disk(t, v.Disks[1].URI)}
		g.Go(func() error {
			rng := rand.New(rand.NewPCG(seed, 0))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return nil
				default:
				}
				d := rng.IntN(2)
				size := disks[d].Size()
				off := rng.Int64N(size)
				buf := make([]byte, min(size-off, 1+rng.Int64N(100_000)))
				if _, err := disks[d].ReadAt(buf, off); err != nil {
					return err
				}
				if !bytes.Equal(buf, want[d][off:off+int64(len(buf))]) {
					return fmt.Errorf("view %d: disk %d at %d differs", i, d, off)
				}
			}
		})
	}
	g.Go(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if err := r.target.Thin(ctx, id); err != nil {
				return err
			}
		}
	})
	for range 30 {
		if err := r.step(homeward.MarkCrash); err != nil {
			t.Fatal(err)
		}
		if r.rng.IntN(10) == 0 {
			r.thinTo(4)
		}
	}
	close(stop)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	r.check()
}

// A machine runs, and is checked, all through its promotion.
func TestPromote_BehindARunningMachine(t *testing.T) {
	rng := powerloss.Rand(t)
	for range 4 {
		r := newRigWith(t, rng)
		r.open()
		r.prepare()
		r.steps(8)
		p := r.points()[2]
		older := r.points()[1]
		v := must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: p.Position}))(t)
		m := boot(t, rand.New(rand.NewPCG(rng.Uint64(), 0)), r.model[p.Position])
		m.attach(r, v, true)
		var g errgroup.Group
		done := make(chan struct{})
		g.Go(func() error {
			for {
				if err := m.work(10); err != nil {
					return err
				}
				select {
				case <-done:
					return nil
				default:
				}
			}
		})
		if err := r.promoted(r.gen); err != nil {
			t.Fatal(err)
		}
		close(done)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		m.attach(r, r.report().Views[0], true)
		r.checkPoint("a", p.Position)
		r.checkPoint("b", older.Position)
		if n := len(r.points()); n != 3 {
			t.Fatalf("%d points after the promotion, want those up to the one that ran", n)
		}
		for i, d := range r.machine.Disks { // the machine's writes are in the replica itself
			if b := firstDifference(readAll(t, r.disks[string(d.ID)]), m.content()[i]); b >= 0 {
				t.Fatalf("replica disk %s block %d is not the machine's", d.ID, b)
			}
		}
		_ = r.target.Close(ctx)
		r.target = nil
	}
}

func TestDigest_OfPointsAndOfWhatRuns(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(7)
	root := func(c content, disk int) block.Hash {
		m := block.NewMemory(int64(len(c[disk])))
		must(m.WriteAt(c[disk], 0))(t)
		return must(block.NewTree(m).Hashes(ctx, 1, 0, 1))(t)[0]
	}
	ask := func(at homeward.Position, disk int) block.Hash {
		t.Helper()
		rep := must(r.target.Digest(ctx, homeward.DigestRequest{Item: id, Disk: r.machine.Disks[disk].ID, At: at, Level: 1, Count: 1}))(t)
		return block.Hash(rep.Hashes)
	}
	for range 2 {
		for _, p := range r.points() {
			for disk := range r.machine.Disks {
				if ask(p.Position, disk) != root(r.model[p.Position], disk) {
					t.Fatalf("digest of %v disk %d is another", p.Position, disk)
				}
			}
		}
		if ask(homeward.Position{}, 1) != root(r.source, 1) {
			t.Fatal("digest of the replica as it is is another")
		}
		r.steps(2)
	}
	within := block.NewMap(r.machine.Disks[1].Blocks())
	within.Set(5, 2)
	data := must(within.MarshalBinary())(t)
	rep := must(r.target.Digest(ctx, homeward.DigestRequest{Item: id, Disk: "data", Level: 0, Index: 4, Count: 4, Within: data}))(t)
	for i := range 4 {
		zero := block.Hash(rep.Hashes[i*32:i*32+32]) == block.Hash{}
		if zero != (i == 0 || i == 3) {
			t.Fatalf("hash %d of blocks 4 to 7, of which 5 and 6 were asked for: zero %v", i, zero)
		}
	}
}

// A digest of a state that ends while it is read is refused, and nothing of it is
// kept for a later state.
func TestDigest_OfAStateThatEnds(t *testing.T) {
	for name, end := range map[string]func(r *rig, to homeward.Position){
		"roll back": func(r *rig, to homeward.Position) {
			must(r.target.RollBack(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: to}))(r.t)
		},
		"promote": func(r *rig, to homeward.Position) {
			must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: to}))(r.t)
			if err := r.promoted(r.gen); err != nil {
				r.t.Error(err)
			}
		},
		"reopen": func(r *rig, to homeward.Position) {
			r.fs.Fail("sync", "position", 1, errPower)
			if err := r.step(homeward.MarkCrash); err == nil {
				r.t.Error("the power is there")
			}
			req := r.request()
			req.Base = homeward.Position{}.Base(r.gen)
			must(r.target.Prepare(ctx, req))(r.t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.open()
			r.prepare()
			r.steps(6)
			to, newest := r.points()[1].Position, r.at
			ask := func(at homeward.Position) (homeward.DigestReport, error) {
				return r.target.Digest(ctx, homeward.DigestRequest{Item: id, Disk: "data", At: at, Level: 1, Count: 1})
			}
			r.onRead = func() { end(r, to) }
			if rep, err := ask(newest); kindOf(err) != homeward.NotFound {
				t.Fatalf("answered %x, %v", rep.Hashes, err)
			}
			for at, want := range r.model {
				rep, err := ask(at)
				if err != nil {
					continue // it is gone
				}
				m := block.NewMemory(int64(len(want[1])))
				must(m.WriteAt(want[1], 0))(t)
				if block.Hash(rep.Hashes) != must(block.NewTree(m).Hashes(ctx, 1, 0, 1))(t)[0] {
					t.Fatalf("the digest of %v is another", at)
				}
			}
		})
	}
}

func TestView_ScratchIsGoneAndNamesAreBurnt(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(4)
	req := homeward.ViewRequest{Item: id, Name: "drill", Kind: homeward.ViewScratch}
	v := must(r.target.OpenView(ctx, req))(t)
	again := must(r.target.OpenView(ctx, req))(t)
	if again.Disks[0].URI != v.Disks[0].URI {
		t.Fatal("opening the same view again made another")
	}
	m := boot(t, r.rng, r.model[v.Point.Position])
	m.attach(r, v, true)
	if err := m.work(30); err != nil {
		t.Fatal(err)
	}
	m.attach(r, v, true)
	r.steps(2)
	m.attach(r, v, true)
	if r.report().Views[0].OverlayBytes == 0 {
		t.Fatal("the overlay takes no room")
	}
	must(r.target.CloseView(ctx, req))(t)
	req.Point = v.Point.Position
	other := must(r.target.OpenView(ctx, req))(t)
	if other.Disks[0].URI == v.Disks[0].URI {
		t.Fatal("the name of a closed view came back")
	}
	r.same(other, r.model[v.Point.Position])
	r.crash(true)
	if n := len(r.report().Views); n != 0 {
		t.Fatalf("%d views after a restart", n)
	}
	r.check()
}

func TestThin_ByPolicyAndPins(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	r.steps(30)
	points := r.points()
	hold := homeward.PinRequest{Item: id, Point: points[3].Position, Name: "hold:audit"}
	must(r.target.Pin(ctx, hold))(t)
	r.thinTo(5)
	r.crash(false)
	r.check()
	got := r.points()
	if len(got) > 6 || got[0].Position != points[3].Position || got[0].Pins[0] != "hold:audit" {
		t.Fatalf("%d points, the oldest %v held by %v", len(got), got[0].Position, got[0].Pins)
	}
	must(r.target.Unpin(ctx, hold))(t)
	before := r.report().RetentionBytes
	if err := r.target.Thin(ctx, id); err != nil {
		t.Fatal(err)
	}
	if after := r.report().RetentionBytes; after >= before {
		t.Fatalf("%d bytes kept after, %d before", after, before)
	}
	r.check()
}

// The clock of the source may jump; times of points never go back.
func TestPoints_TimesAreMonotone(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	for i := range 12 {
		if i%4 == 2 {
			r.pass(-time.Hour)
		}
		if err := r.step(homeward.MarkCrash); err != nil {
			t.Fatal(err)
		}
	}
	r.crash(false)
	last := time.Time{}
	for _, p := range r.points() {
		if p.At.Before(last) {
			t.Fatalf("%v after %v", p.At, last)
		}
		last = p.At
	}
	r.check()
}
