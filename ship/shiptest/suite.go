package shiptest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/ship"
)

// patience is how long the suite waits for something that must happen.
const patience = 20 * time.Second

// Leg is what a factory prepares a sink for: an item whose disks are all zero
// and stand at Base, under Generation.
type Leg struct {
	Machine    homeward.Machine
	Generation homeward.Generation
	Base       homeward.Position
}

// Subject is a sink under test, prepared for a leg.
type Subject struct {
	Sink homeward.Sink
	// Fence raises the generation of the leg's item at the sink.
	Fence func(homeward.Generation) error
	// Content is what the disks hold behind the sink; nil: it cannot be seen.
	Content func() Content
}

// Factory makes a fresh sink; it cleans up with t.Cleanup.
type Factory func(t *testing.T, leg Leg) Subject

// Run holds a sink to the contract of homeward.Sink.
func Run(t *testing.T, factory Factory) {
	for name, test := range map[string]func(*testing.T, *rig){
		"InOrder":              inOrder,
		"DuplicatesAreNoError": duplicates,
		"GapConflicts":         gap,
		"ForkConflicts":        fork,
		"Concurrent":           concurrent,
		"Fenced":               fenced,
		"SameNumberOtherID":    otherID,
		"NewerGeneration":      newerGeneration,
		"CorruptTakesNothing":  corruptDelta,
		"TornTakesNothing":     torn,
		"BodyFails":            bodyFails,
		"TooLarge":             tooLarge,
		"OtherItem":            otherItem,
		"UndoRefused":          undo,
		"UnknownItem":          unknownItem,
		"StandingWaits":        standingWaits,
		"CanceledPut":          canceledPut,
		"CanceledStanding":     canceledStanding,
	} {
		t.Run(name, func(t *testing.T) {
			rng := Seed(t)
			g := homeward.Generation{Number: 1 + rng.Uint64N(9), ID: homeward.NewID()}
			source := NewSource("web01", homeward.Position{}.Base(g), rng)
			leg := Leg{Machine: source.Machine, Generation: g, Base: source.At()}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			t.Cleanup(cancel)
			test(t, &rig{Subject: factory(t, leg), Source: source, leg: leg, rng: rng, ctx: ctx})
		})
	}
}

type rig struct {
	Subject
	Source *Source
	leg    Leg
	rng    *rand.Rand
	ctx    context.Context
}

func (r *rig) put(d []byte) (homeward.Ack, error) {
	return r.Sink.Put(r.ctx, "web01", bytes.NewReader(d))
}

// mustPut puts d and holds the acknowledgement to I-7.
func (r *rig) mustPut(t *testing.T, d Delta) {
	t.Helper()
	ack, err := r.put(d.Bytes)
	if err != nil {
		t.Fatalf("put %v: %v", d.Position, err)
	}
	r.checkAck(t, d, ack)
}

func (r *rig) checkAck(t *testing.T, d Delta, ack homeward.Ack) {
	t.Helper()
	if ack.Position != d.Position {
		t.Errorf("acknowledged %v, put %v", ack.Position, d.Position)
	}
	if !ack.Applied && ack.Incarnation.IsZero() {
		t.Error("spooled, and no incarnation that would show the loss of the spool")
	}
}

// mustApply waits until p is applied and the content behind is the source's.
func (r *rig) mustApply(t *testing.T, p homeward.Position) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		st, err := r.Sink.Standing(r.ctx, homeward.StandingRequest{Item: "web01", Applied: p, Wait: 5 * time.Second})
		if err != nil {
			t.Fatalf("standing: %v", err)
		}
		if st.Known && st.Applied == p {
			if st.Spooled != p || st.Generation != p.Generation {
				t.Errorf("applied %v, and yet it stands at %+v", p, st)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v is not applied: %+v", p, st)
		}
	}
	if r.Content != nil {
		if diff := r.Content().Diff(r.Source.Content); diff != "" {
			t.Errorf("%s differs from the source", diff)
		}
	}
}

func (r *rig) mustRefuse(t *testing.T, what string, d []byte, kinds ...homeward.Kind) {
	t.Helper()
	_ = r.refusal(t, what, d, kinds...)
}

