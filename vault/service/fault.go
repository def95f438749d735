package service

import (
	"context"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// faulty passes a fault point before and after each time that a job's task is stored:
// "job.store VmCommit in-progress", "job.stored VmCommit in-progress". Tests kill the
// vault there. Without a hook it is not in the way.
func faulty(s job.Store, pass func(point string)) job.Store {
	if pass == nil {
		return s
	}
	return faultStore{s, pass}
}

type faultStore struct {
	job.Store
	pass func(point string)
}

func (f faultStore) Save(ctx context.Context, j *vault.Job) error {
	return f.at(j, func() error { return f.Store.Save(ctx, j) })
}

func (f faultStore) End(ctx context.Context, j *vault.Job) error {
	return f.at(j, func() error { return f.Store.End(ctx, j) })
}

func (f faultStore) at(j *vault.Job, store func() error) error {
	var task string // the one that the job came to
	for _, t := range j.Tasks {
		if t.State != vault.TaskNotStarted {
			task = t.Name + " " + string(t.State)
		}
	}
	f.pass("job.store " + task)
	err := store()
	f.pass("job.stored " + task)
	return err
}
