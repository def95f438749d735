package agent

import (
	"context"
	"errors"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/capture"
)

// errGivenUp ends the waiting for a cut whose blocks travel with a later one.
var errGivenUp = errors.New("the cut was given up; its blocks travel with the next one")

// cutting is a cut on its way to the replica. Its channels are closed once each,
// in the order spooled, applied; or failed instead of what did not happen.
type cutting struct {
	cut   *capture.Cut
	mark  homeward.Mark
	bytes int64 // of its blocks
	gen   homeward.Generation
	whole bool   // of a proof: its content stays until it is unfrozen
	lease *lease // the turn to cut; back when its content is released

	// Guarded by the session's mutex.
	packed  bool              // all its deltas are under way
	unacked int               // of them
	final   homeward.Position // of the last; valid once spooled or applied is closed
	ended   bool              // applied or failed

	spooled chan struct{}
	applied chan struct{}
	failed  chan struct{}
	gone    chan struct{} // applied or failed
}

// newCutting begins the way of a cut. It is not frozen when the cut was given up
// already: its size and map would tell nothing.
func newCutting(cut *capture.Cut, lease *lease, mark homeward.Mark, gen homeward.Generation) (c *cutting, frozen bool) {
	c = &cutting{cut: cut, lease: lease, mark: mark, bytes: cut.Bytes(), gen: gen,
		spooled: make(chan struct{}), applied: make(chan struct{}), failed: make(chan struct{}), gone: make(chan struct{})}
	return c, cut.Err() == nil
}

// wait returns when the cut is as far as stage, one of homeward.Wait…
func (c *cutting) wait(ctx context.Context, stage string) error {
	var reached <-chan struct{}
	switch stage {
	case homeward.WaitCut:
		return nil
	case homeward.WaitSpooled:
		reached = c.spooled
	default:
		reached = c.applied
	}
	select {
	case <-reached:
		return nil
	case <-c.failed:
		return errGivenUp
	case <-ctx.Done():
		return homeward.Errorf("wait for cut", homeward.KindOf(ctx.Err()), c.cut.ID.String(),
			"see the item's report for what holds it up; the cut goes on", "not %s yet: %w", stage, ctx.Err())
	}
}

// report is complete once spooled or applied was waited for.
func (c *cutting) report() homeward.CutReport {
	r := homeward.CutReport{Mark: c.mark, Hold: c.cut.Hold, Bytes: c.bytes,
		Position: homeward.Position{Generation: c.gen, Cut: c.cut.ID}}
	select {
	case <-c.spooled:
		r.Position = c.final
	case <-c.applied:
		r.Position = c.final
	default:
	}
	return r
}

// backoff waits longer from time to time.
type backoff struct {
	next time.Duration
}

const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
)

func (b *backoff) reset() { b.next = 0 }

// wait returns false when ctx ended first.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(2*b.next, backoffFirst), backoffMost)
	return pause(ctx, b.next)
}

// pause returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
