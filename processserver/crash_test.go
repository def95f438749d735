package processserver

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/ship"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// Every spooled acknowledgement survives a power loss at any step, whatever the
// disk kept of what was not synced.
func TestServer_PowerLoss(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start()
	incarnation := r.server.incarnation
	var last shiptest.Delta
	for range 12 {
		for range r.rng.IntN(4) {
			last = r.source.Next(t)
			r.mustPut(last)
		}
		if r.rng.IntN(2) == 0 { // some is applied, and its files are removed unsynced
			target.set(false)
			r.standing(homeward.StandingRequest{Applied: r.source.At(), Wait: 50 * time.Millisecond})
			target.set(true)
		}
		r.crash()
		if r.server.incarnation != incarnation {
			t.Fatal("nothing was lost, and yet the incarnation changed")
		}
		st := r.standing(homeward.StandingRequest{})
		if st.SpoolBytes > 0 && len(last.Bytes) > 0 { // the agent did not get the answer, and sends again
			if ack := r.mustPut(last); ack.Incarnation != incarnation {
				t.Fatal("another incarnation")
			}
		}
		if st.Known && st.Spooled != r.source.At() || !st.Known && st.SpoolBytes > 0 && st.Spooled != r.source.At() {
			t.Fatalf("acknowledged up to %v, and yet %+v", r.source.At(), st)
		}
	}
	target.set(false)
	r.mustApply()
}

// The spool is lost: another incarnation shows it, and the true position is told.
func TestServer_SpoolLost(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start()
	before := r.mustPut(r.source.Next(t)).Incarnation
	lost := r.source.At()
	r.stop()
	r.fs = powerloss.New()
	r.config.FS = r.fs
	r.start()
	target.set(false)
	st := r.standing(homeward.StandingRequest{})
	for !st.Known {
		st = r.standing(homeward.StandingRequest{Applied: lost, Wait: 100 * time.Millisecond})
	}
	if st.Incarnation == before || st.Spooled == lost {
		t.Errorf("the loss is not seen: %+v", st)
	}
}

// A damaged spool file is dropped with what follows it; the incarnation changes.
func TestServer_DamagedSpoolFile(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start()
	first := r.source.Next(t)
	before := r.mustPut(first).Incarnation
	r.mustPut(r.source.Next(t))
	r.stop()
	list, err := r.fs.ReadDir("/spool/items/web01")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if strings.HasPrefix(f.Name(), spoolName(first.Position, 0)[:16]) {
			damage(t, r.fs, "/spool/items/web01/"+f.Name())
		}
	}
	r.open()
	if r.server.incarnation == before {
		t.Error("an acknowledged delta is lost, and the incarnation is the old one")
	}
	target.set(false)
	st := r.standing(homeward.StandingRequest{})
	for !st.Known || st.SpoolBytes > 0 {
		st = r.standing(homeward.StandingRequest{Applied: r.source.At(), Wait: 50 * time.Millisecond})
	}
	if st.Spooled != first.Follows || st.Applied != first.Follows {
		t.Errorf("stands at %+v, want %v", st, first.Follows)
	}
}

