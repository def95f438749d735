package processserver

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// contest has routes contend for a lane of one permit, by a clock of the test's own:
// whoever has the turn comes back with its next chunk before this one is paid for.
type contest struct {
	queue  *fair
	bucket bucket
	now    time.Time
	rate   int64
	weight map[*route]float64
	chunk  map[*route]int
	served map[*route]int64
	turns  map[*route]*turn
	order  []*route // as they were served
}

func newContest(rate int64) *contest {
	return &contest{queue: newFair(1), now: time.Unix(1000, 0), rate: rate, weight: map[*route]float64{}, chunk: map[*route]int{},
		served: map[*route]int64{}, turns: map[*route]*turn{}}
}

// enter has a route always have something to send.
func (c *contest) enter(weight float64, chunk int) *route {
	r := &route{}
	c.weight[r], c.chunk[r] = weight, chunk
	c.back(r)
	return r
}

func (c *contest) back(r *route) {
	c.turns[r] = c.queue.join(r, 1, float64(c.chunk[r])/c.weight[r])
}

// leave has a route have nothing to send any more.
func (c *contest) leave(r *route) {
	c.queue.forgo(c.turns[r])
	delete(c.turns, r)
}

// run serves for a time, and returns what each route was served in it.
func (c *contest) run(t *testing.T, d time.Duration) map[*route]int64 {
	t.Helper()
	before := maps.Clone(c.served)
	for end := c.now.Add(d); c.now.Before(end); {
		r := c.ready()
		if r == nil {
			t.Fatal("nobody has a turn")
		}
		had := c.turns[r]
		c.served[r] += int64(c.chunk[r])
		c.order = append(c.order, r)
		c.back(r)
		c.now = c.now.Add(c.bucket.take(c.now, c.chunk[r], c.rate))
		c.queue.leave(had)
	}
	got := map[*route]int64{}
	for r, n := range c.served {
		got[r] = n - before[r]
	}
	return got
}

func (c *contest) ready() *route {
	for r, turn := range c.turns {
		select {
		case <-turn.ready:
			return r
		default:
		}
	}
	return nil
}

// near: within a chunk of each route.
func near(got int64, want float64) bool { return math.Abs(float64(got)-want) <= 100<<10 }

// Routes that all have something to send share a cap by weight, whatever the size of
// their chunks; what one leaves goes to the others by weight, and nothing is owed to it
// when it comes back; a weight that changes counts from then on.
func TestFair_Shares(t *testing.T) {
	c := newContest(10 << 20)
	first, middle, last := c.enter(10, 32<<10), c.enter(5, 4<<10), c.enter(1, 32<<10)
	share := func(name string, want map[*route]float64) {
		t.Helper()
		got, total := c.run(t, 10*time.Second), int64(0)
		for _, n := range got {
			total += n
		}
		for r, w := range want {
			if !near(got[r], w*float64(total)) {
				t.Errorf("%s: a weight of %v got %d bytes, not %.0f of all", name, c.weight[r], got[r], w*float64(total))
			}
		}
	}
	share("all", map[*route]float64{first: 10.0 / 16, middle: 5.0 / 16, last: 1.0 / 16})
	c.leave(first)
	share("the first is idle", map[*route]float64{first: 0, middle: 5.0 / 6, last: 1.0 / 6})
	c.back(first)
	share("it is back", map[*route]float64{first: 10.0 / 16, middle: 5.0 / 16, last: 1.0 / 16})
	c.weight[first], c.weight[last] = 1, 10
	c.run(t, time.Second) // what they had asked for goes by the weights of before
	share("the weights are changed", map[*route]float64{first: 1.0 / 16, middle: 5.0 / 16, last: 10.0 / 16})
	c.leave(middle)
	c.leave(last)
	share("one alone", map[*route]float64{first: 1, middle: 0, last: 0})
}

// The bound: between two turns of the lightest route each other one has what its
// weight is to that, and one turn more.
func TestFair_NobodyStarves(t *testing.T) {
	c := newContest(1 << 20)
	light := c.enter(homeward.DefaultWeight/bulkDiscount, 1<<10)
	for range 50 {
		c.enter(homeward.MaxWeight, 1<<10)
	}
	c.run(t, 10*time.Second)
	between, most := map[*route]int{}, int(homeward.MaxWeight/c.weight[light])+1
	for _, r := range c.order {
		if r == light {
			clear(between)
			continue
		}
		if between[r]++; between[r] > most {
			t.Fatalf("another route had %d turns, between two of the lightest one", between[r])
		}
	}
	if c.served[light] == 0 {
		t.Error("it starved")
	}
}

// Who wants all permits is not kept waiting by those who want one; who gives up makes
// room.
func TestFair_AllPermits(t *testing.T) {
	f := newFair(2)
	a, b, c := &route{}, &route{}, &route{}
	one := f.join(a, 1, 1)
	all := f.join(b, 2, 1)
	behind := f.join(c, 1, 1)
	is := func(turn *turn, want bool) {
		t.Helper()
		select {
		case <-turn.ready:
			if !want {
				t.Error("it has a turn")
			}
		default:
			if want {
				t.Error("it has no turn")
			}
		}
	}
	is(one, true)
	is(all, false)
	is(behind, false)
	f.leave(one)
	is(all, true)
	is(behind, false)
	f.leave(all)
	is(behind, true)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := f.acquire(ctx, a, 2, 1); !errors.Is(err, gone) {
		t.Errorf("a turn that was given up: %v", err)
	}
	f.leave(behind)
	if f.free != 2 || len(f.waiting) != 0 {
		t.Errorf("%d permits are free, %d wait", f.free, len(f.waiting))
	}
}

