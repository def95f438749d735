package service

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// What a person corrects of a job's input when it is tried again.

// corrected is the stored input of a job with fields replaced.
func (s *jobs) corrected(ctx context.Context, j vault.Job, req vault.JobRequest) (json.RawMessage, error) {
	asked, err := assignmentOf(j)
	if err != nil {
		return nil, err
	}
	was := asked.Input
	d := json.NewDecoder(bytes.NewReader(req.Input))
	d.DisallowUnknownFields()
	if err := d.Decode(&asked.Input); err != nil {
		return nil, homeward.Errorf("retry job", homeward.Invalid, "input", "give fields of the action's input", "%w", err)
	}
	if j.Action != "" {
		if err := checkInput(vault.ActionRequest{Item: j.Item, Action: j.Action, Input: asked.Input}); err != nil {
			return nil, err
		}
	}
	if err := settled(j, was, asked.Input); err != nil {
		return nil, err
	}
	if j.Action == vault.Enable {
		it, err := s.store.Items.Get(ctx, string(j.Item))
		if err == nil {
			err = s.placement.check(ctx, "enable", enableWay(withCorrections(it, asked.Input)))
		}
		if err != nil {
			return nil, err
		}
	}
	if asked.Input.Point != was.Point {
		it, err := s.store.Items.Get(ctx, string(j.Item))
		if err == nil {
			if _, _, err = s.unfinished(ctx, it, j.Action, asked.Input.Point); err == nil {
				asked.Chosen, err = s.choosePoint(ctx, it, asked.Input.Point)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return asked.encode()
}

// settled refuses corrections that come too late: what they replace was used by a task
// that is done, and nobody would look at them.
func settled(j vault.Job, was, now vault.Input) error {
	for _, u := range uses(j.Action) {
		used := u.by == "" || slices.ContainsFunc(j.Tasks, func(t vault.Task) bool { return t.Name == u.by && t.State == vault.TaskSucceeded })
		if used && u.of(was) != u.of(now) {
			return homeward.Errorf("retry job", homeward.Conflict, "input", u.remedy, "%s cannot be corrected any more: the job has used them", u.what)
		}
	}
	return nil
}

// use is a part of an input, and the task after which it was used; empty: from the
// beginning.
type use struct {
	by, what, remedy string
	of               func(vault.Input) any
}

func uses(a vault.Action) []use {
	point := func(in vault.Input) any { return [...]any{in.Point, in.Shutdown} }
	switch a {
	case vault.Enable:
		const remedy = "disable the item, and enable it anew with them"
		return []use{
			{"", "target site and policy", remedy, func(in vault.Input) any { return [...]any{in.Target, in.Policy} }},
			{lifecycle.CreateTarget, "the datastore", remedy, func(in vault.Input) any { return in.Datastore }},
			{lifecycle.EnableProtection, "the nodes and places", remedy, func(in vault.Input) any {
				return [...]any{in.Agent, in.MasterTarget, in.ProcessServer, in.Retention}
			}},
		}
	case vault.Reprotect:
		return []use{{lifecycle.ReprotectPreflight, "the nodes and places", "begin reprotect anew with them", func(in vault.Input) any {
			return [...]any{in.MasterTarget, in.ProcessServer, in.Datastore, in.Retention, in.Location, in.Direction}
		}}}
	case vault.Failover, vault.FailbackAction:
		return []use{{lifecycle.StartFailover, "the point", "go on without a correction, then change the point, or cancel the failover", point}}
	case vault.ChangePoint:
		return []use{{lifecycle.ChangePointTask, "the point", "go on without a correction, then change the point once more", point}}
	}
	return nil
}

// enableWay is the way that an Enable opens.
func enableWay(it vault.Item) way {
	return way{from: it.Original, to: it.Recovery, location: vault.AlternateLocation}
}

// withCorrections is an item that is being enabled, with the nodes and places that its
// job was given; what the job was not given stays as it was chosen.
func withCorrections(it vault.Item, in vault.Input) vault.Item {
	for _, c := range []struct {
		given string
		at    *string
	}{
		{in.Agent, &it.Original.Agent}, {in.ProcessServer, &it.Original.ProcessServer},
		{in.MasterTarget, &it.Recovery.MasterTarget}, {in.Datastore, &it.Recovery.Datastore}, {in.Retention, &it.Recovery.Retention},
	} {
		if c.given != "" {
			*c.at = c.given
		}
	}
	return it
}

// takeCorrections gives the item that is being enabled the nodes and places that its job
// is given by now. What other ones were told of it is taken back first, and so is what
// an earlier attempt at that has begun.
func (w *work) takeCorrections(ctx context.Context) error {
	if w.item.State != recovery.Unprotected {
		return nil
	}
	next := withCorrections(w.stored, w.asked.Input)
	same := next.Original.Agent == w.stored.Original.Agent && next.Original.ProcessServer == w.stored.Original.ProcessServer &&
		next.Recovery.MasterTarget == w.stored.Recovery.MasterTarget && next.Recovery.Retention == w.stored.Recovery.Retention
	replica, capture := w.item.Begun()
	if w.item.List.Op == listDisable || replica && !same {
		if err := w.takeBack(ctx, capture); err != nil {
			return err
		}
	}
	if same && next.Recovery.Datastore == w.stored.Recovery.Datastore {
		return nil
	}
	err := w.change(ctx, func(it *vault.Item) {
		corrected := withCorrections(*it, w.asked.Input)
		it.Original, it.Recovery = corrected.Original, corrected.Recovery
	})
	if err != nil {
		return err
	}
	if w.item, err = w.load(ctx, w.stored); err == nil {
		w.item.Watch = w.tell
	}
	return err
}

// takeBack undoes the part of an Enable that was done with nodes that are replaced. One
// of them that cannot be reached is left as it is, and told of: but never an agent, which
// may still serve the machine's disks.
func (w *work) takeBack(ctx context.Context, capture bool) error {
	if capture {
		report, err := w.item.Running.Agent.Report(ctx, homeward.ItemRequest{Item: w.id()})
		switch {
		case homeward.KindOf(err) == homeward.NotFound:
		case err != nil:
			return err
		case report.Clients > 0:
			return homeward.Errorf("enable", homeward.Conflict, "item "+string(w.id()), "shut the machine down and disable the item, then enable it anew with them",
				"nodes cannot be corrected any more: the machine runs on disks of agent %s", w.stored.Original.Agent)
		}
	}
	left, err := w.item.Disable(ctx, true)
	if err != nil || len(left) == 0 {
		return err
	}
	return w.alerts.settle(ctx, fromJobs, "item "+string(w.id()), leftBehind("correcting an enable", left))
}

// listDisable is recovery's name of the list that takes an Enable back.
const listDisable = "disable"