// damage tears a file's end off.
func damage(t *testing.T, fs *powerloss.FS, path string) {
	t.Helper()
	f, err := fs.OpenFile(path, syscall.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(info.Size() - 1); err != nil {
		t.Fatal(err)
	}
}

// Content that rots in the spool is found before it reaches a replica.
func TestServer_RottenSpoolFile(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start()
	first := r.source.NextOfSize(t, 8)
	r.mustPut(first)
	path := "/spool/items/web01/" + spoolName(first.Position, r.server.attempts.Load())
	f, err := r.fs.OpenFile(path, syscall.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := int64(len(first.Bytes) / 2)
	if _, err := f.WriteAt([]byte{first.Bytes[at] ^ 1}, at); err != nil {
		t.Fatal(err)
	}
	target.set(false)
	st := r.standing(homeward.StandingRequest{})
	for !st.Known || st.SpoolBytes > 0 {
		st = r.standing(homeward.StandingRequest{Applied: first.Position, Wait: 50 * time.Millisecond})
	}
	if st.Applied != first.Follows || len(r.twin.Applied("web01")) != 0 {
		t.Errorf("stands at %+v", st)
	}
	r.mustPut(first) // the agent sends it again
	r.mustApply()
}

// The spool's disk is full or failing: deltas still go through, and are
// acknowledged only when applied.
func TestServer_SpoolDiskFails(t *testing.T) {
	for name, fault := range map[string]struct {
		op  string
		err error
	}{
		"create full": {powerloss.OpOpen, syscall.ENOSPC},
		"write full":  {powerloss.OpWrite, syscall.ENOSPC},
		"write EIO":   {powerloss.OpWrite, syscall.EIO},
		"sync full":   {powerloss.OpSync, syscall.ENOSPC},
		"sync EIO":    {powerloss.OpSync, syscall.EIO},
		"rename EIO":  {powerloss.OpRename, syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			away := r.cutOff()
			away.set(false)
			r.start()
			r.mustPut(r.source.Next(t))
			r.fs.Fail(fault.op, "*.delta*", 0, fault.err)
			for range 3 {
				if ack := r.mustPut(r.source.NextOfSize(t, 20)); !ack.Applied {
					t.Fatal("acknowledged as spooled by a spool that fails")
				}
			}
			r.mustApply()
			away.set(true)
			d := r.source.Next(t)
			if _, err := r.put(d); homeward.KindOf(err) != homeward.NoSpace {
				t.Fatalf("neither spool nor target, and yet: %v", err)
			}
			if st := r.standing(homeward.StandingRequest{}); st.Spooled != d.Follows || st.SpoolBytes != 0 {
				t.Errorf("stands at %+v, want %v", st, d.Follows)
			}
			r.fs.Heal()
			r.mustPut(d)
			away.set(false)
			r.mustApply()
		})
	}
}

// Two process servers over transports that repeat, delay and reorder; then the
// second one brings back old deltas, and the spool of the first an old cut.
func TestServer_TwoServersAndOldDeltas(t *testing.T) {
	r := newRig(t)
	wild := shiptest.NewWild(r.twin, r.rng)
	r.config.Dial = func(string) homeward.Sink { return wild }
	r.start()
	second := *r
	second.config.Dir = "/spool2"
	second.start()
	defer second.stop()
	front := []*shiptest.Wild{shiptest.NewWild(r.server, r.rng), shiptest.NewWild(second.server, r.rng)}
	for i := range 12 {
		batch := make([]shiptest.Delta, 1+r.rng.IntN(4))
		for j := range batch {
			batch[j] = r.source.Next(t)
		}
		sendAll(t, front[i%2], batch)
		r.mustReach(front[i%2], batch[len(batch)-1].Position)
	}
	if diff := r.twin.Content("web01").Diff(r.source.Content); diff != "" {
		t.Fatalf("%s differs", diff)
	}
	applied := len(r.twin.Applied("web01"))
	g := r.gen.Next()
	if err := r.twin.Prepare("web01", g, r.source.At().Base(g)); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*shiptest.Wild{wild, front[0], front[1]} {
		acks, errs := w.Resurrect(t.Context())
		for i, err := range errs {
			if err == nil && acks[i].Position.Generation == g {
				t.Errorf("an old cut was taken as %v", acks[i].Position)
			}
		}
	}
	if n := len(r.twin.Applied("web01")); n != applied {
		t.Errorf("%d old deltas were applied again", n-applied)
	}
	if diff := r.twin.Content("web01").Diff(r.source.Content); diff != "" {
		t.Fatalf("%s differs after old deltas came back", diff)
	}
}

// sendAll puts a batch as an agent does: all at once, each again until it is taken.
func sendAll(t *testing.T, sink homeward.Sink, batch []shiptest.Delta) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, d := range batch {
		all.Go(func() {
			for {
				ack, err := sink.Put(ctx, "web01", bytes.NewReader(d.Bytes))
				if err == nil {
					if ack.Position != d.Position {
						t.Errorf("acknowledged %v, put %v", ack.Position, d.Position)
					}
					return
				}
				if kind := homeward.KindOf(err); !homeward.Retryable(err) && kind != homeward.Conflict {
					t.Errorf("put: %v", err)
					return
				}
				if ctx.Err() != nil {
					t.Errorf("never taken: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
}

func (r *rig) mustReach(sink homeward.Sink, p homeward.Position) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		st, err := sink.Standing(r.t.Context(), homeward.StandingRequest{Item: "web01", Applied: p, Wait: time.Second})
		if err != nil {
			r.t.Fatal(err)
		}
		if ship.Covers(st.Applied, p) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not applied: %+v", st)
		}
	}
}

// A chain of two process servers: the first keeps a delta until it is applied,
// and sends it again when the second has lost its spool.
func TestServer_ChainSurvivesLossOfTheSecond(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start() // the second
	first := *r
	second := &relay{to: r.server}
	first.fs = powerloss.New()
	first.config.FS = first.fs
	first.config.Dial = func(string) homeward.Sink { return second }
	first.config.Grace = 50 * time.Millisecond
	first.start()
	defer first.stop()
	for range 3 {
		first.mustPut(r.source.Next(t))
	}
	r.mustReachSpooled(r.source.At())
	r.stop()
	r.fs = powerloss.New()
	r.config.FS = r.fs
	r.start()
	second.set(r.server)
	target.set(false)
	first.mustApply()
}

func (r *rig) mustReachSpooled(p homeward.Position) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); r.standing(homeward.StandingRequest{}).Spooled != p; {
		if time.Now().After(deadline) {
			r.t.Fatal("never spooled")
		}
	}
}

// relay is a sink that can be exchanged.
type relay struct {
	mu sync.Mutex
	to homeward.Sink
}

func (s *relay) set(to homeward.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
}

func (s *relay) now() homeward.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to
}

