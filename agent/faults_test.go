package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// An acknowledgement counts only if the whole position matches (I-7).
func TestPut_wrongAcknowledgement(t *testing.T) {
	r := newRig(t)
	var lies atomic.Int32
	r.target.lie = func(a *homeward.Ack) {
		if lies.Add(1) <= 3 {
			a.Position.Checksum[0]++
		}
	}
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(50)
	r.cut()
	if lies.Load() < 4 {
		t.Error("a false acknowledgement counted")
	}
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 50 {
		t.Errorf("the replica ends with write %d", n)
	}
}

// A sink that hangs costs a deadline, not the guest.
func TestPut_hangs(t *testing.T) {
	r := newRig(t)
	r.cfg.Tuning.PutTimeout = 100 * time.Millisecond
	var hung atomic.Int32
	r.target.Gate = func(ctx context.Context, _ homeward.ItemID) error {
		if hung.Add(1) <= 2 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(50)
	r.await("alarm", func(rep homeward.CaptureReport) bool { return hasAlarm(rep, alarmAway) })
	g.mustWrite(50)
	r.cut()
	if rep := r.report(); hasAlarm(rep, alarmAway) {
		t.Errorf("the alarm stays: %+v", rep.Alarms)
	}
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 100 {
		t.Errorf("the replica ends with write %d", n)
	}
}

// A hop that loses its spool shows another incarnation: what was only spooled is
// shipped again.
func TestSession_spoolLost(t *testing.T) {
	r := newRig(t)
	incarnation := homeward.NewID()
	r.target.lie = func(a *homeward.Ack) { a.Incarnation = incarnation }
	r.target.stand = func(s *homeward.Standing) { s.Incarnation = incarnation }
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	for range 5 {
		g.mustWrite(100)
		r.cut()
		r.target.set(func() { incarnation = homeward.NewID() })
	}
	g.checkPoints(t, r.target, "web01")
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 500 {
		t.Errorf("the replica ends with write %d", n)
	}
}

// A replica in a state this side does not know is never written to, and never
// silently: everything becomes suspect.
func TestSession_elsewhere(t *testing.T) {
	r := newRig(t)
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(50)
	r.cut()
	before := len(r.target.Applied("web01"))
	strange := homeward.Position{Generation: r.request.Generation, Sequence: 77, Cut: homeward.NewID()}
	if err := r.target.Prepare("web01", r.request.Generation, strange); err != nil {
		t.Fatal(err)
	}
	rep := r.await("alarm", func(rep homeward.CaptureReport) bool { return hasAlarm(rep, alarmElsewhere) })
	if rep.Complete || rep.Disks[0].SuspectBytes != diskSizes[0] {
		t.Errorf("the map is trusted: %+v", rep)
	}
	g.mustWrite(50) // the guest runs on
	c := r.changes()
	if c.Disks[1].SuspectBytes == 0 || len(c.Disks[1].Reasons) == 0 {
		t.Errorf("changes: %+v", c.Disks[1])
	}
	if _, err := r.agent.Cut(t.Context(), homeward.CutRequest{Item: "web01", Kind: homeward.MarkCrash}); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("cut: %v", err)
	}
	if n := len(r.target.Applied("web01")); n != before {
		t.Errorf("%d deltas were applied to it", n-before)
	}
}

// A hop that spooled deltas and dropped them, because its target went back to an
// older state, has the same incarnation: that it now has less than it acknowledged
// must be seen, though no put is refused.
func TestSession_spoolDropped(t *testing.T) {
	r := newRig(t)
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(50)
	older := r.cut().Position
	g.mustWrite(50)
	r.cut()
	r.target.set(func() {
		r.target.lie = func(a *homeward.Ack) { a.Applied = false }
		r.target.stand = func(s *homeward.Standing) { s.Applied, s.Spooled = older, older }
	})
	g.mustWrite(50)
	rep := r.await("alarm", func(rep homeward.CaptureReport) bool { return hasAlarm(rep, alarmElsewhere) })
	if rep.Complete || rep.Disks[0].SuspectBytes != diskSizes[0] {
		t.Errorf("the map is trusted: %+v", rep)
	}
}

// A replica that stands at a delta whose acknowledgement never came is where the
// chain says it may be: replication goes on from there, also after a restart.
func TestSession_unacknowledged(t *testing.T) {
	r := newRig(t)
	var lost atomic.Bool
	g := connect(t, r.start(), r.rng, 0)
	g.mustWrite(50)
	r.cut()
	before := len(r.target.Applied("web01")) // now, for what is written next may be applied at once
	lost.Store(true)
	r.target.set(func() {
		r.target.lie = func(a *homeward.Ack) {
			if lost.Load() {
				a.Position.Sequence += 1000
			}
		}
	})
	g.mustWrite(50)
	for len(r.target.Applied("web01")) == before {
		time.Sleep(time.Millisecond)
	}
	g.close()
	r.close()
	lost.Store(false)
	r.open()
	g.disks = connect(t, r.report(), r.rng, 0).disks
	defer g.close()
	g.mustWrite(50)
	r.cut()
	g.checkPoints(t, r.target, "web01")
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 150 {
		t.Errorf("the replica ends with write %d", n)
	}
}

