package processserver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/ship"
	"github.com/homeward-dr/homeward/wire"
)

const (
	window   = 4               // deltas of an item on their way at once
	longPoll = 5 * time.Second // for what the next hop has spooled but not applied
	maxRetry = 30 * time.Second
)

// run forwards what is queued until ctx ends: one goroutine per route, which
// starts a send or a question at a time and waits for all it started.
func (r *route) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for ctx.Err() == nil {
		r.mu.Lock()
		start, changed, delay := r.next()
		r.mu.Unlock()
		if start != nil {
			running.Go(func() { start(ctx) })
			continue
		}
		timer := time.NewTimer(delay)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// next is what to start now, or what to wait for and for how long. r.mu is held.
func (r *route) next() (start func(context.Context), changed <-chan struct{}, delay time.Duration) {
	changed, delay = r.changed, time.Hour
	if r.up == nil || r.up.url != r.record.Target {
		return nil, changed, delay // connect comes
	}
	if left := r.retryAt.Sub(r.server.cfg.Now()); r.fault != nil && left > 0 {
		return nil, changed, left
	}
	if !r.known || r.fault != nil && len(r.queue) == 0 {
		if r.asking {
			return nil, changed, delay
		}
		return r.startAsk(homeward.StandingRequest{Item: r.item}), changed, 0
	}
	most, sending := window, 0
	if r.fault != nil {
		most = 1
	}
	var passed *entry
	for _, e := range r.queue {
		switch {
		case e.passed:
			passed = e
		case e.sending && !e.sent:
			return nil, changed, delay // side by side they would share the link, and outlast the target's patience
		case e.sending:
			sending++
		case sending >= most:
			return nil, changed, delay
		default:
			return r.startSend(e), changed, 0
		}
	}
	if passed != nil && !r.asking {
		return r.startAsk(homeward.StandingRequest{Item: r.item, Applied: passed.position, Wait: longPoll}), changed, 0
	}
	return nil, changed, delay
}

// startAsk begins a question to the target. r.mu is held.
func (r *route) startAsk(req homeward.StandingRequest) func(context.Context) {
	r.asking = true
	up := r.up
	return func(ctx context.Context) {
		r.ask(ctx, up, req)
		r.mu.Lock()
		r.asking = false
		r.notify()
		r.mu.Unlock()
	}
}

var errSilent = errors.New("the target did not answer in time")

// ask asks the target where the item stands and takes the answer in.
func (r *route) ask(ctx context.Context, up *uplink, req homeward.StandingRequest) {
	r.mu.Lock()
	news := r.news
	r.mu.Unlock()
	st, err := up.sink.Standing(ctx, req)
	up.outcome(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if up != r.up {
		return // routed elsewhere meanwhile
	}
	r.asked = r.server.cfg.Now()
	switch {
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSilent): // it was us
	case err != nil:
		r.fail(err)
	case r.record.Generation.Number < st.Generation.Number:
		r.fencedBy(st.Generation)
	case news != r.news && !ship.Covers(st.Applied, r.applied):
		// An answer to a put overtook this one, and knows more.
	default:
		r.well()
		r.resend(st)
		r.stand(st.Applied, st.AppliedAt)
	}
}

// resend lets entries be sent again that the next hop had spooled and has lost.
// r.mu is held.
func (r *route) resend(st homeward.Standing) {
	for _, e := range r.queue {
		if e.passed && !ship.Covers(st.Spooled, e.position) {
			e.passed = false
		}
	}
}

// fail remembers why the target cannot be reached or refuses. r.mu is held.
func (r *route) fail(err error) {
	r.faults++
	delay := min(r.server.cfg.Retry<<min(r.faults-1, 10), maxRetry)
	if kind := homeward.KindOf(err); kind == homeward.Busy || kind == homeward.NoSpace {
		delay = max(delay, min(wire.RetryAfter(err), maxRetry))
	}
	if r.fault == nil {
		r.faulty = r.server.cfg.Now().UTC()
		r.server.cfg.Log.Warn("cannot forward", "item", r.item, "target", r.record.Target, "error", err)
	}
	r.fault, r.retryAt = err, r.server.cfg.Now().Add(delay)
	r.notify()
}

// well forgets the fault. r.mu is held.
func (r *route) well() {
	if r.fault != nil {
		r.server.cfg.Log.Info("forwarding again", "item", r.item, "target", r.record.Target)
	}
	r.fault, r.faults, r.retryAt = nil, 0, time.Time{}
}

// fencedBy takes in that the target is under a newer generation. r.mu is held.
func (r *route) fencedBy(g homeward.Generation) {
	if r.record.Generation.Number > g.Number || r.record.Generation == g {
		return // it is the target that is behind, or an answer to an old send
	}
	err := ship.FencedBy(r.item, g)
	r.server.cfg.Log.Warn("fenced by the target", "item", r.item, "target", r.record.Target, "generation", g.Number)
	if r.record.Generation.Number < g.Number {
		if err := r.raise(g); err != nil {
			r.fault = err
		}
		return
	}
	// The same number with another id: the target's word counts for its replica.
	r.dropFrom(0, err)
	r.restLine()
	r.fail(err)
}

// startSend begins to send an entry. r.mu is held.
func (r *route) startSend(e *entry) func(context.Context) {
	e.sending, e.sent = true, false
	up, compression := r.up, r.record.Compression
	return func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r.mu.Lock()
		e.cancel = cancel
		gone := e.gone
		r.mu.Unlock()
		var ack homeward.Ack
		err := context.Canceled
		if !gone {
			ack, err = r.send(ctx, e, up, compression)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		e.sending, e.sent, e.cancel = false, false, nil
		r.settle(ctx, e, up, ack, err)
		r.notify()
	}
}

// settle takes in how a send ended. r.mu is held.
func (r *route) settle(ctx context.Context, e *entry, up *uplink, ack homeward.Ack, err error) {
	if up != r.up || e.gone || ctx.Err() != nil {
		return // who ended it knows why
	}
	up.outcome(err)
	var position *homeward.PositionError
	var fenced *homeward.FencedError
	switch kind := homeward.KindOf(err); {
	case err == nil && ack.Position != e.position: // I-7: what it has is not what was sent
		r.refused(ack.Position)
	case err == nil:
		r.well()
		e.passed = !ack.Applied
		if ack.Applied {
			r.observe(ack.Position, time.Time{})
		}
	case kind == homeward.Fenced && errors.As(err, &fenced):
		r.fencedBy(fenced.InForce)
	case kind == homeward.Conflict && errors.As(err, &position):
		r.refused(position.True)
	case kind == homeward.Corrupt:
		r.giveUp(e, err)
	default:
		r.fail(err)
		r.recall(e)
	}
}

// recall ends the sends of what follows e: the target only waits for e with them,
// and while the link fails one send alone tries it. r.mu is held.
func (r *route) recall(e *entry) {
	for i := len(r.queue) - 1; i >= 0 && r.queue[i] != e; i-- {
		if r.queue[i].cancel != nil {
			r.queue[i].cancel()
		}
	}
}

// refused takes in that the target does not stand where a delta that was sent
// begins, but at true_. r.mu is held.
func (r *route) refused(true_ homeward.Position) {
	err := r.standsAt(true_)
	switch {
	case true_.Generation != r.record.Generation: // not prepared for this generation yet
		r.fail(err)
	case len(r.queue) > 0 && r.queue[0].follows == true_: // it did not wait long enough for the first one
		r.fail(err)
	case r.known && true_ != r.applied && ship.Covers(r.applied, true_):
		// An answer that others overtook, or a target that was set back: ask.
		r.known = false
		r.fail(err)
	default:
		r.stand(true_, time.Time{})
	}
}

func (r *route) standsAt(p homeward.Position) error {
	return homeward.Errorf("forward delta", homeward.Conflict, "item "+string(r.item), "go on from the true position",
		"the target %w", &homeward.PositionError{True: p})
}

// stand goes on from where the target stands: after the entry that led there,
// or, when none did, without what is spooled. r.mu is held.
func (r *route) stand(p homeward.Position, at time.Time) {
	fits := len(r.queue) == 0 || p.Generation != r.record.Generation || r.queue[0].follows == p
	for _, e := range r.queue {
		fits = fits || e.position == p
	}
	if !fits {
		r.server.cfg.Log.Warn("the target stands elsewhere: spooled deltas dropped",
			"item", r.item, "deltas", len(r.queue), "position", p)
		r.dropFrom(0, r.standsAt(p))
	}
	r.observe(p, at)
}

// giveUp drops an entry that can never be applied, and all that follow it: the
// agent cuts again. r.mu is held.
func (r *route) giveUp(bad *entry, err error) {
	for i, e := range r.queue {
		if e == bad {
			r.dropFrom(i, err)
			r.restLine()
			r.fail(err)
			return
		}
	}
}
