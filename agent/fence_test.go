package agent

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/nbd"
)

// away is a sink that cannot be reached while it says so.
type away struct {
	homeward.Sink
	gone atomic.Bool
}

func (s *away) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	if s.gone.Load() {
		return homeward.Standing{}, homeward.Errorf("dial", homeward.Unavailable, "target", "", "no route")
	}
	return s.Sink.Standing(ctx, req)
}

func (s *away) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	if s.gone.Load() {
		return homeward.Ack{}, homeward.Errorf("dial", homeward.Unavailable, "target", "", "no route")
	}
	return s.Sink.Put(ctx, item, body)
}

func (r *rig) throughAway() *away {
	s := &away{Sink: r.target}
	r.cfg.Dial = func(string) homeward.Sink { return s }
	return s
}

// dial tells whether an export can be connected to.
func dial(t *testing.T, uri string) error {
	t.Helper()
	c, err := nbd.Dial(t.Context(), nbd.ClientOptions{URI: uri, DialTimeout: time.Second})
	if err == nil {
		err = c.Close()
	}
	return err
}

// A side that comes back after another took over never exports for writing (I-6).
func TestResume_fenced(t *testing.T) {
	r := newRig(t)
	rep := r.start()
	r.close()
	if err := r.target.Fence("web01", r.request.Generation.Next()); err != nil {
		t.Fatal(err)
	}
	r.open()
	again := r.report()
	if again.State != homeward.CaptureHeld || !hasAlarm(again, alarmFenced) || again.Generation.Number != 2 {
		t.Errorf("%+v", again)
	}
	if err := dial(t, rep.Disks[0].URI); err == nil {
		t.Error("exported under an old generation")
	}
	if _, err := r.agent.Prepare(t.Context(), r.request); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("prepared again: %v", err)
	}
	if c := r.changes(); c.Generation.Number != 2 {
		t.Errorf("its map cannot be read: %+v", c)
	}
}

func TestResume_nobodyKnows(t *testing.T) {
	for _, policy := range []string{homeward.OrphanStart, homeward.OrphanHold} {
		t.Run(policy, func(t *testing.T) {
			r := newRig(t)
			r.request.Policy.Orphan = policy
			sink := r.throughAway()
			rep := r.start()
			r.close()
			sink.gone.Store(true)
			r.open()
			again := r.report()
			err := dial(t, rep.Disks[0].URI)
			held := again.State == homeward.CaptureHeld && err != nil
			if held != (policy == homeward.OrphanHold) || !hasAlarm(again, alarmUnknown) {
				t.Errorf("%v %+v", err, again)
			}
			sink.gone.Store(false)
			again = r.await("running", func(rep homeward.CaptureReport) bool {
				return rep.State == homeward.CaptureRunning && !hasAlarm(rep, alarmUnknown)
			})
			if again.Disks[0].URI != rep.Disks[0].URI {
				t.Error("the guest would have to move")
			}
		})
	}
}

// A raised generation cuts the guest off, in the middle of its writes.
func TestFenced_running(t *testing.T) {
	for name, raise := range map[string]func(r *rig, g homeward.Generation) error{
		"by the target": func(r *rig, g homeward.Generation) error { return r.target.Fence("web01", g) },
		"by the agent": func(r *rig, g homeward.Generation) error {
			_, err := r.agent.SetGeneration(r.t.Context(), homeward.GenerationRequest{Item: "web01", Generation: g})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			rep := r.start()
			g := connect(t, rep, r.rng, 200*time.Millisecond)
			defer g.close()
			g.mustWrite(50)
			next := r.request.Generation.Next()
			if err := raise(r, next); err != nil {
				t.Fatal(err)
			}
			for g.write(1) == nil { // until it is cut off
			}
			held := r.await("held", func(rep homeward.CaptureReport) bool {
				return rep.State == homeward.CaptureHeld && hasAlarm(rep, alarmFenced)
			})
			if held.Generation != next {
				t.Errorf("%+v", held)
			}
			if err := dial(t, rep.Disks[0].URI); err == nil {
				t.Error("an old client came back")
			}
			old := homeward.GenerationRequest{Item: "web01", Generation: r.request.Generation}
			if _, err := r.agent.SetGeneration(t.Context(), old); homeward.KindOf(err) != homeward.Fenced {
				t.Errorf("lowered: %v", err)
			}
		})
	}
}