// refusal is the error of a put that must fail with one of these kinds.
func (r *rig) refusal(t *testing.T, what string, d []byte, kinds ...homeward.Kind) error {
	t.Helper()
	_, err := r.put(d)
	for _, k := range kinds {
		if homeward.KindOf(err) == k {
			return err
		}
	}
	t.Fatalf("%s: %v (kind %q), want one of %v", what, err, homeward.KindOf(err), kinds)
	return nil
}

func inOrder(t *testing.T, r *rig) {
	r.mustApply(t, r.leg.Base)
	for range 6 {
		r.mustPut(t, r.Source.Next(t))
	}
	r.mustApply(t, r.Source.At())
}

func duplicates(t *testing.T, r *rig) {
	var sent []Delta
	for range 4 {
		sent = append(sent, r.Source.Next(t))
		r.mustPut(t, sent[len(sent)-1])
		r.mustPut(t, sent[len(sent)-1])
	}
	for _, d := range sent { // a sender that lost a link with four in flight sends all four again
		r.mustPut(t, d)
	}
	r.mustApply(t, r.Source.At())
	for _, d := range sent {
		r.mustPut(t, d)
	}
	r.mustApply(t, r.Source.At())
}

func (r *rig) mustConflict(t *testing.T, d Delta, true_ homeward.Position) {
	t.Helper()
	err := r.refusal(t, "delta that does not follow", d.Bytes, homeward.Conflict)
	var position *homeward.PositionError
	if !errors.As(err, &position) {
		t.Fatalf("no PositionError in %v", err)
	}
	if position.True != true_ {
		t.Errorf("said to stand at %v, want %v", position.True, true_)
	}
}

func gap(t *testing.T, r *rig) {
	r.mustPut(t, r.Source.Next(t))
	before := r.Source.At()
	missing := r.Source.Next(t)
	after := r.Source.Next(t)
	r.mustConflict(t, after, before)
	r.mustPut(t, missing)
	r.mustPut(t, after)
	r.mustApply(t, r.Source.At())
}

func fork(t *testing.T, r *rig) {
	r.mustPut(t, r.Source.Next(t))
	base := r.Source.At()
	one := r.Source.Next(t)
	r.mustPut(t, one)
	other := NewSource("web01", base, r.rng)
	r.mustConflict(t, other.Next(t), one.Position)
	r.mustConflict(t, NewSource("web01", r.leg.Base, r.rng).Next(t), one.Position)
	r.mustPut(t, r.Source.Next(t))
	r.mustApply(t, r.Source.At())
}

