package processserver

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// A route may be bound to one agent; it stays so over a crash.
func TestMaySend(t *testing.T) {
	r := newRig(t)
	r.open()
	if err := r.server.MaySend("nobody", "a1"); err != nil {
		t.Errorf("an item without a route: %v", err)
	}
	r.prepare("web01", r.gen)
	if err := r.server.MaySend("web01", "a1"); err != nil {
		t.Errorf("a route that is not bound: %v", err)
	}
	if _, err := r.server.Prepare(t.Context(), homeward.RouteRequest{Item: "web01", Generation: r.gen, Target: targetURL, Agent: "a1"}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if err := r.server.MaySend("web01", "a1"); err != nil {
			t.Error(err)
		}
		if err := r.server.MaySend("web01", "a2"); homeward.KindOf(err) != homeward.Forbidden || homeward.RemedyOf(err) == "" {
			t.Errorf("another agent: %v", err)
		}
	}
	check()
	r.crash()
	check()
}

// Bodies that never come take from their own item only.
func TestPut_stuckBodies(t *testing.T) {
	r := newRig(t)
	r.config.Patience = 200 * time.Millisecond
	r.start()
	r.prepare("web02", r.gen)
	other := shiptest.NewSource("web02", homeward.Position{}.Base(r.gen), r.rng)
	if err := r.twin.Prepare("web02", r.gen, other.At()); err != nil {
		t.Fatal(err)
	}
	never, writer := io.Pipe()
	ended := make(chan error)
	for range maxReceives {
		go func() {
			_, err := r.server.Put(t.Context(), "web01", never)
			ended <- err
		}()
	}
	for range maxReceives - maxOfItem {
		if err := <-ended; homeward.KindOf(err) != homeward.Busy || homeward.RemedyOf(err) == "" {
			t.Errorf("a delta too many: %v", err)
		}
	}
	d := other.Next(t)
	if _, err := r.server.Put(t.Context(), "web02", bytes.NewReader(d.Bytes)); err != nil {
		t.Errorf("another item: %v", err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	for range maxOfItem {
		if err := <-ended; err == nil {
			t.Error("took a delta without bytes")
		}
	}
}

// trickle gives 64 bytes at a time and lets a clock pass.
type trickle struct {
	from *bytes.Reader
	pass func()
}

func (tr trickle) Read(p []byte) (int, error) {
	tr.pass()
	return tr.from.Read(p[:min(len(p), 64)])
}

// A body that trickles in is given up, and the same delta is taken at another time.
func TestPut_trickle(t *testing.T) {
	r := newRig(t)
	began := time.Now()
	var passed atomic.Int64
	r.config.Now = func() time.Time { return began.Add(time.Duration(passed.Load())) }
	r.start()
	for _, c := range []struct {
		each time.Duration
		want homeward.Kind
	}{{time.Second / (leastRate / 64) / 2, ""}, {4 * time.Second / (leastRate / 64), homeward.Timeout}, {time.Second, homeward.Timeout}} {
		d := r.source.NextOfSize(t, 256)
		body := trickle{bytes.NewReader(d.Bytes), func() { passed.Add(int64(c.each)) }}
		if _, err := r.server.Put(t.Context(), "web01", body); homeward.KindOf(err) != c.want {
			t.Errorf("64 bytes every %v: %v", c.each, err)
		}
		if c.want != "" {
			r.mustPut(d)
		}
	}
}
