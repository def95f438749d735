package job_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("HOMEWARD_SEED=%q is no number: %v", s, err)
		}
	}
	t.Logf("replay with HOMEWARD_SEED=%d", n)
	return n
}

// crowd is a store and jobs that fail, pause and take turns by chance, on few items.
type crowd struct {
	store *memory
	calm  atomic.Bool // everything succeeds
	mu    sync.Mutex
	rng   *rand.Rand
	busy  map[homeward.ItemID]string // who has effects on an item at the moment
	clash []string
}

func (c *crowd) chance(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

func (c *crowd) do(ctx context.Context, r *job.Run) error {
	j := r.Job()
	c.mu.Lock()
	if by := c.busy[j.Item]; by != "" {
		c.clash = append(c.clash, fmt.Sprintf("%s and %s work on %s at once", by, j.ID, j.Item))
	}
	c.busy[j.Item] = j.ID
	n := c.rng.IntN(10)
	c.mu.Unlock()
	r.Progress(homeward.Progress{Done: int64(n)})
	c.mu.Lock()
	delete(c.busy, j.Item)
	c.mu.Unlock()
	switch {
	case c.calm.Load():
		return nil
	case n == 0:
		return homeward.Errorf("do", homeward.IO, "disk", "replace it", "broken")
	case n == 1:
		return r.Pause("unsure", "decide")
	case n < 4:
		return homeward.Errorf("do", homeward.Unavailable, "agent", "", "away")
	case n == 4:
		panic("oh")
	}
	return ctx.Err()
}

func (c *crowd) definitions() []job.Definition {
	begin := func(ctx context.Context, r *job.Run) error {
		_, err := r.Begin(ctx, vault.Job{Scenario: "Child", Item: r.Job().Item})
		return err
	}
	skippable := task("b", c.do)
	skippable.Skippable = true
	return []job.Definition{plain("Parent", task("a", c.do), task("begin", begin), skippable), plain("Child", task("x", c.do))}
}

// operator does what comes to mind, until ctx ends.
func (c *crowd) operator(ctx context.Context, t *testing.T, e *job.Engine) {
	for range 25 {
		item := homeward.ItemID(fmt.Sprintf("item%d", c.chance(3)))
		_, err := e.Start(ctx, vault.Job{Scenario: "Parent", Item: item})
		if k := homeward.KindOf(err); err != nil && k != homeward.Conflict && k != homeward.Unavailable {
			t.Errorf("start: %v", err)
		}
		all := c.store.ids()
		if len(all) == 0 {
			continue
		}
		actions := []vault.JobAction{vault.JobCancel, vault.JobRetry, vault.JobRetry, vault.JobSkip, vault.JobAbort}
		_, err = e.Tell(ctx, vault.JobRequest{ID: all[len(all)-1-c.chance(min(len(all), 6))], Action: actions[c.chance(len(actions))]})
		if k := homeward.KindOf(err); err != nil && k != homeward.Conflict && k != homeward.Unavailable {
			t.Errorf("tell: %v", err)
		}
	}
}

// TestManyOperators: several act at once on few items while the engine is restarted
// and its store fails now and then; in the end everything can be brought to an end,
// and never did two jobs work on one item.
func TestManyOperators(t *testing.T) {
	c := &crowd{store: newMemory(), rng: rand.New(rand.NewPCG(seed(t), 7)), busy: map[homeward.ItemID]string{}}
	c.store.around = func(string, bool) error {
		if !c.calm.Load() && c.chance(25) == 0 {
			return homeward.Errorf("store", homeward.Unavailable, "database", "", "locked")
		}
		return nil
	}
	ctx := bounded(t)
	for range 4 {
		e := newEngine(job.Options{Store: c.store, Definitions: c.definitions(), Max: 2, Tries: 3})
		for e.Resume(ctx) != nil {
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { c.operator(ctx, t, e) })
		}
		wg.Wait()
		e.Close()
	}
	c.calm.Store(true)
	e := engine(t, job.Options{Store: c.store, Definitions: c.definitions(), Max: 2})
	if err := e.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	states := map[vault.JobState]int{}
	for i := 0; i < len(c.store.ids()); i++ { // children may begin meanwhile
		j := c.store.stored(c.store.ids()[i])
		if parent := c.store.stored(j.Parent); parent.State == vault.JobPaused {
			must(t, e, parent.ID, vault.JobRetry, "")
		}
		j, err := e.Wait(ctx, j.ID)
		if err == nil && j.State == vault.JobPaused {
			must(t, e, j.ID, vault.JobRetry, "")
			j, err = e.Wait(ctx, j.ID)
		}
		if err != nil || !j.State.Ended() {
			t.Fatalf("job %s is %s: %v", j.ID, j.State, err)
		}
		states[j.State]++
	}
	t.Logf("%v", states)
	for item, holder := range c.store.held {
		if holder != "" {
			t.Errorf("%s is held by %s", item, holder)
		}
	}
	for _, clash := range c.clash {
		t.Error(clash)
	}
	c.store.check(t)
}