func concurrent(t *testing.T, r *rig) {
	for range 5 {
		batch := make([]Delta, 4)
		for i := range batch {
			batch[i] = r.Source.Next(t)
		}
		var wg sync.WaitGroup
		for _, i := range r.rng.Perm(len(batch)) {
			wg.Go(func() {
				ack, err := r.put(batch[i].Bytes)
				if err != nil {
					t.Errorf("put %v: %v", batch[i].Position, err)
					return
				}
				r.checkAck(t, batch[i], ack)
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
	}
	r.mustApply(t, r.Source.At())
}

func fenced(t *testing.T, r *rig) {
	r.mustPut(t, r.Source.Next(t))
	late := r.Source.Next(t)
	next := r.leg.Generation.Next()
	if err := r.Fence(next); err != nil {
		t.Fatal(err)
	}
	r.mustBeFenced(t, late, next)
	if err := r.Fence(next); err != nil {
		t.Errorf("raising to the generation in force: %v", err)
	}
	if err := r.Fence(r.leg.Generation); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("raising to an older generation: %v", err)
	}
	st, err := r.Sink.Standing(r.ctx, homeward.StandingRequest{Item: "web01"})
	if err != nil || st.Generation != next {
		t.Errorf("standing %+v, %v; want generation %v", st, err, next)
	}
}

func (r *rig) mustBeFenced(t *testing.T, d Delta, inForce homeward.Generation) {
	t.Helper()
	err := r.refusal(t, "delta of an older generation", d.Bytes, homeward.Fenced)
	var fence *homeward.FencedError
	if !errors.As(err, &fence) || fence.InForce != inForce {
		t.Errorf("the refusal does not say that %v is in force: %v", inForce, err)
	}
}

func otherID(t *testing.T, r *rig) {
	other := homeward.Generation{Number: r.leg.Generation.Number, ID: homeward.NewID()}
	r.mustBeFenced(t, NewSource("web01", homeward.Position{}.Base(other), r.rng).Next(t), r.leg.Generation)
	r.mustPut(t, r.Source.Next(t))
	r.mustApply(t, r.Source.At())
}

func newerGeneration(t *testing.T, r *rig) {
	newer := r.leg.Generation.Next()
	d := NewSource("web01", homeward.Position{}.Base(newer), r.rng).Next(t)
	r.mustRefuse(t, "delta of a generation that was not prepared", d.Bytes, homeward.Conflict)
	r.mustPut(t, r.Source.Next(t))
	r.mustApply(t, r.Source.At())
}

func corruptDelta(t *testing.T, r *rig) {
	r.mustPut(t, r.Source.Next(t))
	before := r.Source.At()
	d := r.Source.Next(t)
	for range 40 {
		bad := bytes.Clone(d.Bytes)
		at := r.rng.IntN(len(bad))
		bad[at] ^= 1 << r.rng.IntN(8)
		// A flip in version or length fields shows as unsupported or invalid.
		r.mustRefuse(t, "flipped delta", bad, homeward.Corrupt, homeward.Unsupported, homeward.Invalid)
	}
	r.mustRefuse(t, "delta with a tail", append(bytes.Clone(d.Bytes), 0), homeward.Corrupt)
	r.mustStand(t, before)
	r.mustPut(t, d)
	r.mustApply(t, r.Source.At())
}

// mustStand checks that nothing but p was taken.
func (r *rig) mustStand(t *testing.T, p homeward.Position) {
	t.Helper()
	st, err := r.Sink.Standing(r.ctx, homeward.StandingRequest{Item: "web01", Applied: p, Wait: patience})
	if err != nil || st.Spooled != p {
		t.Fatalf("stands at %+v (%v), want %v", st, err, p)
	}
}

func torn(t *testing.T, r *rig) {
	d := r.Source.Next(t)
	for range 20 {
		r.mustRefuse(t, "torn delta", d.Bytes[:r.rng.IntN(len(d.Bytes))], homeward.Corrupt)
	}
	r.mustStand(t, r.leg.Base)
	r.mustPut(t, d)
	r.mustApply(t, r.Source.At())
}

func bodyFails(t *testing.T, r *rig) {
	d := r.Source.Next(t)
	fault := homeward.Errorf("read spill file", homeward.Unavailable, "test", "", "the medium went away")
	for range 4 {
		body := io.MultiReader(bytes.NewReader(d.Bytes[:r.rng.IntN(len(d.Bytes))]), iotest.ErrReader(fault))
		_, err := r.Sink.Put(r.ctx, "web01", body)
		if homeward.KindOf(err) != homeward.Unavailable {
			t.Fatalf("a body that fails as unavailable: %v (kind %q)", err, homeward.KindOf(err))
		}
	}
	r.mustStand(t, r.leg.Base)
	r.mustPut(t, d)
	r.mustApply(t, r.Source.At())
}

func tooLarge(t *testing.T, r *rig) {
	body := bytes.NewReader(largeDelta(t, r.leg))
	if _, err := r.Sink.Put(r.ctx, "web01", body); homeward.KindOf(err) != homeward.Invalid {
		t.Fatalf("a delta of more than MaxDelta: %v", err)
	}
	r.mustStand(t, r.leg.Base)
}

// largeDelta is a whole delta of more than homeward.MaxDelta bytes, of a machine
// with one disk.
func largeDelta(t *testing.T, leg Leg) []byte {
	const size = homeward.MaxDelta + 1<<20
	disk := homeward.Disk{ID: "disk-a", Size: size}
	h := delta.Header{Item: leg.Machine.Item, Follows: leg.Base,
		Disks:   []delta.DiskInfo{{ID: disk.ID, Size: disk.Size}},
		To:      homeward.Position{Generation: leg.Generation, Sequence: leg.Base.Sequence + 1, Cut: homeward.NewID()},
		Machine: &homeward.Machine{Item: leg.Machine.Item, Disks: []homeward.Disk{disk}}}
	var b bytes.Buffer
	e, err := delta.NewEncoder(&b, h, delta.EncoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Add(0, 0, bytes.Repeat([]byte{1}, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Close(homeward.Mark{Kind: homeward.MarkCrash}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func otherItem(t *testing.T, r *rig) {
	d := NewSource("db07", r.leg.Base, r.rng).Next(t)
	r.mustRefuse(t, "delta of another item", d.Bytes, homeward.Invalid)
	r.mustStand(t, r.leg.Base)
}

func undo(t *testing.T, r *rig) {
	h := delta.Header{Kind: delta.Undo, Item: "web01", Follows: r.leg.Base,
		Disks: []delta.DiskInfo{{ID: "disk-a", Size: 1 << 20}},
		To:    homeward.Position{Generation: r.leg.Generation, Sequence: r.leg.Base.Sequence + 1, Cut: homeward.NewID()}}
	var b bytes.Buffer
	e, err := delta.NewEncoder(&b, h, delta.EncoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Close(homeward.Mark{Kind: homeward.MarkCrash}); err != nil {
		t.Fatal(err)
	}
	r.mustRefuse(t, "undo delta", b.Bytes(), homeward.Invalid)
	r.mustStand(t, r.leg.Base)
}

func unknownItem(t *testing.T, r *rig) {
	d := NewSource("db07", r.leg.Base, r.rng).Next(t)
	if _, err := r.Sink.Put(r.ctx, "db07", bytes.NewReader(d.Bytes)); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("put of an unknown item: %v", err)
	}
	if _, err := r.Sink.Standing(r.ctx, homeward.StandingRequest{Item: "db07"}); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("standing of an unknown item: %v", err)
	}
}

func standingWaits(t *testing.T, r *rig) {
	first, second := r.Source.Next(t), r.Source.Next(t)
	st, err := r.Sink.Standing(r.ctx, homeward.StandingRequest{Item: "web01", Applied: first.Position, Wait: 20 * time.Millisecond})
	if err != nil || ship.Covers(st.Applied, first.Position) {
		t.Fatalf("a wait that ends is no error and tells the truth: %+v, %v", st, err)
	}
	seen := make(chan homeward.Standing, 1)
	go func() {
		st, err := r.Sink.Standing(r.ctx, homeward.StandingRequest{Item: "web01", Applied: first.Position, Wait: patience})
		if err != nil {
			t.Errorf("standing: %v", err)
		}
		seen <- st
	}()
	r.mustPut(t, first)
	r.mustPut(t, second)
	if st := <-seen; !ship.Covers(st.Applied, first.Position) {
		t.Errorf("woken at %v, waited for %v", st.Applied, first.Position)
	}
	r.mustApply(t, second.Position)
	st, err = r.Sink.Standing(r.ctx, homeward.StandingRequest{Item: "web01", Applied: first.Position, Wait: patience})
	if err != nil || st.Applied != second.Position {
		t.Errorf("a later position covers an earlier one: %+v, %v", st, err)
	}
}

func canceledPut(t *testing.T, r *rig) {
	d := r.Source.Next(t)
	ctx, cancel := context.WithCancel(r.ctx)
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := r.Sink.Put(ctx, "web01", in)
		done <- err
	}()
	if _, err := out.Write(d.Bytes[:len(d.Bytes)/2]); err != nil {
		t.Fatal(err)
	}
	cancel()
	// What makes a body is itself ended with its context.
	_ = out.CloseWithError(context.Canceled)
	if err := <-done; homeward.KindOf(err) != homeward.Canceled {
		t.Errorf("put whose context ended: %v (kind %q)", err, homeward.KindOf(err))
	}
	r.mustStand(t, r.leg.Base)
	r.mustPut(t, d)
	r.mustApply(t, r.Source.At())
}

func canceledStanding(t *testing.T, r *rig) {
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Millisecond)
	defer cancel()
	st, err := r.Sink.Standing(ctx, homeward.StandingRequest{Item: "web01", Applied: r.Source.Next(t).Position, Wait: time.Minute})
	switch homeward.KindOf(err) {
	case homeward.Canceled, homeward.Timeout: // an answer that could not travel any more
	case "":
		if st.Spooled != r.leg.Base {
			t.Errorf("stands at %v, want %v", st.Spooled, r.leg.Base)
		}
	default:
		t.Errorf("standing whose context ended: %v", err)
	}
}
