package service

import (
	"context"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// assessor keeps the standing answer to "could we come home now?" of every item, with
// its history: one score per change.
type assessor struct {
	*core
	gatherer *gatherer

	woken   bell
	mu      sync.Mutex
	touched map[string]bool          // sites about which something is known anew
	worked  map[homeward.ItemID]bool // items on which a job has ended
}

func newAssessor(c *core, g *gatherer) *assessor {
	return &assessor{core: c, gatherer: g, woken: newBell(), touched: map[string]bool{}, worked: map[homeward.ItemID]bool{}}
}

// assessPerSec is how many items are assessed in a second at most: each asks its target
// site for the options of a placement. As many again may be when something has changed.
const assessPerSec = 50

// settling is how long news of a site are collected: its nodes come one after the other.
const settling = 200 * time.Millisecond

// touch has the items of a site assessed soon: something is known anew about it.
func (a *assessor) touch(site string) {
	a.mu.Lock()
	a.touched[site] = true
	a.mu.Unlock()
	a.woken.ring()
}

// touchItem has one item assessed soon: it is not where it was.
func (a *assessor) touchItem(id homeward.ItemID) {
	a.mu.Lock()
	a.worked[id] = true
	a.mu.Unlock()
	a.woken.ring()
}

// due takes what was touched, as the question whether an item is concerned.
func (a *assessor) due() func(vault.Item) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	sites, items := a.touched, a.worked
	a.touched, a.worked = map[string]bool{}, map[homeward.ItemID]bool{}
	return func(it vault.Item) bool { return items[it.ID] || sites[it.Original.Site] || sites[it.Recovery.Site] }
}

// run assesses all items in rounds, and those of sites that are touched between.
func (a *assessor) run(ctx context.Context) {
	var reacting sync.WaitGroup
	reacting.Go(func() { a.react(ctx) })
	every(ctx, a.rhythm.Readiness, a.trouble("check readiness"), func(ctx context.Context) error {
		return a.assessAll(ctx, func(vault.Item) bool { return true })
	})
	reacting.Wait()
}

func (a *assessor) react(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.woken:
		}
		if pause(ctx, settling) != nil {
			return
		}
		err := a.assessAll(ctx, a.due())
		if err != nil && ctx.Err() == nil {
			a.trouble("check readiness")(err) // the next round does
		}
	}
}

func (a *assessor) assessAll(ctx context.Context, which func(vault.Item) bool) error {
	pace := time.NewTicker(time.Second / assessPerSec)
	defer pace.Stop()
	for it, err := range a.store.Items.All(ctx, vault.Query{}) {
		if err != nil {
			return err
		}
		if !which(it) {
			continue
		}
		if err := a.assess(ctx, it); err != nil && ctx.Err() == nil {
			a.log.Info("the readiness of an item is not known", "item", it.ID, "error", err)
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (a *assessor) assess(ctx context.Context, it vault.Item) error {
	facts, err := a.gatherer.facts(ctx, it, vault.Input{})
	if err != nil {
		return err
	}
	findings := readiness.Check(facts)
	score := readiness.ScoreOf(findings, facts.Now)
	if sameScore(it.Score, score) {
		return nil
	}
	return a.store.Tx(ctx, func(ctx context.Context) error {
		now, err := a.store.Items.Get(ctx, string(it.ID))
		if err != nil || sameScore(now.Score, score) || now.Score.At.After(score.At) { // assessed meanwhile
			return err
		}
		_, err = a.store.Items.Change(ctx, string(it.ID), func(it *vault.Item) error {
			it.Score, it.Health = score, trouble(findings)
			return nil
		})
		if err != nil {
			return err
		}
		return a.store.AddScore(ctx, it.ID, score)
	})
}

// sameScore reports whether a score says what the one before did.
func sameScore(was, now vault.Score) bool {
	return was.Ready == now.Ready && was.Blockers == now.Blockers && was.Warnings == now.Warnings && was.Unknown == now.Unknown && !was.At.IsZero()
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
