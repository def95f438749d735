package processserver

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

// send sends one entry once.
func (r *route) send(ctx context.Context, e *entry, up *uplink, compression string) (homeward.Ack, error) {
	none := homeward.Ack{}
	release, err := up.acquire(ctx)
	if err != nil {
		return none, err
	}
	defer release()
	if err := r.server.sends.Acquire(ctx, 1); err != nil {
		return none, context.Cause(ctx)
	}
	defer r.server.sends.Release(1)
	r.mu.Lock()
	from, done, err := e.open(ctx, r.server)
	r.mu.Unlock()
	if err != nil {
		return none, err
	}
	limit := r.server.limitOf(up)
	var recoding sync.WaitGroup
	defer func() {
		recoding.Wait()
		if err := done(); err != nil {
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
	o := &outgoing{ctx: ctx, from: from, close: stop, chunk: chunkFor(limit), ended: func() { r.sent(e) }}
	o.wait = func(n int) time.Duration { return r.server.pace(up, n) }
	o.count = func(n int) {
		r.mu.Lock()
		r.wire += int64(n)
		r.mu.Unlock()
	}
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

// chunkFor keeps what is handed on at once to a fraction of a second of the cap.
func chunkFor(limit int64) int {
	if limit <= 0 {
		return 64 << 10
	}
	return int(min(max(limit/20, 1<<10), 64<<10))
}
