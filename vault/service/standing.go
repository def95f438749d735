package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// follow makes a stored item what its record says: state, place and direction are
// never told twice.
func follow(it *vault.Item, r recovery.Record) {
	if it.Record != nil {
		for site, s := range r.Serves {
			if it.Record.Serves[site] != s { // its replica was led there just now
				end := endOf(it, site)
				end.MasterTarget, end.Retention = s.Target, s.Retention
			}
		}
	}
	it.Record = &r
	it.ActiveSite = r.RunsAt
	it.Direction = homeward.Direction{From: r.RunsAt, To: r.StandsAt}
	switch r.State {
	case recovery.FailedOver:
		it.ActiveSite = r.StandsAt
	case recovery.Committed:
		it.Direction = homeward.Direction{From: r.StandsAt, To: r.RunsAt}
	}
	if it.State != vault.Disabling && it.State != vault.Migrated {
		it.State = stateOf(r.State)
	}
	it.Replication.Paused = r.Paused
	it.Doomed = nil
	if d := r.Doomed; d != nil {
		it.Doomed = &vault.Doomed{Site: d.Side}
		if d.Machine != (homeward.Ref{}) {
			it.Doomed.Refs = append(it.Doomed.Refs, d.Machine)
		}
		for _, ref := range d.Disks {
			it.Doomed.Refs = append(it.Doomed.Refs, homeward.Ref{Native: ref})
		}
	}
	if ref, known := r.Refs[it.Original.Site]; known { // another one after a failback to an alternate location
		it.Machine = machineID(it.Original.Site, ref)
	}
	for site, disks := range r.Moved {
		endOf(it, site).Disks = disks
	}
}

func stateOf(s recovery.State) vault.State {
	switch s {
	case recovery.Synchronizing:
		return vault.Synchronizing
	case recovery.Protected:
		return vault.Protected
	case recovery.FailedOver:
		return vault.FailedOver
	case recovery.Committed:
		return vault.Committed
	}
	return vault.Enabling
}

// standing are the facts that the lifecycle decides by. What the item's nodes said is
// given; what nobody knows stays unknown.
func (c *core) standing(ctx context.Context, it vault.Item, h heard) (lifecycle.Facts, error) {
	f := lifecycle.Facts{State: it.State, At: lifecycle.AtOriginal, Leg: lifecycle.Forward, Test: it.Test.State,
		Job: it.Job, Paused: it.Replication.Paused, Doomed: it.Doomed != nil, Machine: lifecycle.Unknown}
	if it.ActiveSite != it.Original.Site {
		f.At = lifecycle.AtRecovery
	}
	if it.Direction.From != it.Original.Site {
		f.Leg = lifecycle.Reverse
	}
	f.Foreign = c.foreign(it, h)
	if it.Record != nil {
		f.Unfinished, f.Interrupted = it.Record.List.Op, it.Record.Interrupted != nil
	}
	if it.Job != "" {
		j, err := c.store.Jobs.Get(ctx, it.Job)
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			return f, err
		}
		f.JobScenario = j.Scenario
	}
	if h.asked && h.target == nil {
		f.Points = lifecycle.Count{N: h.replica.Points, Known: true}
		f.Committing = lifecycle.TruthOf(h.replica.State == homeward.ReplicaPromoting || h.replica.State == homeward.ReplicaPromoted)
		p := h.replica.NewestPoint.Position
		f.FirstPoint = lifecycle.TruthOf(it.Record != nil && p.Generation == it.Record.Generation && p.Sequence > 0)
	}
	site, err := c.store.Sites.Get(ctx, otherSite(it))
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		return f, err
	}
	f.Other = lifecycle.TruthOf(site.Connected)
	m, err := c.store.Machines.Get(ctx, it.Machine)
	switch {
	case homeward.KindOf(err) == homeward.NotFound:
		home, err := c.store.Sites.Get(ctx, it.Original.Site)
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			return f, err
		}
		if home.Connected && home.Seen.After(it.Changed) { // else nobody knows
			f.Machine = lifecycle.No
		}
	case err != nil:
		return f, err
	case m.Presence != vault.Unseen:
		f.Machine = lifecycle.TruthOf(m.Presence == vault.Present)
	}
	return f, nil
}
