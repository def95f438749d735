package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// items is vault.Items.
type items struct {
	*workshop
}

func (s *items) Items(ctx context.Context, q vault.Query) (vault.Page[vault.Item], error) {
	if err := s.see(ctx); err != nil {
		return vault.Page[vault.Item]{}, err
	}
	page, err := s.store.Items.List(ctx, q)
	for i := range page.Entries {
		if err == nil {
			err = s.complete(ctx, &page.Entries[i])
		}
	}
	return page, err
}

func (s *items) Item(ctx context.Context, id homeward.ItemID) (vault.Item, error) {
	if err := s.see(ctx); err != nil {
		return vault.Item{}, err
	}
	it, err := s.store.Items.Get(ctx, string(id))
	if err != nil {
		return it, err
	}
	return it, s.complete(ctx, &it)
}

// complete fills in what is computed when it is asked for.
func (w *workshop) complete(ctx context.Context, it *vault.Item) error {
	w.monitor.overlay(it)
	it.Legs = legsOf(*it)
	now, _ := w.monitor.last(it.ID)
	facts, err := w.standing(ctx, *it, now.heard)
	if err != nil {
		return err
	}
	it.Allowed, it.Refused = lifecycle.Allowed(facts)
	it.Record = nil
	return nil
}

// legsOf are both directions of an item.
func legsOf(it vault.Item) []vault.Leg {
	return []vault.Leg{
		{Direction: homeward.Direction{From: it.Original.Site, To: it.Recovery.Site}, ProcessServer: it.Original.ProcessServer,
			MasterTarget: it.Recovery.MasterTarget, Policy: it.Policy},
		{Direction: homeward.Direction{From: it.Recovery.Site, To: it.Original.Site}, ProcessServer: it.Recovery.ProcessServer,
			MasterTarget: it.Original.MasterTarget, Policy: vault.FailbackName(it.Policy)},
	}
}

// holder is the master target that holds an item's points: of the site that stands
// by, or of the one where a failed-over machine runs on them.
func (c *core) holder(it vault.Item) homeward.MasterTarget {
	site := otherSite(it)
	if !replicates(it) {
		site = it.ActiveSite
	}
	return c.masterTarget(endOf(&it, site).MasterTarget)
}

func (s *items) Points(ctx context.Context, id homeward.ItemID) (homeward.PointList, error) {
	if err := s.see(ctx); err != nil {
		return homeward.PointList{}, err
	}
	it, err := s.store.Items.Get(ctx, string(id))
	if err != nil {
		return homeward.PointList{}, err
	}
	return s.holder(it).Points(ctx, homeward.ItemRequest{Item: id})
}

func (s *items) Pin(ctx context.Context, req homeward.PinRequest) error {
	return s.pin(ctx, "point.pin", req, homeward.MasterTarget.Pin)
}

func (s *items) Unpin(ctx context.Context, req homeward.PinRequest) error {
	return s.pin(ctx, "point.unpin", req, homeward.MasterTarget.Unpin)
}

func (s *items) pin(ctx context.Context, action string, req homeward.PinRequest, do func(homeward.MasterTarget, context.Context, homeward.PinRequest) (homeward.Done, error)) error {
	return s.order(ctx, asked{need: vault.Operator, action: action, subject: "item " + string(req.Item), detail: req}, func(ctx context.Context, _ vault.Caller) error {
		if req.Name == "" || len(req.Name) > 80 {
			return homeward.Errorf(action, homeward.Invalid, "name", `give 1 to 80 bytes, such as "hold:audit"`, "%q", req.Name)
		}
		it, err := s.store.Items.Get(ctx, string(req.Item))
		if err != nil {
			return err
		}
		_, err = do(s.holder(it), ctx, req)
		return err
	})
}

func (s *items) Readiness(ctx context.Context, id homeward.ItemID) (vault.Readiness, error) {
	r := vault.Readiness{Item: string(id)}
	if err := s.see(ctx); err != nil {
		return r, err
	}
	it, err := s.store.Items.Get(ctx, string(id))
	if err != nil {
		return r, err
	}
	facts, err := s.gatherer.facts(ctx, it, vault.Input{})
	if err != nil {
		return r, err
	}
	r.Findings = readiness.Check(facts)
	r.Score = readiness.ScoreOf(r.Findings, facts.Now)
	r.History, err = s.store.Scores(ctx, id)
	return r, err
}

func (s *items) Prove(ctx context.Context, id homeward.ItemID) (vault.Job, error) {
	var j vault.Job
	err := s.order(ctx, asked{need: vault.Operator, action: "item.prove", subject: "item " + string(id)}, func(ctx context.Context, caller vault.Caller) error {
		it, err := s.store.Items.Get(ctx, string(id))
		if err != nil {
			return err
		}
		if it.State != vault.Protected {
			return homeward.Errorf("prove", homeward.Conflict, "item "+string(id), "prove it while it is protected, with its first point", "the item is %s", it.State)
		}
		j, err = s.engine.Start(ctx, vault.Job{Scenario: scenarioProve, Title: "Prove both sides equal", Item: id, Caller: caller.Name})
		return err
	})
	return j, err
}

func (s *items) Proof(ctx context.Context, id homeward.ItemID) ([]byte, error) {
	if err := s.see(ctx); err != nil {
		return nil, err
	}
	it, err := s.store.Items.Get(ctx, string(id))
	if err != nil {
		return nil, err
	}
	return s.store.Proof(ctx, it.Proof)
}
