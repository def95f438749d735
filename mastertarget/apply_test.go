package mastertarget_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

func TestTarget_AppliesAndServesEveryPoint(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	for i := range 20 {
		kind := homeward.MarkCrash
		if i%4 == 1 {
			kind = homeward.MarkNone
		}
		if err := r.step(kind); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.points()); n != 15 {
		t.Fatalf("%d points, want 15", n)
	}
	r.check()
	if err := r.target.Thin(ctx, id); err != nil {
		t.Fatal(err)
	}
	r.check()
	r.crash(true)
	r.check()
}

// Whatever operation the power goes at, the replica and its chain afterwards
// show every point as it was, and nothing acknowledged is lost (I-9).
func TestTarget_PowerLossAtEveryOperation(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	for range 3 {
		if err := r.step(homeward.MarkCrash); err != nil {
			t.Fatal(err)
		}
	}
	for last := 1; last < 60; last++ {
		body, to := r.cut(homeward.MarkCrash, r.scribble())
		before := r.at
		r.power.count(last)
		err := r.put(body, to)
		acked := err == nil
		r.crash(last%3 == 0)
		s := must(r.target.Standing(ctx, homeward.StandingRequest{Item: id}))(t)
		if s.Fault != "" {
			t.Fatalf("power gone at operation %d: fault %s", last, s.Fault)
		}
		if s.Applied != to && (acked || s.Applied != before) {
			t.Fatalf("power gone at operation %d: stands at %v", last, s.Applied)
		}
		if last%4 == 0 { // the same delta again
			if err := r.put(body, to); err != nil {
				t.Fatalf("power gone at operation %d: again: %v", last, err)
			}
		}
		r.check()
		r.resume()
		if len(r.points()) > 12 {
			r.thinTo(6)
		}
	}
}

// thinTo keeps so many points, by a policy that drops older ones.
func (r *rig) thinTo(n int) {
	r.t.Helper()
	points := r.points()
	oldest := points[len(points)-n].At
	req := r.request()
	req.Base = homeward.Position{}.Base(r.gen)
	req.Policy.Retention = []homeward.Tier{{For: r.now().Sub(oldest)}}
	must(r.target.Prepare(ctx, req))(r.t)
	if err := r.target.Thin(ctx, id); err != nil {
		r.t.Fatal(err)
	}
	free := 0
	for _, p := range r.points() {
		if len(p.Pins) == 0 {
			free++
		}
	}
	if free > n+1 {
		r.t.Fatalf("%d points that nobody holds after thinning to %d", free, n)
	}
}

func TestTarget_RefusesWhatDoesNotFit(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	if err := r.step(homeward.MarkCrash); err != nil {
		t.Fatal(err)
	}
	// Another delta of the sequence that was applied.
	applied := r.at
	r.at = homeward.Position{}.Base(r.gen)
	body, _ := r.cut(homeward.MarkCrash, r.scribble())
	if _, err := r.target.Put(ctx, id, bytes.NewReader(body)); kindOf(err) != homeward.Conflict {
		t.Fatalf("another cut of an applied sequence: %v", err)
	}
	r.at = applied
	r.source = r.model[applied].clone()
	// A damaged one, at every 97th byte.
	body, to := r.cut(homeward.MarkCrash, r.scribble())
	for i := 0; i < len(body); i += 97 {
		bad := bytes.Clone(body)
		bad[i] ^= 0x10
		if _, err := r.target.Put(ctx, id, bytes.NewReader(bad)); err == nil {
			t.Fatalf("took a delta with byte %d flipped", i)
		}
	}
	r.check()
	if err := r.put(body, to); err != nil {
		t.Fatal(err)
	}
	// The same again is no error.
	if err := r.put(body, to); err != nil {
		t.Fatal(err)
	}
	// An old generation, and another id of the same number.
	must(r.target.SetGeneration(ctx, homeward.GenerationRequest{Item: id, Generation: homeward.Generation{Number: 2, ID: homeward.NewID()}}))(t)
	body, _ = r.cut(homeward.MarkCrash, r.scribble())
	if _, err := r.target.Put(ctx, id, bytes.NewReader(body)); kindOf(err) != homeward.Fenced {
		t.Fatalf("old generation: %v", err)
	}
	_, err := r.target.SetGeneration(ctx, homeward.GenerationRequest{Item: id, Generation: homeward.Generation{Number: 2, ID: homeward.NewID()}})
	if kindOf(err) != homeward.Fenced {
		t.Fatalf("same number, other id: %v", err)
	}
}

// A delta that comes before the one it follows waits for it.
func TestTarget_TakesDeltasInOrder(t *testing.T) {
	r := newRig(t)
	r.open()
	r.prepare()
	base := r.at
	one, p1 := r.cut(homeward.MarkCrash, r.scribble())
	r.model[p1] = r.source.clone()
	r.at = p1
	two, p2 := r.cut(homeward.MarkCrash, r.scribble())
	r.model[p2] = r.source.clone()
	done := make(chan error)
	go func() {
		_, err := r.target.Put(ctx, id, bytes.NewReader(two))
		done <- err
	}()
	r.at = base
	must(r.target.Put(ctx, id, bytes.NewReader(one)))(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s := must(r.target.Standing(ctx, homeward.StandingRequest{Item: id, Applied: p2, Wait: time.Second}))(t)
	if s.Applied != p2 {
		t.Fatalf("stands at %v", s.Applied)
	}
	r.check()
}