// pair is two items with a backlog for a target that hangs until go is called.
func pair(t *testing.T, deltas int) (r *rig, other *shiptest.Source, at [2][]homeward.Position, start func()) {
	t.Helper()
	r = newRig(t)
	hang := make(chan struct{})
	r.twin.Gate = func(ctx context.Context, _ homeward.ItemID) error {
		select {
		case <-hang:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.config.Grace = time.Millisecond
	r.start()
	r.prepare("db07", r.gen)
	other = shiptest.NewSource("db07", homeward.Position{}.Base(r.gen), r.rng)
	if err := r.twin.Prepare("db07", r.gen, other.At()); err != nil {
		t.Fatal(err)
	}
	for range deltas {
		for i, s := range []*shiptest.Source{r.source, other} {
			d := s.NextOfSize(t, 32)
			if _, err := r.server.Put(t.Context(), s.Machine.Item, bytes.NewReader(d.Bytes)); err != nil {
				t.Fatal(err)
			}
			at[i] = append(at[i], d.Position)
		}
	}
	return r, other, at, func() { close(hang) }
}

func (r *rig) weigh(item homeward.ItemID, weight int) {
	r.t.Helper()
	rep, err := r.server.Prepare(r.t.Context(), homeward.RouteRequest{Item: item, Generation: r.gen, Target: targetURL, Compression: "none", Weight: weight})
	if err != nil || rep.Weight != weight {
		r.t.Fatalf("weight %d of %s: %d, %v", weight, item, rep.Weight, err)
	}
}

func (r *rig) awaitApplied(item homeward.ItemID, p homeward.Position) {
	r.t.Helper()
	for r.t.Context().Err() == nil {
		st, err := r.server.Standing(r.t.Context(), homeward.StandingRequest{Item: item, Applied: p, Wait: time.Minute})
		if err != nil {
			r.t.Fatal(err)
		}
		if st.Applied.Sequence >= p.Sequence {
			return
		}
	}
	r.t.Fatalf("%s never came to %v", item, p)
}

func (r *rig) wire(item homeward.ItemID) int64 {
	r.t.Helper()
	rep, err := r.server.Report(r.t.Context(), homeward.ItemRequest{Item: item})
	if err != nil {
		r.t.Fatal(err)
	}
	return rep.WireBytes
}

// Two items over one capped way: the heavy one goes ten times as fast (here: twice is
// enough), the light one goes on; the weights change while both are under way; the rest
// of the way is the light one's when the other has nothing to send.
func TestServer_WeightsShareTheCap(t *testing.T) {
	for _, target := range []string{targetURL, ""} { // the way to the target, and all ways together
		r, _, at, start := pair(t, 24)
		if _, err := r.server.Limit(t.Context(), homeward.LimitRequest{Target: target, Schedule: []homeward.Window{{BytesPerSecond: 4 << 20}}}); err != nil {
			t.Fatal(err)
		}
		compare := func(what string, heavy, light homeward.ItemID, until homeward.Position) {
			t.Helper()
			h, l := r.wire(heavy), r.wire(light)
			r.awaitApplied(heavy, until)
			h, l = r.wire(heavy)-h, r.wire(light)-l
			t.Logf("%s: %d bytes to %d", what, h, l)
			if l == 0 || l > h/2 {
				t.Errorf("%s: the heavy item sent %d bytes, the light one %d", what, h, l)
			}
		}
		r.weigh("web01", 10)
		r.weigh("db07", 1)
		start()
		compare("at first", "web01", "db07", at[0][11])
		r.weigh("web01", 1)
		r.weigh("db07", 10)
		compare("with the weights changed", "db07", "web01", at[1][11])
		r.awaitApplied("db07", at[1][23])
		r.mustApply()
	}
}

// What goes on with a larger set weighs less; also after a crash.
func TestServer_LargeSetsWeighLess(t *testing.T) {
	r := newRig(t)
	r.cutOff()
	r.config.Grace = time.Millisecond
	r.start()
	kinds := []homeward.MarkKind{homeward.MarkCrash, homeward.MarkNone, homeward.MarkNone, homeward.MarkCrash, homeward.MarkCrash}
	want := []float64{8, 8, 2, 2, 8}
	r.weigh("web01", 8)
	for _, r.source.Kind = range kinds {
		r.mustPut(r.source.Next(t))
	}
	for range 2 {
		route := r.server.routes["web01"]
		for i, e := range route.queue {
			if got := route.weightOf(e); got != want[i] {
				t.Errorf("delta %d weighs %v, want %v", i, got, want[i])
			}
		}
		r.crash()
	}
	if _, err := r.server.Prepare(t.Context(), homeward.RouteRequest{Item: "web01", Generation: r.gen, Target: targetURL, Weight: homeward.MaxWeight + 1}); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("a weight too much: %v", err)
	}
}
