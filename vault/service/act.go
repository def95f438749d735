package service

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// recoveries is vault.Recoveries: what is done with items.
type recoveries struct {
	*workshop
}

// keyLife is how long an idempotency key answers the job it made.
const keyLife = 24 * time.Hour

// accessOf is what it takes to ask for an action.
func accessOf(a vault.Action) vault.Access {
	switch a {
	case vault.Enable, vault.Disable:
		return vault.Contributor
	}
	return vault.Operator
}

func (s *recoveries) Act(ctx context.Context, req vault.ActionRequest) (vault.Job, error) {
	var j vault.Job
	a := asked{need: accessOf(req.Action), action: "item." + string(req.Action), subject: "item " + string(req.Item), detail: req}
	err := s.order(ctx, a, func(ctx context.Context, caller vault.Caller) (err error) {
		j, err = s.act(ctx, req, caller)
		return err
	})
	return shown(j), err
}

func (s *recoveries) act(ctx context.Context, req vault.ActionRequest, caller vault.Caller) (vault.Job, error) {
	if err := checkInput(req); err != nil {
		return vault.Job{}, err
	}
	if j, found, err := s.asked(ctx, req); found || err != nil {
		return j, err
	}
	it, a, t, err := s.consider(ctx, req)
	if err != nil {
		return vault.Job{}, err
	}
	if err := stale(string(req.Action), "item "+string(req.Item), req.Revision, it.Revision); err != nil {
		return vault.Job{}, err
	}
	if t.Scenario == "" {
		return s.atOnce(ctx, req, t, caller)
	}
	if a.Facts.Job != "" { // it waits for a point that is not wanted any more
		if err := s.endWait(ctx, a.Facts.Job); err != nil {
			return vault.Job{}, err
		}
		if _, a, t, err = s.consider(ctx, req); err != nil {
			return vault.Job{}, err
		}
	}
	input, err := a.encode()
	if err != nil {
		return vault.Job{}, err
	}
	j, err := s.engine.Start(ctx, vault.Job{Scenario: t.Scenario, Title: t.Title, Item: req.Item, Action: req.Action,
		Caller: caller.Name, Key: req.Key, Input: input})
	if homeward.KindOf(err) == homeward.Conflict { // somebody was faster, perhaps with the same key
		if j, found, again := s.asked(ctx, req); found || again != nil {
			return j, again
		}
		return j, s.busy(ctx, req, err)
	}
	return j, err
}

// ending is how long an operator waits for a job to end that has been told to.
const ending = 20 * time.Second

// endWait ends the job that waits for the first point of a direction. In a vault that was
// just started it may not run yet: then it is told in a moment. A job that cannot be
// stored as ended holds nobody up for longer than ending.
func (s *recoveries) endWait(ctx context.Context, id string) error {
	moment, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	for {
		_, err := s.engine.Tell(ctx, vault.JobRequest{ID: id, Action: vault.JobCancel})
		switch homeward.KindOf(err) {
		case "", homeward.Conflict: // it has ended, or is told already
			return s.awaitEnd(ctx, id)
		case homeward.Unavailable:
			if pause(moment, operationEvery) == nil {
				continue
			}
		}
		return err
	}
}

func (s *recoveries) awaitEnd(ctx context.Context, id string) error {
	within, cancel := context.WithTimeout(ctx, ending)
	defer cancel()
	_, err := s.engine.Wait(within, id)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return homeward.Errorf("end job", homeward.Busy, id, "ask again in a moment, and look at the vault's log", "it has been cancelled and has not ended within %v", ending)
	}
	return err
}

