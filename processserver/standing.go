package processserver

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/ship"
)

const (
	fresh       = time.Second     // how long the target's word is taken for true without asking again
	askPatience = 3 * time.Second // for an answer of the target that a caller waits for
	maxWait     = time.Minute
)

// Standing is homeward.Sink's. When nothing is on its way to the target and its
// last word is older than a second, it is asked, for deltas may have gone by
// another process server; when it cannot be, its last word and the fault are told.
func (s *Server) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return homeward.Standing{}, err
	}
	defer end()
	r, err := s.routed(req.Item)
	if err != nil {
		return homeward.Standing{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(max(req.Wait, 0), maxWait)+askPatience)
	defer cancel()
	until := time.Now().Add(min(max(req.Wait, 0), maxWait))
	covered := func() bool { return !req.Applied.IsZero() && r.known && ship.Covers(r.applied, req.Applied) }
	r.refresh(ctx, covered)
	for left := time.Until(until); left > 0 && !req.Applied.IsZero(); left = time.Until(until) {
		// Woken now and then, to ask the target again when it is not us who ship.
		step, stop := context.WithTimeout(ctx, min(left, 2*fresh))
		err := r.wait(step, covered)
		stop()
		if err == nil || ctx.Err() != nil {
			break
		}
		r.refresh(ctx, covered)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.standing(), nil
}

// refresh asks the target unless it is known well enough, or in trouble: then run
// asks it again in its own time.
func (r *route) refresh(ctx context.Context, enough func() bool) {
	r.mu.Lock()
	up := r.up
	skip := enough() || len(r.queue) > 0 || up == nil || r.fault != nil || r.server.cfg.Now().Sub(r.asked) < fresh
	r.mu.Unlock()
	if skip {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, askPatience, errSilent)
	defer cancel()
	r.ask(ctx, up, homeward.StandingRequest{Item: r.item})
}

// standing is what is true now. r.mu is held.
func (r *route) standing() homeward.Standing {
	st := homeward.Standing{
		Item: r.item, Generation: r.record.Generation, Applied: r.applied, Known: r.known, Spooled: r.applied,
		Incarnation: r.server.incarnation, SpoolBytes: r.server.budget.usedBy(r), WireBytes: r.wire, AppliedAt: r.applyAt,
	}
	for _, e := range r.queue {
		if !e.durable {
			break
		}
		st.Spooled = e.position
	}
	if r.fault != nil {
		st.Fault, st.Remedy = r.fault.Error(), homeward.RemedyOf(r.fault)
	}
	return st
}