// Handover under load (I-11): when it answers, no write that was acknowledged is
// missing in the map, and none is acknowledged any more.
func TestHandover(t *testing.T) {
	r := newRig(t)
	rep := r.start()
	g := connect(t, rep, r.rng, 200*time.Millisecond)
	defer g.close()
	g.mustWrite(100)
	r.cut()
	var writing sync.WaitGroup
	writing.Go(func() {
		for g.write(1) == nil {
		}
	})
	time.Sleep(20 * time.Millisecond) // some more writes, however many
	next := homeward.GenerationRequest{Item: "web01", Generation: r.request.Generation.Next()}
	if _, err := r.agent.Handover(t.Context(), homeward.GenerationRequest{Item: "web01", Generation: r.request.Generation}); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("handed over under its own generation: %v", err)
	}
	c, err := r.agent.Handover(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	writing.Wait()
	r.checkCovered(g, c)
	again, err := r.agent.Handover(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	r.checkCovered(g, again)
	r.close()
	r.open() // it survives a restart
	again, err = r.agent.Handover(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	r.checkCovered(g, again)
	if state := r.report(); state.State != homeward.CaptureHandedOff || state.Phase != "handed over" {
		t.Errorf("%+v", state)
	}
	if err := dial(t, rep.Disks[0].URI); err == nil {
		t.Error("exported after the handover")
	}
	r.release(next)
}

// checkCovered checks I-0: every write that the replica lacks is in the map.
func (r *rig) checkCovered(g *guest, c homeward.Changes) {
	r.t.Helper()
	content := r.target.Content("web01")
	applied := r.target.Applied("web01")
	stands := false
	for _, p := range append(c.Pending, c.Since) {
		stands = stands || p == applied[len(applied)-1]
	}
	if !stands {
		r.t.Error("the replica stands where the map does not say it may")
	}
	for i := range c.Disks {
		m, err := block.UnmarshalMap(c.Disks[i].Changed, r.request.Machine.Disks[i].Blocks())
		if err != nil {
			r.t.Fatal(err)
		}
		for n, at := range g.journal {
			if at.Disk == i && number(content[at]) < uint64(n+1) && !m.Has(at.Index) {
				r.t.Fatalf("write %d to %v is neither at the replica nor in the map", n+1, at)
			}
		}
	}
}

// release gives the item up; what is older stays refused.
func (r *rig) release(next homeward.GenerationRequest) {
	t := r.t
	t.Helper()
	if _, err := r.agent.Release(t.Context(), homeward.GenerationRequest{Item: "web01", Generation: r.request.Generation}); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("released under an old generation: %v", err)
	}
	for range 2 {
		if _, err := r.agent.Release(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.agent.Report(t.Context(), r.item()); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("still known: %v", err)
	}
	r.close()
	r.open()
	if _, err := r.agent.Prepare(t.Context(), r.request); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("an old Prepare came through: %v", err)
	}
	d, err := block.OpenFile(t.Context(), r.request.Disks[0], block.Mode{})
	if err != nil {
		t.Fatalf("the disk is not free: %v", err)
	}
	_ = d.Close()
}

// A cancelled failover takes the side that was handed over back: its map stays.
func TestPrepare_afterHandover(t *testing.T) {
	for name, known := range map[string]bool{"known position": true, "known position, by its older name": true, "strange position": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			sink := r.throughAway()
			g := connect(t, r.start(), r.rng, 0)
			g.mustWrite(50)
			r.cut()
			sink.gone.Store(true)
			r.target.Gate = nil
			next := r.request.Generation.Next()
			if err := r.target.Fence("web01", next); err != nil { // the target does not take more
				t.Fatal(err)
			}
			_ = g.write(30) // the replica never gets these
			g.close()
			if _, err := r.agent.Handover(t.Context(), homeward.GenerationRequest{Item: "web01", Generation: next}); err != nil {
				t.Fatal(err)
			}
			applied := r.target.Applied("web01")
			r.request.Generation, r.request.InitialAll = next, false
			r.request.Base = applied[len(applied)-1].Base(next)
			if !known {
				r.request.Base = homeward.Position{Cut: homeward.NewID()}.Base(next)
			}
			if err := r.target.Prepare("web01", next, r.request.Base); err != nil {
				t.Fatal(err)
			}
			if name == "known position, by its older name" { // a master target stands where it stood
				base, older := r.request.Base, applied[len(applied)-1]
				r.target.set(func() {
					r.target.stand = func(st *homeward.Standing) {
						if st.Applied == base {
							st.Applied, st.Spooled = older, older
						}
					}
				})
			}
			sink.gone.Store(false)
			rep := r.prepare()
			if !known {
				if rep.Complete || rep.Disks[0].SuspectBytes != diskSizes[0] {
					t.Errorf("a map is trusted against a strange replica: %+v", rep)
				}
				return
			}
			g.disks = connect(t, rep, r.rng, 0).disks
			defer g.close()
			g.mustWrite(20)
			r.cut()
			if n := g.checkPrefix(t, r.target.Content("web01")); n != uint64(len(g.journal)) {
				t.Errorf("the replica ends with write %d of %d", n, len(g.journal))
			}
		})
	}
}