// asked finds the job that the same request made before.
func (s *recoveries) asked(ctx context.Context, req vault.ActionRequest) (j vault.Job, found bool, err error) {
	if req.Key == "" {
		return j, false, nil
	}
	j, err = s.store.JobByKey(ctx, req.Key)
	if homeward.KindOf(err) == homeward.NotFound || err == nil && s.now().Sub(j.Created) > keyLife {
		return j, false, nil
	}
	if err != nil {
		return j, false, err
	}
	a, err := assignmentOf(j)
	if err != nil {
		return j, false, err
	}
	if j.Item != req.Item || j.Action != req.Action || a.Machine != req.Machine || !same(a.Input, req.Input) {
		return j, false, homeward.Errorf(string(req.Action), homeward.Conflict, "key "+req.Key, "use another key", "it was used for job %s (%s), which is something else", j.ID, j.Title)
	}
	return s.engine.Live(j), true, nil
}

// same compares two inputs as they are written: what is empty is as good as left out.
func same(a, b vault.Input) bool {
	x, err := json.Marshal(a)
	y, again := json.Marshal(b)
	return err == nil && again == nil && bytes.Equal(x, y)
}

// busy says what is possible instead, for a job that could not begin.
func (s *recoveries) busy(ctx context.Context, req vault.ActionRequest, why error) error {
	it, err := s.store.Items.Get(ctx, string(req.Item))
	if err != nil {
		return why
	}
	facts, err := s.standing(ctx, it, s.asks(ctx, it))
	if err != nil {
		return why
	}
	if _, refusal := lifecycle.Decide(facts, req.Action); refusal != nil {
		return refused(req, facts, *refusal)
	}
	return why
}

// asks is what the item's nodes say now.
func (s *workshop) asks(ctx context.Context, it vault.Item) heard {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	return s.monitor.ask(ctx, it)
}

// consider finds out whether an action is possible, and what it comes to. The item
// of an Enable need not be stored yet.
func (s *recoveries) consider(ctx context.Context, req vault.ActionRequest) (vault.Item, assignment, lifecycle.Transition, error) {
	a := assignment{Input: req.Input, Machine: req.Machine}
	it, err := s.store.Items.Get(ctx, string(req.Item))
	fresh := homeward.KindOf(err) == homeward.NotFound && req.Action == vault.Enable
	switch {
	case fresh:
		it, err = s.conceive(ctx, req)
		if err != nil {
			return it, a, lifecycle.Transition{}, err
		}
		a.Facts = lifecycle.Facts{Machine: lifecycle.Yes}
		record := it.Record
		a.New, a.First = &it, record
	case err != nil:
		return it, a, lifecycle.Transition{}, err
	default:
		if a.Facts, err = s.standing(ctx, it, s.asks(ctx, it)); err != nil {
			return it, a, lifecycle.Transition{}, err
		}
		a.Facts.Location, a.Facts.Force, a.Facts.Discard = req.Input.Location, req.Input.Force, req.Input.DiscardBranch
		point, err := parsePoint(req.Input.Point)
		if err != nil {
			return it, a, lifecycle.Transition{}, err
		}
		a.Facts.Older = !point.newest()
		if req.Action == vault.Reprotect && a.Facts.Location == "" {
			a.Facts.Location = vault.OriginalLocation
		}
	}
	t, refusal := lifecycle.Decide(a.Facts, req.Action)
	if refusal != nil {
		return it, a, t, refused(req, a.Facts, *refusal)
	}
	if err := s.checkWay(ctx, it, req); err != nil {
		return it, a, t, err
	}
	a.Chosen, err = s.chosen(ctx, it, req)
	return it, a, t, err
}

// refused is a refusal of the lifecycle as an error, with what is possible instead.
func refused(req vault.ActionRequest, f lifecycle.Facts, r vault.Refusal) error {
	allowed, _ := lifecycle.Allowed(f)
	instead := &vault.ConflictError{Job: r.Job}
	for _, a := range allowed {
		instead.Allowed = append(instead.Allowed, string(a))
	}
	why := r.Why
	if r.Rule != "" {
		why += " (" + r.Rule + ")"
	}
	return homeward.Errorf(string(req.Action), homeward.Conflict, "item "+string(req.Item), r.Remedy, "%s: %w", why, instead)
}

