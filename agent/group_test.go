package agent

import (
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// The cut that a hold waits for goes to the backlog: the replica is behind then,
// though it was not when the hold was asked for.
func TestHold_backlogMeanwhile(t *testing.T) {
	r := newRig(t)
	r.start()
	it, l, err := r.agent.findLeg("", "web01")
	if err != nil {
		t.Fatal(err)
	}
	it.calls.Lock()
	it.halt() // the test is the loop now
	it.calls.Unlock()
	asked := 0
	l.complete = func() bool {
		if asked++; asked == 1 {
			return true
		}
		m := block.NewMap(block.BlocksOf(diskSizes[0]))
		m.Set(0, 1)
		if err := l.backlog.add(0, m); err != nil {
			t.Error(err)
		}
		return true
	}
	err = l.hold(t.Context(), homeward.HoldRequest{Item: "web01", Token: homeward.NewID()})
	if homeward.KindOf(err) != homeward.Busy {
		t.Errorf("held with a backlog: %v", err)
	}
	if l.turn.holder != nil {
		t.Error("the turn is not back")
	}
}

// A group's cut comes just when the session ends: it is given up, and others are made.
func TestCutHeld_sessionOver(t *testing.T) {
	r := newRig(t)
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(5)
	r.cut()
	_, l, err := r.agent.findLeg("", "web01")
	if err != nil {
		t.Fatal(err)
	}
	req := homeward.HoldRequest{Item: "web01", Token: homeward.NewID(), Deadline: holdMost}
	if err := l.hold(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	r.request.Sink = "https://other:1"
	r.prepare() // ends it
	l.mu.Lock()
	l.session = s // as cutHeld saw it
	l.mu.Unlock()
	if _, err := l.cutHeld(t.Context(), req.Token); homeward.KindOf(err) != homeward.Unavailable {
		t.Errorf("cut in a session that is over: %v", err)
	}
	g.mustWrite(5)
	r.cut()
	if n := g.checkPoints(t, r.target, "web01"); n < 2 {
		t.Errorf("%d points", n)
	}
}
