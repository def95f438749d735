package nbd

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// budget bounds what all clients together have in flight: requests, and bytes of
// payload. Waiting for it is the back-pressure: the connection is not read.
type budget struct {
	requests *semaphore.Weighted
	bytes    *semaphore.Weighted
}

func newBudget(requests int, bytes int64) *budget {
	return &budget{requests: semaphore.NewWeighted(int64(requests)), bytes: semaphore.NewWeighted(bytes)}
}

// tryTake is take for those who would rather do something else than wait.
func (b *budget) tryTake(n int) bool {
	if !b.requests.TryAcquire(1) {
		return false
	}
	if n > 0 && !b.bytes.TryAcquire(int64(n)) {
		b.requests.Release(1)
		return false
	}
	return true
}

// take waits for room for one request that carries n bytes; the error is ctx's.
func (b *budget) take(ctx context.Context, n int) error {
	if err := b.requests.Acquire(ctx, 1); err != nil {
		return err
	}
	if n > 0 {
		if err := b.bytes.Acquire(ctx, int64(n)); err != nil {
			b.requests.Release(1)
			return err
		}
	}
	return nil
}

func (b *budget) give(n int) {
	if n > 0 {
		b.bytes.Release(int64(n))
	}
	b.requests.Release(1)
}
