package enrol

import (
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// A source may fail burst times at once, and once per refill after that.
const (
	burst      = 10
	refill     = 10 * time.Second
	maxSources = 4096
)

// limiter bounds guessing. A secret has 256 bits, so guessing is hopeless; what is
// bounded is the work that somebody who tries can make. Memory: maxSources
// entries; when they are used up, the source that failed least recently is
// forgotten.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	sources map[string]time.Time // when all its failures will be forgiven
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, sources: map[string]time.Time{}}
}

// check refuses a source that has failed too often.
func (l *limiter) check(from string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait := l.sources[pki.Source(from)].Sub(l.now()); wait > (burst-1)*refill {
		return homeward.Errorf("enrol", homeward.Busy, from, "check the token, and retry after a minute", "too many refused requests from this address")
	}
	return nil
}

func (l *limiter) failed(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, key := l.now(), pki.Source(from)
	until := l.sources[key]
	if until.Before(now) {
		until = now
	}
	if _, known := l.sources[key]; !known && len(l.sources) >= maxSources {
		l.forget(now)
	}
	l.sources[key] = until.Add(refill)
}

// forget makes room: everybody who is forgiven goes, or else the one who is next.
func (l *limiter) forget(now time.Time) {
	var first string
	for s, until := range l.sources {
		if until.Before(now) {
			delete(l.sources, s)
		} else if first == "" || until.Before(l.sources[first]) {
			first = s
		}
	}
	if len(l.sources) >= maxSources {
		delete(l.sources, first)
	}
}
