package recovery

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
)

// Step is told to Item.Watch when a step begins (Ended zero), whenever it has
// progress to tell, and when it ends.
type Step struct {
	Name     string
	Began    time.Time
	Ended    time.Time
	Progress homeward.Progress
	Err      error
}

// step runs one named step and tells the watcher.
func (it *Item) step(ctx context.Context, name string, do func(tell func(homeward.Progress)) error) error {
	s := Step{Name: name, Began: time.Now()}
	it.tell(s)
	err := ctx.Err()
	if err == nil {
		err = do(func(p homeward.Progress) { s.Progress = p; it.tell(s) })
	}
	s.Ended, s.Err = time.Now(), err
	it.tell(s)
	return homeward.Wrap(err, name, "item "+string(it.ID()))
}

func (it *Item) tell(s Step) {
	if it.Watch != nil {
		it.Watch(s)
	}
}

// poll asks until done says so. Roles answer reports in microseconds, so the
// interval is short; it is bounded by ctx alone.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil && !homeward.Retryable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}