func (s *relay) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	return s.now().Put(ctx, item, body)
}

func (s *relay) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	return s.now().Standing(ctx, req)
}

// A kill or power loss at any instant of any step: what was acknowledged by then
// is in the spool that is opened next.
func TestServer_CrashAtAnyInstant(t *testing.T) {
	r := newRig(t)
	target := r.cutOff()
	r.start()
	deltas := make([]shiptest.Delta, 60)
	for i := range deltas {
		deltas[i] = r.source.Next(t)
	}
	var mu sync.Mutex
	acked := deltas[0].Follows
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i, d := range deltas {
			target.set(i%7 != 0) // now and then the target is there, and files go
			if _, err := r.put(d); err != nil {
				t.Errorf("put: %v", err)
				return
			}
			mu.Lock()
			acked = d.Position
			mu.Unlock()
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		mu.Lock()
		p := acked
		mu.Unlock()
		config := r.config
		config.FS = r.fs.Crash(r.rng)
		config.Dial = func(string) homeward.Sink { return gated{r.twin, &away{gone: true}} }
		after, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		st, err := after.Standing(t.Context(), homeward.StandingRequest{Item: "web01"})
		if err != nil {
			t.Fatal(err)
		}
		if st.SpoolBytes > 0 && !ship.Covers(st.Spooled, p) {
			t.Errorf("acknowledged %v, and the spool ends at %v", p, st.Spooled)
		}
		if applied := r.twin.Applied("web01"); st.SpoolBytes == 0 && p.Sequence > 0 && (len(applied) == 0 || !ship.Covers(applied[len(applied)-1], p)) {
			t.Errorf("acknowledged %v, and it is nowhere", p)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
	target.set(false)
	r.mustApply()
}
