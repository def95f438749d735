package processserver

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homeward-dr/homeward"
)

// A delta is lost on its way while the target waits for it with the next one: it
// is sent again at once, not when the target has lost its patience.
func TestServer_LostDeltaIsNotWaitedFor(t *testing.T) {
	r := newRig(t)
	var calls atomic.Int64
	second, recalled := make(chan struct{}), make(chan struct{})
	r.twin.Gate = func(ctx context.Context, _ homeward.ItemID) error {
		switch calls.Add(1) {
		case 1:
			<-second
			return homeward.Errorf("send", homeward.Unavailable, "target", "send it again", "the connection broke")
		case 2:
			close(second)
			<-ctx.Done() // it waits for the first
			close(recalled)
			return ctx.Err()
		}
		return nil
	}
	r.start()
	one, two := r.source.Next(t), r.source.Next(t)
	var puts sync.WaitGroup
	puts.Go(func() { _, _ = r.put(one) }) // what they answer is not the point
	puts.Go(func() { _, _ = r.put(two) })
	<-recalled
	r.mustApply()
	puts.Wait()
}
