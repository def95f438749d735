package shiptest

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

// Wild is a transport that behaves badly on the way to Next: it holds puts back
// so that they overtake each other, puts a delta twice, loses answers, and keeps
// copies that Resurrect puts again much later. Safe for concurrent use.
type Wild struct {
	Next homeward.Sink

	mu   sync.Mutex
	rng  *rand.Rand
	kept [][]byte
	item homeward.ItemID
}

// NewWild makes such a transport for one item.
func NewWild(next homeward.Sink, rng *rand.Rand) *Wild {
	return &Wild{Next: next, rng: rand.New(rand.NewPCG(rng.Uint64(), 1))}
}

func (w *Wild) chance(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// Put is homeward.Sink's, now and then.
func (w *Wild) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return homeward.Ack{}, err
	}
	w.mu.Lock()
	w.kept, w.item = append(w.kept, data), item
	w.mu.Unlock()
	select {
	case <-time.After(time.Duration(w.chance(4)) * time.Millisecond):
	case <-ctx.Done():
		return homeward.Ack{}, ctx.Err()
	}
	lost := homeward.Errorf("send delta", homeward.Unavailable, "wild transport", "retry", "lost on the way")
	switch w.chance(8) {
	case 0: // the request is lost
		return homeward.Ack{}, lost
	case 1: // the answer is lost
		_, _ = w.Next.Put(ctx, item, bytes.NewReader(data))
		return homeward.Ack{}, lost
	case 2: // it arrives twice at once
		var twice sync.WaitGroup
		twice.Go(func() { _, _ = w.Next.Put(ctx, item, bytes.NewReader(data)) })
		defer twice.Wait()
	}
	return w.Next.Put(ctx, item, bytes.NewReader(data))
}

// Standing is homeward.Sink's.
func (w *Wild) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	return w.Next.Standing(ctx, req)
}

// Resurrect puts everything that ever passed once more, oldest first, and
// returns the answers.
func (w *Wild) Resurrect(ctx context.Context) (acks []homeward.Ack, errs []error) {
	w.mu.Lock()
	kept := append([][]byte(nil), w.kept...)
	w.mu.Unlock()
	for _, data := range kept {
		ack, err := w.Next.Put(ctx, w.item, bytes.NewReader(data))
		acks, errs = append(acks, ack), append(errs, err)
	}
	return acks, errs
}
