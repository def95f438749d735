package job

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// live is a job that runs, or waits for its turn. Its goroutine alone moves it on;
// mu guards what others may look at and tell.
type live struct {
	e      *Engine
	id     string
	item   homeward.ItemID
	defs   map[string]TaskDef
	flawed error // why there is no plan to run
	ctx    context.Context
	cancel context.CancelFunc
	saving chan struct{} // holds one: whoever writes to the store
	turn   *waiter
	gone   chan struct{} // closed when the goroutine is about to end

	mu        sync.Mutex
	job       vault.Job
	told      bool // something that is not stored yet
	cancelled bool // by a person
	whole     bool // the task that is done now cannot be cancelled
}

// look is the job as it is now.
func (l *live) look() vault.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	return clone(l.job)
}

// change alters the job in memory; store it before the next effect.
func (l *live) change(do func(*vault.Job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do(&l.job)
}

// tell alters what need not be stored at once.
func (l *live) tell(do func(*vault.Job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do(&l.job)
	l.told = true
}

type put func(ctx context.Context, j *vault.Job) error

// store writes the job down. It tries until the store has it: what is not stored is
// not done. It errs when ctx or the engine ends, or the job was removed.
func (l *live) store(ctx context.Context, write put) error {
	select {
	case l.saving <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.e.base.Done():
		return closed()
	}
	defer func() { <-l.saving }()
	for delay := l.e.first; ; delay = min(2*delay, l.e.longest) {
		err := l.try(ctx, write)
		if err == nil || ctx.Err() != nil || l.e.base.Err() != nil {
			return err
		}
		l.e.log.Warn("a job cannot be stored; trying again", "job", l.id, "in", delay, "error", err)
		if err := sleep(ctx, delay); err != nil {
			return err
		}
		if done, err := l.compare(ctx); done || homeward.KindOf(err) == homeward.NotFound {
			return err
		}
	}
}

// try writes once. Whoever calls it holds saving.
func (l *live) try(ctx context.Context, write put) error {
	l.mu.Lock()
	j := clone(l.job)
	l.told = false
	l.mu.Unlock()
	err := write(ctx, &j)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.told = true
		return err
	}
	l.job.Meta = j.Meta
	return nil
}

// compare finds out what became of a write that erred; done: the end is stored.
func (l *live) compare(ctx context.Context) (done bool, err error) {
	stored, err := l.e.store.Load(ctx, l.id)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.job.Meta = stored.Meta
	return stored.State.Ended() && l.job.State == stored.State, nil
}

// save stores a job that has not ended; one that has is stored by its end alone.
func (l *live) save(ctx context.Context, j *vault.Job) error {
	if j.State.Ended() {
		return nil
	}
	return l.e.store.Save(ctx, j)
}

// keepProgress stores, now and then, what tasks told; stop ends that.
func (l *live) keepProgress() (stop func()) {
	ctx, cancel := context.WithCancel(l.e.base)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(l.e.every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			l.mu.Lock()
			told := l.told
			l.mu.Unlock()
			if !told {
				continue
			}
			select {
			case l.saving <- struct{}{}:
				if err := l.try(ctx, l.save); err != nil && ctx.Err() == nil {
					l.e.log.Debug("progress was not stored", "job", l.id, "error", err)
					_, _ = l.compare(ctx) // the next write needs the revision; if this errs too, that one asks again
				}
				<-l.saving
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// sleep waits, but not beyond ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// clone shares nothing that is changed in place.
func clone(j vault.Job) vault.Job {
	j.Tasks, j.Artefacts, j.Actions = cloneTasks(j.Tasks), slices.Clone(j.Artefacts), slices.Clone(j.Actions)
	return j
}

func cloneTasks(in []vault.Task) []vault.Task {
	out := slices.Clone(in)
	for i := range out {
		out[i].Children = cloneTasks(out[i].Children)
	}
	return out
}