// Without changes a mark is sent now and then, and the RPO counts from the last look.
func TestLoop_idle(t *testing.T) {
	r := newRig(t)
	r.cfg.Tuning.IdleAfter = 200 * time.Millisecond
	r.request.Policy.RPOThreshold = time.Hour
	r.start()
	first := r.cut()
	rep := r.await("idle", func(rep homeward.CaptureReport) bool {
		return rep.AppliedAt.Sub(first.Mark.At) > time.Second
	})
	sent := len(r.target.Applied("web01"))
	if cuts := int(rep.AppliedAt.Sub(first.Mark.At) / r.request.Policy.MinInterval); sent >= cuts {
		t.Errorf("%d marks for %d looks", sent, cuts)
	}
	if hasAlarm(rep, alarmRPO) {
		t.Errorf("%+v", rep.Alarms)
	}
}

// The set is not whole before MarkChanged says so: what travels has no mark.
func TestMarkChanged(t *testing.T) {
	r := newRig(t)
	r.request.Incomplete, r.request.InitialAll = true, false
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(50)
	r.await("shipped", func(rep homeward.CaptureReport) bool {
		return rep.Disks[0].DirtyBytes == 0 && rep.Disks[1].DirtyBytes == 0 && rep.Sent.DirtyBytes > 0
	})
	r.target.points(t, "web01", func(p homeward.Position, m homeward.Mark, _ shiptest.Content) { t.Errorf("point %v %v", p, m.Kind) })
	cut := homeward.CutRequest{Item: "web01", Kind: homeward.MarkCrash}
	if _, err := r.agent.Cut(t.Context(), cut); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("cut of an incomplete set: %v", err)
	}
	mark := homeward.MarkRequest{Item: "web01", Generation: r.request.Generation, Complete: true, FullReads: 4096}
	old := mark
	old.Generation = homeward.Generation{Number: 1, ID: homeward.NewID()}
	if _, err := r.agent.MarkChanged(t.Context(), old); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("marked under another generation: %v", err)
	}
	if _, err := r.agent.MarkChanged(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	r.cut()
	if g.checkPoints(t, r.target, "web01") == 0 {
		t.Error("no point")
	}
	if rep := r.report(); rep.Sent.FullReads != 4096 || !rep.Complete {
		t.Errorf("%+v", rep)
	}
}

// What makes the set whole is marked just after a cut: that cut is no state of the
// machine yet, and its mark must not say so.
func TestMarkChanged_amidCut(t *testing.T) {
	r := newRig(t)
	r.request.InitialAll, r.request.Incomplete = false, true
	missed := block.NewMap(block.BlocksOf(diskSizes[0]))
	missed.Set(7, 1)
	data, err := missed.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	marked := make(chan struct{})
	r.cfg.Fault = func(point string) {
		if point != "cut" {
			return
		}
		once.Do(func() {
			defer close(marked)
			_, err := r.agent.MarkChanged(context.Background(), homeward.MarkRequest{Item: "web01", Generation: r.request.Generation,
				Disks: []homeward.DiskChanges{{Disk: r.request.Machine.Disks[0].ID, Changed: data}}, Complete: true})
			if err != nil {
				t.Error(err)
			}
		})
	}
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(5)
	<-marked
	r.cut()
	r.target.points(t, "web01", func(p homeward.Position, m homeward.Mark, c shiptest.Content) {
		if _, ok := c[shiptest.Block{Disk: 0, Index: 7}]; !ok {
			t.Errorf("point %v (%s) lacks a block that was marked before the set was whole", p, m.Kind)
		}
	})
}

// After a kill the disk may still be busy with the old agent's requests. A guest
// must not be answered before it is open: it would be told that it is gone.
func TestOpen_diskInUseForAMoment(t *testing.T) {
	r := newRig(t)
	g := connect(t, r.start(), r.rng, 10*time.Second)
	defer g.close()
	g.mustWrite(10)
	r.close()
	var tries atomic.Int32
	r.cfg.Openers = block.Openers{"file": func(ctx context.Context, ref string, m block.Mode) (block.Disk, error) {
		if tries.Add(1) <= 3 {
			return nil, homeward.Errorf("open disk", homeward.InUse, ref, "wait", "the old agent has it")
		}
		return block.OpenFile(ctx, ref, m)
	}}
	r.open()
	if rep := r.report(); rep.Disks[0].URI == "" || hasAlarm(rep, alarmDisks) || tries.Load() < 4 {
		t.Errorf("guests are answered after %d tries: %+v", tries.Load(), rep)
	}
	g.mustWrite(10)
}
