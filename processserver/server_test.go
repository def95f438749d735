package processserver

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/ship"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const targetURL = "https://target:7443"

// rig is a process server between a source and a twin.
type rig struct {
	t      *testing.T
	rng    *rand.Rand
	fs     *powerloss.FS
	config Config
	server *Server
	twin   *shiptest.Twin
	source *shiptest.Source
	gen    homeward.Generation
}

func newRig(t *testing.T) *rig {
	t.Helper()
	rng := shiptest.Seed(t)
	g := homeward.Generation{Number: 3, ID: homeward.NewID()}
	r := &rig{t: t, rng: rng, fs: powerloss.New(), twin: shiptest.NewTwin(), gen: g}
	r.twin.Patience = 500 * time.Millisecond
	r.source = shiptest.NewSource("web01", homeward.Position{}.Base(g), rng)
	if err := r.twin.Prepare("web01", g, r.source.At()); err != nil {
		t.Fatal(err)
	}
	r.config = Config{
		Dir: "/spool", SpoolBytes: 64 << 20, FS: r.fs, Log: slog.New(slog.DiscardHandler),
		Dial:     func(string) homeward.Sink { return r.twin },
		Patience: time.Second, Grace: 10 * time.Second, Retry: time.Millisecond,
	}
	t.Cleanup(func() { r.stop() })
	return r
}

// start opens the server and routes the item.
func (r *rig) start() {
	r.t.Helper()
	r.open()
	r.prepare("web01", r.gen)
}

