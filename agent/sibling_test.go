package agent

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
)

// hop is a process server before the target that does with a delta as it is told.
type hop struct {
	*target
	mu  sync.Mutex
	put func(ctx context.Context, p homeward.Position, data []byte) (homeward.Ack, error) // nil: to the target
	saw func(homeward.Standing)                                                           // what was answered
}

func (h *hop) become(put func(context.Context, homeward.Position, []byte) (homeward.Ack, error), saw func(homeward.Standing)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.put, h.saw = put, saw
}

func (h *hop) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return homeward.Ack{}, err
	}
	p, _, err := decode(data)
	if err != nil {
		return homeward.Ack{}, err
	}
	h.mu.Lock()
	put := h.put
	h.mu.Unlock()
	if put == nil {
		return h.target.Put(ctx, item, bytes.NewReader(data))
	}
	return put(ctx, p, data)
}

func (h *hop) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	st, err := h.target.Standing(ctx, req)
	h.mu.Lock()
	saw := h.saw
	h.mu.Unlock()
	if err == nil && saw != nil {
		saw(st)
	}
	return st, err
}

// The first hop takes a delta and seems to die with it. The item is routed by way
// of another one, which spools the next attempt; then the first one's arrives after
// all. What the second attempt has more must not count as applied by it.
func TestSession_sibling(t *testing.T) {
	r := newRig(t)
	h := &hop{target: r.target}
	r.cfg.Dial = func(string) homeward.Sink { return h }
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(20)
	r.cut()

	hang := func(ctx context.Context, _ homeward.Position, _ []byte) (homeward.Ack, error) {
		<-ctx.Done()
		return homeward.Ack{}, ctx.Err()
	}
	type attempt struct {
		at   homeward.Position
		data []byte
	}
	made := make(chan attempt, 1)
	h.become(func(_ context.Context, p homeward.Position, data []byte) (homeward.Ack, error) {
		h.become(hang, nil)
		made <- attempt{p, data}
		return homeward.Ack{Position: p, Incarnation: homeward.NewID()}, nil // its spool is lost
	}, nil)
	g.mustWrite(5)
	first := <-made
	g.mustWrite(5) // not in it

	spooled := make(chan homeward.Position, 1)
	h.become(func(_ context.Context, p homeward.Position, _ []byte) (homeward.Ack, error) {
		h.become(func(context.Context, homeward.Position, []byte) (homeward.Ack, error) {
			return homeward.Ack{}, homeward.Errorf("put", homeward.Conflict, "", "", "%w", &homeward.PositionError{True: first.at})
		}, nil)
		spooled <- p
		return homeward.Ack{Position: p}, nil
	}, nil)
	r.request.Sink = "https://other:1"
	r.prepare()
	if second := <-spooled; second.Sequence != first.at.Sequence || second == first.at {
		t.Fatalf("second attempt %v, first %v", second, first.at)
	}
	told := make(chan struct{})
	var once sync.Once
	h.become(h.put, func(st homeward.Standing) {
		if st.Applied == first.at {
			once.Do(func() { close(told) })
		}
	})
	if _, err := h.target.Put(t.Context(), "web01", bytes.NewReader(first.data)); err != nil {
		t.Fatal(err)
	}
	<-told
	h.become(nil, nil)
	g.mustWrite(1)
	r.cut()
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 31 {
		t.Errorf("the replica has all up to write %d of 31", n)
	}
}
