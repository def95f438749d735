package agent

import (
	"context"
	"errors"
	"slices"

	"github.com/homeward-dr/homeward"
)

// wish is a cut that somebody waits for.
type wish struct {
	kind  homeward.MarkKind
	label string
	whole bool
	got   chan struct{} // closed when cut or err is set
	cut   *cutting
	err   error
}

func (w *wish) refuse(err error) {
	w.err = err
	close(w.got)
}

func (w *wish) grant(c *cutting) {
	w.cut = c
	close(w.got)
}

// wishFor asks the loop for a cut and waits until it is as far as stage. A cut
// that is given up on the way is asked for again.
func (l *leg) wishFor(ctx context.Context, w wish, stage string) (*cutting, error) {
	for {
		mine := w
		mine.got = make(chan struct{})
		l.mu.Lock()
		err := l.stopped
		if err == nil && !l.complete() {
			err = homeward.Errorf("cut", homeward.Conflict, string(l.id), "wait until the resync is complete: no state before is bootable",
				"the set to ship is not whole yet")
		}
		if err == nil {
			l.wishes = append(l.wishes, &mine)
		}
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		l.nudge()
		select {
		case <-mine.got:
		case <-ctx.Done():
			if !l.forget(&mine) {
				<-mine.got // granted just now: the cut goes on without us
			}
			return mine.cut, homeward.Errorf("cut", homeward.KindOf(ctx.Err()), string(l.id),
				"see the item's report for what it waits for", "not cut yet: %w", ctx.Err())
		}
		if mine.err != nil {
			return nil, mine.err
		}
		if err = mine.cut.wait(ctx, stage); !errors.Is(err, errGivenUp) {
			return mine.cut, err
		}
	}
}

// forget takes a wish back; false: it was granted or refused already.
func (l *leg) forget(w *wish) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.wishes, w)
	if i >= 0 {
		l.wishes = slices.Delete(l.wishes, i, i+1)
	}
	return i >= 0
}

func (l *leg) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// wished is the oldest wish, which stays.
func (l *leg) wished() *wish {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wishes) == 0 {
		return nil
	}
	return l.wishes[0]
}
