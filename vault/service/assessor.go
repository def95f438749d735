package service

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// assessor keeps the standing answer to "could we come home now?" of every item, with
// its history: one score per change.
type assessor struct {
	*core
	gatherer *gatherer
}

// assessPerSec is how many items are assessed in a second at most: each asks its target
// site for the options of a placement.
const assessPerSec = 50

func (a *assessor) run(ctx context.Context) {
	every(ctx, a.rhythm.Readiness, a.trouble("check readiness"), func(ctx context.Context) error {
		pace := time.NewTicker(time.Second / assessPerSec)
		defer pace.Stop()
		for it, err := range a.store.Items.All(ctx, vault.Query{}) {
			if err != nil {
				return err
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
				return nil
			}
			if err := a.assess(ctx, it); err != nil && ctx.Err() == nil {
				a.log.Info("the readiness of an item is not known", "item", it.ID, "error", err)
			}
		}
		return nil
	})
}

func (a *assessor) assess(ctx context.Context, it vault.Item) error {
	facts, err := a.gatherer.facts(ctx, it, vault.Input{})
	if err != nil {
		return err
	}
	findings := readiness.Check(facts)
	score := readiness.ScoreOf(findings, facts.Now)
	if was := it.Score; was.Ready == score.Ready && was.Blockers == score.Blockers && was.Warnings == score.Warnings && was.Unknown == score.Unknown && !was.At.IsZero() {
		return nil
	}
	return a.store.Tx(ctx, func(ctx context.Context) error {
		_, err := a.store.Items.Change(ctx, string(it.ID), func(it *vault.Item) error {
			it.Score, it.Health = score, trouble(findings)
			return nil
		})
		if err != nil {
			return err
		}
		return a.store.AddScore(ctx, it.ID, score)
	})
}

// trouble are the findings that a person should see beside an item.
func trouble(findings []vault.Finding) (some []vault.Finding) {
	for _, f := range findings {
		if f.Verdict == vault.Blocker || f.Verdict == vault.Warning {
			some = append(some, f)
		}
	}
	return some
}
