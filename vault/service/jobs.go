package service

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// jobs is vault.Jobs.
type jobs struct {
	*workshop
}

func sortByBirth(all []vault.Job) {
	slices.SortStableFunc(all, func(a, b vault.Job) int { return a.Created.Compare(b.Created) })
}

func (s *jobs) Jobs(ctx context.Context, q vault.Query) (vault.Page[vault.Job], error) {
	if err := s.see(ctx); err != nil {
		return vault.Page[vault.Job]{}, err
	}
	page, err := s.store.Jobs.List(ctx, q)
	for i := range page.Entries {
		page.Entries[i] = shown(s.live(page.Entries[i]))
	}
	return page, err
}

func (s *jobs) Job(ctx context.Context, id string) (vault.Job, error) {
	if err := s.see(ctx); err != nil {
		return vault.Job{}, err
	}
	j, err := s.store.Jobs.Get(ctx, id)
	if err != nil {
		return j, err
	}
	j = s.live(j)
	j.Artefacts = nil
	for a, err := range s.store.Artefacts.All(ctx, vault.Query{}) {
		if err != nil {
			return j, err
		}
		if a.Job == id {
			j.Artefacts = append(j.Artefacts, a)
		}
	}
	return shown(j), nil
}

// live is a stored job with what is newer in the engine. Its end counts when it is
// stored: what it makes of its item is then, too.
func (s *jobs) live(stored vault.Job) vault.Job {
	now := s.engine.Live(stored)
	if now.State.Ended() && !stored.State.Ended() {
		now.State, now.Ended, now.Actions = stored.State, stored.Ended, nil
	}
	return now
}

// shown is a job as people see it: its input is what was asked for, without secrets.
func shown(j vault.Job) vault.Job {
	asked, err := assignmentOf(j)
	if err == nil && len(j.Input) > 0 {
		if data, err := json.Marshal(asked.Input); err == nil {
			j.Input = data
		}
	}
	j.Input = vault.WithoutSecrets(j.Input)
	return j
}

// TellJob tells a job something. Corrected inputs of a retry are those of the
// action; what they leave out stays.
func (s *jobs) TellJob(ctx context.Context, req vault.JobRequest) (vault.Job, error) {
	var j vault.Job
	err := s.order(ctx, asked{need: vault.Operator, action: "job." + string(req.Action), subject: "job " + req.ID, detail: req}, func(ctx context.Context, _ vault.Caller) error {
		known := []vault.JobAction{vault.JobCancel, vault.JobRetry, vault.JobSkip, vault.JobAbort}
		if !slices.Contains(known, req.Action) {
			return homeward.Errorf("tell job", homeward.Invalid, "action", "give one of "+words(known), "no such action: %q", req.Action)
		}
		stored, err := s.store.Jobs.Get(ctx, req.ID)
		if err != nil {
			return err
		}
		if bytes.Contains(req.Input, []byte(vault.Hidden)) {
			return homeward.Errorf("tell job", homeward.Invalid, "input", "give in full what was hidden, or leave it out: then it stays", "it says %s", vault.Hidden)
		}
		if len(req.Input) > 0 {
			// With other inputs it is another request, which takes what the action takes.
			if _, err := permit(ctx, "change inputs of job", accessOf(stored.Action)); err != nil {
				return err
			}
			if req.Input, err = s.corrected(ctx, stored, req); err != nil {
				return err
			}
		}
		j, err = s.engine.Tell(ctx, req)
		return err
	})
	return shown(j), err
}

// Artefacts lists what jobs made outside the store and that is still there, unless a
// state is asked for.
func (s *jobs) Artefacts(ctx context.Context, q vault.Query) (vault.Page[vault.Artefact], error) {
	if err := s.see(ctx); err != nil {
		return vault.Page[vault.Artefact]{}, err
	}
	if q.State == "" {
		q.State = store.ArtefactThere
	}
	return s.store.Artefacts.List(ctx, q)
}
