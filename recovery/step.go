package recovery

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/homeward-dr/homeward"
)

// Step is told to Item.Watch when a step begins (Ended zero), whenever it has
// progress to tell, and when it ends.
type Step struct {
	Name     string
	Began    time.Time
	Ended    time.Time
	Progress homeward.Progress // the part that is done never falls
	Err      error
	Optional bool // the list goes on though it failed
}

// step runs one named step and tells the watcher.
func (it *Item) step(ctx context.Context, name string, do func(tell func(homeward.Progress)) error) error {
	return it.run(ctx, Step{Name: name}, do)
}

// optional runs a step that the list goes on without.
func (it *Item) optional(ctx context.Context, name string, do func(tell func(homeward.Progress)) error) error {
	return it.run(ctx, Step{Name: name, Optional: true}, do)
}

func (it *Item) run(ctx context.Context, s Step, do func(tell func(homeward.Progress)) error) error {
	s.Began = time.Now()
	it.tell(s)
	err := ctx.Err()
	if err == nil {
		err = do(func(p homeward.Progress) { s.Progress = onward(s.Progress, p); it.tell(s) })
	}
	s.Ended, s.Err = time.Now(), err
	it.tell(s)
	return homeward.Wrap(it.superseded(err), s.Name, "item "+string(it.ID()))
}

// onward is what comes after some progress: the part that is done never falls,
// though a machine that writes, or a step that turns to another part of its work,
// may say so.
func onward(before, now homeward.Progress) homeward.Progress {
	if before.Total <= 0 || now.Total <= 0 {
		return now
	}
	part := min(1, max(float64(before.Done)/float64(before.Total), float64(now.Done)/float64(now.Total)))
	now.Done = max(now.Done, int64(math.Ceil(part*float64(now.Total))))
	return now
}

// superseded says what to do when a role has been told of a generation that this
// record does not know: calling again would never help.
func (it *Item) superseded(err error) error {
	var fenced *homeward.FencedError
	if !errors.As(err, &fenced) || !fenced.InForce.Fences(it.newest()) {
		return err
	}
	return homeward.Errorf("compare generations", homeward.Fenced, "item "+string(it.ID()),
		"stop: another controller, or break-glass recovery, has moved the item; load its newest record before anything else is done",
		"generation %d is in force, this record ends at %d: %w", fenced.InForce.Number, it.newest().Number, err)
}

// newest is the newest generation that the item may have told a role.
func (it *Item) newest() homeward.Generation {
	if it.Next.Number > it.Generation.Number {
		return it.Next
	}
	return it.Generation
}

// lookAtStandby asks the standby side, which hears of every generation, before a
// machine is stopped: a record that is not the newest must not stop one, and nor
// must one whose standby side is away.
func (it *Item) lookAtStandby(ctx context.Context) (replica homeward.ReplicaReport, err error) {
	err = it.step(ctx, "look at standby side", func(func(homeward.Progress)) (err error) {
		replica, err = it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		if err == nil && replica.Generation.Fences(it.newest()) {
			err = &homeward.FencedError{InForce: replica.Generation}
		}
		return err
	})
	return replica, err
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
