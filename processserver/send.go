package processserver

import (
	"context"
	"io"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

// send sends one entry once.
func (r *route) send(ctx context.Context, e *entry, up *uplink, compression string) (homeward.Ack, error) {
	none := homeward.Ack{}
	release, err := up.acquire(ctx, r)
	if err != nil {
		return none, err
	}
	defer release()
	done, err := r.server.sends.acquire(ctx, r, 1, 0)
	if err != nil {
		return none, err
	}
	defer done()
	r.mu.Lock()
	from, shut, err := e.open(ctx, r.server)
	r.mu.Unlock()
	if err != nil {
		return none, err
	}
	limit := r.server.limitOf(up)
	var recoding sync.WaitGroup
	defer func() {
		recoding.Wait()
		if err := shut(); err != nil {
			r.server.cfg.Log.Warn("cannot close a spooled delta", "item", r.item, "error", err)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a read of what has not come yet
	stop := func() { cancel() }
	if choose := up.choose(compression, limit); choose != nil {
		in, out := io.Pipe()
		whole := from // from becomes the recoded body below
		recoding.Go(func() {
			_, _, err := delta.Recode(out, whole, choose)
			_ = out.CloseWithError(err) // never fails
		})
		from, stop = in, func() { cancel(); _ = in.Close() } // never fails
	}
	defer stop()
	o := &outgoing{ctx: ctx, from: from, close: stop, pacer: pacer{route: r, entry: e, up: up}, ended: func() { r.sent(e) }}
	ack, err := up.sink.Put(ctx, r.item, o)
	if err == nil {
		up.measured(o.sent, o.busy)
	}
	return ack, err
}

// sent lets the next send begin.
func (r *route) sent(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.sent = true
	r.notify()
}
