package processserver

import (
	"sync"
	"time"
)

// burst is what an idle bucket saves up: so much time's worth of bytes.
const burst = 100 * time.Millisecond

// bucket spreads bytes over time. It has no clock of its own. Safe for
// concurrent use.
type bucket struct {
	mu   sync.Mutex
	paid time.Time // up to when what was taken is paid for
}

// take takes n bytes at the time now, under a cap of rate bytes a second, and
// returns how long to wait before they may go. Who takes more waits longer, in
// the order of taking. rate 0: no wait.
func (b *bucket) take(now time.Time, n int, rate int64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rate <= 0 {
		b.paid = now
		return 0
	}
	if oldest := now.Add(-burst); b.paid.Before(oldest) {
		b.paid = oldest
	}
	b.paid = b.paid.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return max(0, b.paid.Sub(now))
}