func (r *rig) open() {
	r.t.Helper()
	s, err := Open(context.Background(), r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.server = s
}

func (r *rig) prepare(item homeward.ItemID, g homeward.Generation) {
	r.t.Helper()
	if _, err := r.server.Prepare(r.t.Context(), homeward.RouteRequest{Item: item, Generation: g, Target: targetURL}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) stop() {
	if r.server == nil {
		return
	}
	if err := r.server.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
	r.server = nil
}

// crash takes the file system as a power loss leaves it, and opens the server on that.
func (r *rig) crash() {
	r.t.Helper()
	old := r.server
	r.fs = r.fs.Crash(r.rng)
	r.config.FS = r.fs
	if err := old.Close(); err != nil { // on the file system of before: only its goroutines matter
		r.t.Logf("closing what crashed: %v", err)
	}
	r.open()
}

func (r *rig) put(d shiptest.Delta) (homeward.Ack, error) {
	return r.server.Put(r.t.Context(), "web01", bytes.NewReader(d.Bytes))
}

func (r *rig) mustPut(d shiptest.Delta) homeward.Ack {
	r.t.Helper()
	ack, err := r.put(d)
	if err != nil {
		r.t.Fatalf("put %v: %v", d.Position, err)
	}
	if ack.Position != d.Position {
		r.t.Fatalf("acknowledged %v, put %v", ack.Position, d.Position)
	}
	return ack
}

func (r *rig) standing(req homeward.StandingRequest) homeward.Standing {
	r.t.Helper()
	req.Item = "web01"
	st, err := r.server.Standing(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// mustApply waits until everything of the source is applied, and compares.
func (r *rig) mustApply() {
	r.t.Helper()
	p := r.source.At()
	deadline := time.Now().Add(20 * time.Second)
	for {
		st := r.standing(homeward.StandingRequest{Applied: p, Wait: 2 * time.Second})
		if st.Applied == p {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not applied: %+v", st)
		}
	}
	if diff := r.twin.Content("web01").Diff(r.source.Content); diff != "" {
		r.t.Fatalf("%s differs", diff)
	}
}

// away is a target that cannot be reached until it is back.
type away struct {
	mu   sync.Mutex
	gone bool
}

func (a *away) set(gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = gone
}

func (a *away) gate(context.Context, homeward.ItemID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone {
		return homeward.Errorf("send", homeward.Unavailable, "target", "start it", "away")
	}
	return nil
}

// cutOff makes the rig's target unreachable, for puts and questions.
func (r *rig) cutOff() *away {
	a := &away{gone: true}
	r.twin.Gate = a.gate
	r.config.Dial = func(string) homeward.Sink { return gated{r.twin, a} }
	return a
}

type gated struct {
	*shiptest.Twin
	away *away
}

func (g gated) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	if err := g.away.gate(ctx, req.Item); err != nil {
		return homeward.Standing{}, err
	}
	return g.Twin.Standing(ctx, req)
}

func TestServer_Conformance(t *testing.T) {
	for _, compression := range []string{"none", "s2", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			shiptest.Run(t, func(t *testing.T, leg shiptest.Leg) shiptest.Subject {
				twin := shiptest.NewTwin()
				twin.Patience = time.Second
				item := leg.Machine.Item
				if err := twin.Prepare(item, leg.Generation, leg.Base); err != nil {
					t.Fatal(err)
				}
				s, err := Open(context.Background(), Config{Dir: t.TempDir(), SpoolBytes: 64 << 20, FS: durable.OS(),
					Log: slog.New(slog.DiscardHandler), Dial: func(string) homeward.Sink { return twin }, Patience: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				})
				if _, err := s.Prepare(t.Context(), homeward.RouteRequest{Item: item, Generation: leg.Generation, Target: targetURL, Compression: compression}); err != nil {
					t.Fatal(err)
				}
				return shiptest.Subject{
					Sink: s,
					Fence: func(g homeward.Generation) error {
						_, err := s.SetGeneration(t.Context(), homeward.GenerationRequest{Item: item, Generation: g})
						return err
					},
					Content: func() shiptest.Content { return twin.Content(item) },
				}
			})
		})
	}
}

func TestServer_TargetMustBeURL(t *testing.T) {
	r := newRig(t)
	for _, target := range []string{"", "mt-away", "127.0.0.1:7443", "://x"} {
		_, err := r.server.Prepare(t.Context(), homeward.RouteRequest{Item: "web02", Generation: homeward.Generation{}.Next(), Target: target})
		if homeward.KindOf(err) != homeward.Invalid || homeward.RemedyOf(err) == "" {
			t.Errorf("target %q: %v", target, err)
		}
	}
}

func TestServer_CutThroughAnswersApplied(t *testing.T) {
	r := newRig(t)
	r.start()
	for range 5 {
		if ack := r.mustPut(r.source.Next(t)); !ack.Applied {
			t.Error("the target is there, and yet the answer is only spooled")
		}
	}
	r.mustApply()
	rep, err := r.server.Report(t.Context(), homeward.ItemRequest{Item: "web01"})
	if err != nil || rep.PlainBytes == 0 || rep.WireBytes == 0 || rep.SpoolBytes != 0 || rep.TargetError != "" {
		t.Errorf("report %+v, %v", rep, err)
	}
}

func TestServer_SpoolsWhileTargetIsAway(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start()
	for range 6 {
		if ack := r.mustPut(r.source.Next(t)); ack.Applied || ack.Incarnation.IsZero() {
			t.Errorf("the target is away, and yet %+v", ack)
		}
	}
	st := r.standing(homeward.StandingRequest{})
	if st.Known || st.Spooled != r.source.At() || st.SpoolBytes == 0 || st.Fault == "" || st.Remedy == "" {
		t.Errorf("standing %+v", st)
	}
	target.set(false)
	r.mustApply()
	if st := r.standing(homeward.StandingRequest{}); st.SpoolBytes != 0 || st.Fault != "" || !st.AppliedAt.After(time.Unix(0, 0)) {
		t.Errorf("standing %+v", st)
	}
}

// A target behind a client that hangs: the agent gets spooled until its share is
// full, then Busy without its body being read.
func TestServer_TargetHangsUntilShareIsFull(t *testing.T) {
	r := newRig(t)
	r.config.SpoolBytes = 1 << 20
	r.config.Grace = time.Millisecond
	hang := make(chan struct{})
	r.twin.Gate = func(ctx context.Context, _ homeward.ItemID) error {
		select {
		case <-hang:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.start()
	full := false
	var pending shiptest.Delta
	for range 100 {
		pending = r.source.NextOfSize(t, 16)
		_, err := r.put(pending)
		if err == nil {
			continue
		}
		if homeward.KindOf(err) != homeward.Busy || homeward.RemedyOf(err) == "" {
			t.Fatalf("put into a full share: %v", err)
		}
		full = true
		break
	}
	if !full {
		t.Fatal("a spool of 1 MiB took 6 MiB")
	}
	close(hang)
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := r.put(pending)
		if err == nil {
			break
		}
		if homeward.KindOf(err) != homeward.Busy || time.Now().After(deadline) {
			t.Fatal(err)
		}
		r.standing(homeward.StandingRequest{Applied: pending.Follows, Wait: time.Second})
	}
	r.mustApply()
}

func TestServer_SharesAreReclaimed(t *testing.T) {
	r := newRig(t)
	r.config.SpoolBytes = 1 << 20
	r.cutOff()
	r.start()
	r.prepare("db07", r.gen)
	var last shiptest.Delta
	for {
		last = r.source.NextOfSize(t, 16)
		if _, err := r.put(last); err != nil {
			break // web01 has borrowed all there is
		}
	}
	before := r.standing(homeward.StandingRequest{})
	if before.SpoolBytes < 700<<10 {
		t.Fatalf("borrowed only %d bytes", before.SpoolBytes)
	}
	db := shiptest.NewSource("db07", homeward.Position{}.Base(r.gen), r.rng)
	for range 6 { // within db07's half
		d := db.NextOfSize(t, 16)
		if _, err := r.server.Put(t.Context(), "db07", bytes.NewReader(d.Bytes)); err != nil {
			t.Fatalf("an item within its share: %v", err)
		}
	}
	after := r.standing(homeward.StandingRequest{})
	if after.SpoolBytes >= before.SpoolBytes || after.SpoolBytes < 400<<10 {
		t.Errorf("web01 keeps %d of %d bytes; its share is half a MiB", after.SpoolBytes, before.SpoolBytes)
	}
	if after.Spooled == before.Spooled || !ship.Covers(before.Spooled, after.Spooled) {
		t.Errorf("deltas were taken back, and Standing still says %v", after.Spooled)
	}
}

func TestServer_Fenced(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start()
	r.mustPut(r.source.Next(t))
	late := r.source.Next(t)
	next := r.gen.Next()
	if err := r.twin.Fence("web01", next); err != nil {
		t.Fatal(err)
	}
	target.set(false)
	for st := r.standing(homeward.StandingRequest{}); st.Generation != next; st = r.standing(homeward.StandingRequest{}) {
		if t.Context().Err() != nil {
			t.Fatal("never fenced")
		}
	}
	if _, err := r.put(late); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("put: %v", err)
	}
	if st := r.standing(homeward.StandingRequest{}); st.SpoolBytes != 0 {
		t.Errorf("%d bytes of a fenced generation are kept", st.SpoolBytes)
	}
	r.crash()
	if _, err := r.put(late); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("after a crash: %v", err)
	}
	if _, err := r.server.Prepare(t.Context(), homeward.RouteRequest{Item: "web01", Generation: r.gen, Target: targetURL}); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("prepare for an older generation: %v", err)
	}
}

func TestServer_Forget(t *testing.T) {
	r := newRig(t)
	r.cutOff()
	r.start()
	r.mustPut(r.source.Next(t))
	req := homeward.GenerationRequest{Item: "web01", Generation: r.gen}
	for range 2 {
		if _, err := r.server.Forget(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.put(r.source.Next(t)); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("put: %v", err)
	}
	list, err := r.fs.ReadDir("/spool/items/web01")
	if err != nil || len(list) != 1 {
		t.Errorf("left behind: %v %v", list, err)
	}
	req.Generation.Number--
	if _, err := r.server.Forget(t.Context(), req); homeward.KindOf(err) != homeward.Fenced {
		t.Errorf("forget by an older generation: %v", err)
	}
}
