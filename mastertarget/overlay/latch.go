package overlay

import (
	"slices"
	"sync"

	"github.com/homeward-dr/homeward/block"
)

// Latch lets one caller at a time change a range of blocks. The zero Latch is free.
type Latch struct {
	mu    sync.Mutex
	freed *sync.Cond
	held  []block.Run
}

// Lock waits until no held range overlaps this one.
func (l *Latch) Lock(r block.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freed == nil {
		l.freed = sync.NewCond(&l.mu)
	}
	for slices.ContainsFunc(l.held, func(o block.Run) bool { return o.Start < r.Start+r.Count && r.Start < o.Start+o.Count }) {
		l.freed.Wait()
	}
	l.held = append(l.held, r)
}

// Unlock gives back a range that Lock took.
func (l *Latch) Unlock(r block.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.held, r)
	l.held = slices.Delete(l.held, i, i+1)
	l.freed.Broadcast()
}
