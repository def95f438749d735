package apitest

import (
	"context"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// Hold keeps jobs from ending the task of that name until release is called.
func (m *Memory) Hold(task string) (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gate := make(chan struct{})
	m.hold[task] = gate
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.hold[task] == gate {
			delete(m.hold, task)
			close(gate)
		}
	}
}

// Suspend makes the next job that comes to the task of that name wait there for a
// person.
func (m *Memory) Suspend(task string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pauses[task] = true
}

// Jobs is part of vault.Vault, as are Job, TellJob and Artefacts.
func (m *Memory) Jobs(ctx context.Context, q vault.Query) (vault.Page[vault.Job], error) {
	return listOf(ctx, m, vault.Reader, &m.jobs, q)
}

func (m *Memory) Job(ctx context.Context, id string) (vault.Job, error) {
	return oneOf(ctx, m, &m.jobs, id)
}

func (m *Memory) TellJob(ctx context.Context, req vault.JobRequest) (job vault.Job, err error) {
	err = m.change(ctx, vault.Operator, "job."+string(req.Action), "job "+req.ID, func(vault.Caller) error {
		known := []vault.JobAction{vault.JobCancel, vault.JobRetry, vault.JobSkip, vault.JobAbort}
		if !slices.Contains(known, req.Action) {
			return homeward.Errorf("tell job", homeward.Invalid, "action", "give cancel, retry, skip or abort", "%q", req.Action)
		}
		if len(req.Input) > 0 && req.Action != vault.JobRetry {
			return homeward.Errorf("tell job", homeward.Invalid, "input", "leave it out", "only retry takes inputs")
		}
		if job, err = m.jobs.get(req.ID); err != nil {
			return err
		}
		if !slices.Contains(job.Actions, req.Action) {
			cause := &vault.ConflictError{}
			for _, a := range job.Actions {
				cause.Allowed = append(cause.Allowed, string(a))
			}
			return homeward.Errorf("tell job", homeward.Conflict, "job "+req.ID, "look at the job again", "it is %s: %w", job.State, cause)
		}
		job.Actions = nil
		if req.Action == vault.JobCancel {
			job.State = vault.JobCancelling
		}
		if len(req.Input) > 0 {
			job.Input = req.Input
		}
		m.jobs.put(job.ID, &job)
		m.told[job.ID] <- req.Action // has room: one action at a time is allowed
		return nil
	})
	return job, err
}

func (m *Memory) Artefacts(ctx context.Context, q vault.Query) (page vault.Page[vault.Artefact], err error) {
	stored, err := listOf(ctx, m, vault.Reader, &m.artefacts, q)
	for _, a := range stored.Entries {
		page.Entries = append(page.Entries, a.Artefact)
	}
	page.Next = stored.Next
	return page, err
}

// edit changes a job.
func (m *Memory) edit(id string, do func(*vault.Job)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	job := m.jobs.rows[id]
	job.Tasks = slices.Clone(job.Tasks)
	do(&job)
	m.jobs.put(id, &job)
}

// run is a job from its first task to its end.
func (m *Memory) run(id string, b begun) {
	for i := range b.transition.Tasks {
		switch m.step(id, i) {
		case stepDone:
		case stepStopped:
			m.end(id, b, false)
			return
		case stepLeft:
			return
		}
	}
	m.end(id, b, true)
}

// step is how a task ended: done, or stopped by a person, or left where it stands
// because the vault closes.
type step int

const (
	stepDone step = iota
	stepStopped
	stepLeft
)

func (m *Memory) step(id string, i int) step {
	var gate chan struct{}
	var pause bool
	var told chan vault.JobAction
	m.edit(id, func(j *vault.Job) {
		name := j.Tasks[i].Name
		gate, pause, told = m.hold[name], m.pauses[name], m.told[id]
		delete(m.pauses, name)
		j.Tasks[i].State, j.Tasks[i].Started, j.Tasks[i].Attempts = vault.TaskRunning, m.now(), 1
		j.Progress = homeward.Progress{Done: int64(i), Total: int64(len(j.Tasks))}
		if pause {
			j.State, j.Actions = vault.JobPaused, []vault.JobAction{vault.JobRetry, vault.JobSkip, vault.JobAbort}
			j.Tasks[i].State, j.Tasks[i].Why = vault.TaskPaused, "it waits for a person"
		}
	})
	if !pause && gate == nil {
		gate = make(chan struct{})
		close(gate)
	}
	ended := vault.TaskSucceeded
	select {
	case <-m.done.Done():
		return stepLeft
	case <-gate:
		select {
		case <-told: // cancelled before the task ended
			return stepStopped
		default:
		}
	case action := <-told:
		switch action {
		case vault.JobCancel, vault.JobAbort:
			return stepStopped
		case vault.JobSkip:
			ended = vault.TaskSkipped
		}
	}
	m.edit(id, func(j *vault.Job) {
		j.Tasks[i].State, j.Tasks[i].Ended, j.Tasks[i].Why = ended, m.now(), ""
		if pause {
			j.State, j.Actions = vault.JobRunning, []vault.JobAction{vault.JobCancel}
		}
	})
	return stepDone
}

// end is what becomes of the job and of its item.
func (m *Memory) end(id string, b begun, success bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	job := m.jobs.rows[id]
	t := b.transition
	item, err := m.items.get(string(b.item.ID))
	if err != nil {
		return // nothing else removes an item that a job works on
	}
	delete(m.told, id)
	item.Job = ""
	job.State, job.Ended, job.Actions = vault.JobSucceeded, m.now(), nil
	if success {
		m.succeeded(&item, b)
		job.Progress = homeward.Progress{Done: int64(len(job.Tasks)), Total: int64(len(job.Tasks))}
	} else {
		job.State = vault.JobCancelled
		item.State, item.Test.State = t.Stopped(job.Tasks), t.Test.Failed
		job.Tasks = slices.Clone(job.Tasks)
		for i := range job.Tasks {
			if s := &job.Tasks[i].State; *s == vault.TaskRunning || *s == vault.TaskPaused || *s == vault.TaskNotStarted {
				*s = vault.TaskCancelled
			}
		}
	}
	if item.State != lifecycle.None {
		m.items.put(string(item.ID), &item)
	}
	m.jobs.put(id, &job)
	if success && item.State == vault.Synchronizing {
		m.begin(begun{item: item, transition: lifecycle.FirstPoint(m.facts(item)), caller: job.Caller, parent: id})
	}
}

func (m *Memory) succeeded(item *vault.Item, b begun) {
	t := b.transition
	item.State, item.Test.State = t.Next, t.Test.Next
	if item.Test.State == vault.TestNone {
		item.Test = vault.Test{State: vault.TestNone, Succeeded: item.Test.Succeeded}
	}
	if t.Moves {
		item.ActiveSite = other(*item)
	}
	if t.Turns {
		item.Direction = homeward.Direction{From: item.Direction.To, To: item.Direction.From}
		delete(m.points, item.ID)
	}
	if item.State == vault.Protected && (t.Scenario == lifecycle.ScenarioFirstPoint || t.Scenario == lifecycle.ScenarioResync) {
		m.addPoint(item.ID)
		m.addPoint(item.ID)
	}
	if b.done != nil {
		b.done(item)
	}
	if item.State != lifecycle.None {
		return
	}
	delete(m.points, item.ID)
	if machine, err := m.machines.get(item.Machine); err == nil {
		machine.Item = ""
		m.machines.put(machine.ID, &machine)
	}
	if err := m.items.remove(string(item.ID)); err != nil {
		panic(err) // it was there a moment ago, under the same lock
	}
}