// checkWay refuses nodes and places that cannot serve what is asked for.
func (s *recoveries) checkWay(ctx context.Context, it vault.Item, req vault.ActionRequest) error {
	switch req.Action {
	case vault.Enable:
		return s.placement.check(ctx, "enable", way{from: it.Original, to: it.Recovery, location: vault.AlternateLocation})
	case vault.Reprotect:
		d := nextDirection(it)
		if req.Input.Direction != (homeward.Direction{}) && req.Input.Direction != d {
			return homeward.Errorf("reprotect", homeward.Invalid, "direction", "leave it out: it follows from where the item runs (R38)", "the way from %s to %s is not the one that is possible", req.Input.Direction.From, req.Input.Direction.To)
		}
		return s.placement.checkReprotect(ctx, it, d, req.Input)
	case vault.Adopt:
		_, _, err := s.adoption(ctx, it, req.Input.Force)
		return err
	case vault.TestFailover: // before there is anything to clean up
		site, err := s.roles.Site(otherSite(it))
		if err != nil {
			return err
		}
		return recovery.Isolated(ctx, site, homeward.Direction{From: it.ActiveSite, To: otherSite(it)}, it.Record.Machine, req.Input.Network)
	}
	return nil
}

// chosen is the point that a request means, now.
func (s *recoveries) chosen(ctx context.Context, it vault.Item, req vault.ActionRequest) (homeward.Position, error) {
	switch req.Action {
	case vault.Failover, vault.FailbackAction, vault.TestFailover:
		if at, goesOn, err := s.unfinished(ctx, it, req.Action, req.Input.Point); goesOn || err != nil {
			return at, err
		}
		return s.choosePoint(ctx, it, req.Input.Point)
	case vault.ChangePoint: // "the newest" is a certain one here: nothing arrives any more
		c, err := parsePoint(req.Input.Point)
		if err != nil {
			return homeward.Position{}, err
		}
		return s.certainPoint(ctx, it, c)
	}
	return homeward.Position{}, nil
}

// atOnce does what needs no job: pause and resume. The answer is a job that has ended.
func (s *recoveries) atOnce(ctx context.Context, req vault.ActionRequest, t lifecycle.Transition, caller vault.Caller) (vault.Job, error) {
	j := vault.Job{ID: homeward.NewID().String(), Scenario: string(req.Action), Title: t.Title, Item: req.Item, Action: req.Action, Caller: caller.Name,
		Key: req.Key, Started: s.now().UTC(), State: vault.JobSucceeded}
	input, err := assignment{Input: req.Input}.encode()
	if err != nil {
		return vault.Job{}, err
	}
	j.Input = input
	if err := s.setPaused(ctx, req); err != nil {
		return vault.Job{}, err
	}
	j.Ended = s.now().UTC()
	j.Tasks = []vault.Task{{Name: string(req.Action), Title: t.Title, State: vault.TaskSucceeded, Started: j.Started, Ended: j.Ended}}
	return j, s.store.Jobs.Insert(ctx, &j)
}

// setPaused pauses or resumes an item's replication; a job that waits for its first
// point is interrupted for it, and goes on. Who came before may have changed the item:
// amid a failback, that began meanwhile, a pause would keep the last writes from it.
func (s *workshop) setPaused(ctx context.Context, req vault.ActionRequest) error {
	release, err := s.owners.claim(ctx, req.Item)
	if err != nil {
		return err
	}
	defer release()
	stored, err := s.store.Items.Get(ctx, string(req.Item))
	if err != nil {
		return err
	}
	facts, err := s.standing(ctx, stored, heard{})
	if err != nil {
		return err
	}
	if _, refusal := lifecycle.Decide(facts, req.Action); refusal != nil {
		return refused(req, facts, *refusal)
	}
	it, err := s.load(ctx, stored)
	if err != nil {
		return err
	}
	if req.Action == vault.Pause {
		return it.Pause(ctx)
	}
	return it.Unpause(ctx)
}
