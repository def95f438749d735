package processserver

import (
	"context"
	"io"
	"time"

	"github.com/homeward-dr/homeward"
)

// A body that comes in more slowly than leastRate, averaged over at least
// rateAfter, is given up: it keeps others waiting. An agent gives up sooner, unless
// it was told otherwise: 8 MiB in its PutTimeout are twice that rate.
const (
	leastRate = 64 << 10 // bytes a second
	rateAfter = 30 * time.Second
)

// MaySend reports whether an agent of this name may send deltas of an item:
// Forbidden when the route is bound to another one. An item without a route is
// refused by Put itself.
func (s *Server) MaySend(item homeward.ItemID, name string) error {
	r, err := s.routed(item)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	if agent := r.recorded().Agent; agent != "" && agent != name {
		return homeward.Errorf("authorize", homeward.Forbidden, "item "+string(item),
			"send from "+agent+", or prepare the route to take its deltas from "+name, "its deltas come from %s, not from %s", agent, name)
	}
	return nil
}

// acquireReceive takes the right to receive, with the patience of a delta that
// waits for its predecessor. An item cannot take it from the others.
func (r *route) acquireReceive(ctx context.Context) (release func(), err error) {
	s := r.server
	limited, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	busy := func(n int, fix string) error {
		if ctx.Err() != nil {
			return homeward.Wrap(context.Cause(ctx), "put delta", "item "+string(r.item))
		}
		return homeward.Errorf("put delta", homeward.Busy, "item "+string(r.item), fix, "%d deltas are being received already", n)
	}
	if r.receives.Acquire(limited, 1) != nil {
		return nil, busy(maxOfItem, "retry; send fewer deltas of an item at once")
	}
	if s.receives.Acquire(limited, 1) != nil {
		r.receives.Release(1)
		return nil, busy(maxReceives, "retry, or share the agents between more process servers")
	}
	return func() { s.receives.Release(1); r.receives.Release(1) }, nil
}

// hasten gives up a body that comes in too slowly. Only the time of waiting for it
// counts, not that of what is done with it.
func (s *Server) hasten(body io.Reader, item homeward.ItemID) io.Reader {
	return &hastened{body: body, item: item, now: s.cfg.Now}
}

type hastened struct {
	body   io.Reader
	item   homeward.ItemID
	now    func() time.Time
	bytes  int64
	waited time.Duration
}

func (h *hastened) Read(p []byte) (int, error) {
	began := h.now()
	n, err := h.body.Read(p)
	h.bytes += int64(n)
	h.waited += h.now().Sub(began)
	if err == nil && h.waited >= rateAfter && float64(h.bytes) < leastRate*h.waited.Seconds() {
		err = homeward.Errorf("receive delta", homeward.Timeout, "item "+string(h.item), "look at the network between agent and process server, and retry",
			"%d KiB came in %v", h.bytes>>10, h.waited.Round(time.Second))
	}
	return n, err
}
