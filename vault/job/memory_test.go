package job_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store that keeps what a crash leaves: everything whose call took
// effect. It checks what the engine owes a store on every call.
type memory struct {
	mu        sync.Mutex
	jobs      map[string][]byte
	order     []string
	ended     map[string]bool
	held      map[homeward.ItemID]string
	artefacts map[string]vault.Artefact
	wrong     []string // what the engine did against the rules

	// around is called before and after every call, and errs to lose the call or its answer.
	around func(call string, after bool) error
	// saved looks at every stored form of a job.
	saved func(vault.Job)
}

func newMemory() *memory {
	return &memory{jobs: map[string][]byte{}, ended: map[string]bool{}, held: map[homeward.ItemID]string{}, artefacts: map[string]vault.Artefact{}}
}

func (m *memory) call(ctx context.Context, name string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.around != nil {
		if err := m.around(name, false); err != nil {
			return err
		}
	}
	m.mu.Lock()
	err := do()
	m.mu.Unlock()
	if err == nil && m.around != nil {
		err = m.around(name, true)
	}
	return err
}

func (m *memory) load(id string) (j vault.Job, ok bool) {
	data, ok := m.jobs[id]
	if ok {
		if err := json.Unmarshal(data, &j); err != nil {
			panic(err)
		}
	}
	return j, ok
}

func (m *memory) write(j *vault.Job) {
	j.Revision++
	data, err := json.Marshal(j)
	if err != nil {
		panic(err)
	}
	m.jobs[j.ID], m.ended[j.ID] = data, j.State.Ended()
	if m.saved != nil {
		m.saved(*j)
	}
}

func (m *memory) unended(item homeward.ItemID) (out []vault.Job) {
	for _, id := range m.order {
		if m.ended[id] {
			continue
		}
		if j, _ := m.load(id); item == "" || j.Item == item {
			out = append(out, j)
		}
	}
	return out
}

func (m *memory) hold(item homeward.ItemID) {
	if item != "" {
		m.held[item] = job.Holder(m.unended(item))
	}
}

func (m *memory) take(j *vault.Job) error {
	if err := job.Admit(*j, m.unended(j.Item)); j.Item != "" && err != nil {
		return err
	}
	return nil
}

func (m *memory) Begin(ctx context.Context, j *vault.Job) error {
	return m.call(ctx, "begin", func() error {
		if _, there := m.load(j.ID); there {
			m.wrong = append(m.wrong, "begin of a job that is there")
		}
		if err := m.take(j); err != nil {
			return err
		}
		j.Created = time.Now()
		m.order = append(m.order, j.ID)
		m.write(j)
		m.hold(j.Item)
		return nil
	})
}

func (m *memory) Reopen(ctx context.Context, j *vault.Job) error {
	return m.call(ctx, "reopen", func() error {
		var later []vault.Job
		for _, id := range slices.Backward(m.order) {
			if id == j.ID {
				break
			}
			l, _ := m.load(id)
			later = append(later, l)
		}
		if err := job.Newest(*j, later); err != nil {
			return err
		}
		if err := m.take(j); err != nil {
			return err
		}
		m.write(j)
		m.hold(j.Item)
		return nil
	})
}

func (m *memory) change(j *vault.Job, ends bool) error {
	stored, there := m.load(j.ID)
	switch {
	case !there:
		return homeward.Errorf("save", homeward.NotFound, j.ID, "", "no such job")
	case stored.State.Ended() && ends && stored.State == j.State:
		return nil
	case stored.Revision != j.Revision:
		return homeward.Errorf("save", homeward.Conflict, j.ID, "", "revision %d, stored is %d", j.Revision, stored.Revision)
	case stored.State.Ended() || j.State.Ended() != ends:
		m.wrong = append(m.wrong, fmt.Sprintf("%s stored over %s", j.State, stored.State))
	}
	m.write(j)
	m.hold(j.Item)
	return nil
}

func (m *memory) Save(ctx context.Context, j *vault.Job) error {
	return m.call(ctx, "save", func() error { return m.change(j, false) })
}

func (m *memory) End(ctx context.Context, j *vault.Job) error {
	return m.call(ctx, "end", func() error { return m.change(j, true) })
}

func (m *memory) Load(ctx context.Context, id string) (j vault.Job, err error) {
	err = m.call(ctx, "load", func() error {
		var there bool
		if j, there = m.load(id); !there {
			return homeward.Errorf("load", homeward.NotFound, id, "", "no such job")
		}
		return nil
	})
	return j, err
}

func (m *memory) Unended(ctx context.Context) (out []vault.Job, err error) {
	err = m.call(ctx, "unended", func() error { out = m.unended(""); return nil })
	return out, err
}

func (m *memory) ByKey(ctx context.Context, key string) (j vault.Job, err error) {
	err = m.call(ctx, "by key", func() error {
		for _, id := range slices.Backward(m.order) {
			if j, _ = m.load(id); j.Key == key {
				return nil
			}
		}
		return homeward.Errorf("by key", homeward.NotFound, key, "", "no such job")
	})
	return j, err
}

func (m *memory) Enter(ctx context.Context, a vault.Artefact) error {
	return m.call(ctx, "enter", func() error {
		if _, there := m.artefacts[a.ID]; !there {
			m.artefacts[a.ID] = a
		}
		return nil
	})
}

func (m *memory) Gone(ctx context.Context, id string, at time.Time) error {
	return m.call(ctx, "gone", func() error {
		if a, there := m.artefacts[id]; there {
			a.Gone = at
			m.artefacts[id] = a
		}
		return nil
	})
}

// stored is a job as a crash would leave it.
func (m *memory) stored(id string) vault.Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	j, _ := m.load(id)
	return j
}

func (m *memory) all() (out []vault.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.order {
		j, _ := m.load(id)
		out = append(out, j)
	}
	return out
}

func (m *memory) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.order)
}

func (m *memory) holder(item homeward.ItemID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[item]
}

// check fails the test for what the engine did against the rules.
func (m *memory) check(t interface{ Errorf(string, ...any) }) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.wrong {
		t.Errorf("the engine: %s", w)
	}
}

// engine makes one with waits fit for tests.
func engine(t *testing.T, o job.Options) *job.Engine {
	t.Helper()
	e := newEngine(o)
	t.Cleanup(e.Close)
	return e
}

func newEngine(o job.Options) *job.Engine {
	o.First, o.Longest = time.Millisecond, 5*time.Millisecond
	if o.Every == 0 {
		o.Every = time.Millisecond
	}
	return job.New(o)
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func task(name string, do func(context.Context, *job.Run) error) job.TaskDef {
	return job.TaskDef{Name: name, Title: name, Do: do}
}

func plain(scenario string, tasks ...job.TaskDef) job.Definition {
	return job.Definition{Scenario: scenario, Title: scenario, Tasks: func(context.Context, vault.Job) ([]job.TaskDef, error) { return tasks, nil }}
}

func nothing(context.Context, *job.Run) error { return nil }
