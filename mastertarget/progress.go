package mastertarget

import (
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

// progress counts the bytes of a long piece of work. Safe for concurrent use; the
// zero progress is of work that has not begun.
type progress struct {
	mu          sync.Mutex
	began       time.Time
	done, total int64
}

func (p *progress) begin(total int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began, p.done, p.total = now, 0, total
}

func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.total = max(p.total, p.done) // a machine may write on while it is promoted
}

func (p *progress) report(now time.Time) homeward.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := homeward.Progress{Done: p.done, Total: p.total}
	if s := now.Sub(p.began).Seconds(); p.done > 0 && s > 0 {
		r.Rate = float64(p.done) / s
		r.Left = float64(p.total-p.done) / r.Rate
	}
	return r
}
