package service

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// move is the stored input of a job that moves items between nodes.
type move struct {
	Items []homeward.ItemID `json:"items"`
	From  string            `json:"from"`
	To    string            `json:"to"`
	Role  pki.Role          `json:"role"`
}

// Reassociate moves items from one process server or master target to another of the
// same site. A process server holds nothing that is not elsewhere too. A master target
// that holds an item's replica cannot be left: its points and its copy lie there.
func (s *recoveries) Reassociate(ctx context.Context, req vault.ReassociateRequest) (vault.Job, error) {
	var j vault.Job
	err := s.order(ctx, asked{need: vault.Operator, action: "node.reassociate", subject: "node " + req.From, detail: req}, func(ctx context.Context, caller vault.Caller) error {
		m, err := s.moveOf(ctx, req)
		if err != nil {
			return err
		}
		input, err := json.Marshal(m)
		if err != nil {
			return homeward.Wrap(err, "reassociate", req.From)
		}
		j, err = s.engine.Start(ctx, vault.Job{Scenario: scenarioReassociate, Title: fmt.Sprintf("Move %d items from %s to %s", len(m.Items), m.From, m.To), Caller: caller.Name, Input: input})
		return err
	})
	return j, err
}

func (s *recoveries) moveOf(ctx context.Context, req vault.ReassociateRequest) (move, error) {
	m := move{Items: req.Items, From: req.From, To: req.To}
	from, err := s.store.Nodes.Get(ctx, req.From)
	if err != nil {
		return m, err
	}
	m.Role = from.Role
	if m.Role != pki.ProcessServer && m.Role != pki.MasterTarget {
		return m, homeward.Errorf("reassociate", homeward.Invalid, "from", "name a process server or a master target", "node %s is a %s", from.Name, from.Role)
	}
	if err := s.placement.checkNode(ctx, "reassociate", "to", req.To, from.Role, from.Site); err != nil {
		return m, err
	}
	at, err := s.itemsAt(ctx, from)
	if err != nil {
		return m, err
	}
	if len(m.Items) == 0 {
		m.Items = at
	}
	if len(m.Items) == 0 {
		return m, homeward.Errorf("reassociate", homeward.NotFound, "node "+req.From, "see 'homeward item list'", "no item uses it")
	}
	return m, s.movable(ctx, m, from.Site)
}

// itemsAt are the items that use a node.
func (s *workshop) itemsAt(ctx context.Context, n vault.Node) (all []homeward.ItemID, err error) {
	for it, err := range s.store.Items.All(ctx, vault.Query{}) {
		if err != nil {
			return nil, err
		}
		if nodeOf(endOf(&it, n.Site), n.Role) != nil && *nodeOf(endOf(&it, n.Site), n.Role) == n.Name {
			all = append(all, it.ID)
		}
	}
	return all, nil
}

// nodeOf is where an end names its node of a role.
func nodeOf(end *vault.End, role pki.Role) *string {
	switch role {
	case pki.ProcessServer:
		return &end.ProcessServer
	case pki.MasterTarget:
		return &end.MasterTarget
	}
	return nil
}

// movable refuses, before anything is done, items that do not use the node, and
// replicas that cannot leave their master target.
func (s *workshop) movable(ctx context.Context, m move, site string) error {
	var held []string
	for _, id := range m.Items {
		it, err := s.store.Items.Get(ctx, string(id))
		if err != nil {
			return err
		}
		end := endOf(&it, site)
		if end.Site != site || *nodeOf(end, m.Role) != m.From {
			return homeward.Errorf("reassociate", homeward.Invalid, "items", "leave it out", "item %s does not use %s", id, m.From)
		}
		if m.Role == pki.MasterTarget && holds(it, site) {
			held = append(held, string(id))
		}
	}
	if len(held) > 0 {
		return homeward.Errorf("reassociate", homeward.Conflict, "node "+m.From,
			"bring this master target back on its volumes, or disable these items and enable them at another one: that is a full copy",
			"it holds the replica and the recovery points of %s; they cannot be moved to another master target", strings.Join(held, ", "))
	}
	return nil
}

// holds reports whether a master target of a site has the item's replica: it lies at the
// site that stands by; a failed-over machine runs on it, one at its own disks on none.
func holds(it vault.Item, site string) bool {
	standby := otherSite(it) == site
	if standby && it.Record != nil && it.Record.Bound() {
		return true
	}
	return replicates(it) == standby
}

// reassociating is the job: a task for each item.
func (s *workshop) reassociating() job.Definition {
	return job.Definition{Scenario: scenarioReassociate, Title: "Move items to another node", Tasks: func(_ context.Context, j vault.Job) ([]job.TaskDef, error) {
		var m move
		if err := json.Unmarshal(j.Input, &m); err != nil {
			return nil, homeward.Errorf("plan job", homeward.Corrupt, "job "+j.ID, "begin anew", "%w", err)
		}
		var defs []job.TaskDef
		for _, id := range m.Items {
			defs = append(defs, job.TaskDef{Name: "ReassociateTask " + string(id), Title: "Move item " + string(id) + " to " + m.To,
				Do: func(ctx context.Context, _ *job.Run) error { return s.reassociate(ctx, id, m) }})
		}
		return defs, nil
	}}
}

func (s *workshop) reassociate(ctx context.Context, id homeward.ItemID, m move) error {
	release, err := s.owners.claim(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	to, err := s.store.Nodes.Get(ctx, m.To)
	if err != nil {
		return err
	}
	was, err := s.store.Items.Get(ctx, string(id))
	if err != nil {
		return err
	}
	if *nodeOf(endOf(&was, to.Site), m.Role) != m.To { // else an attempt before came so far
		if err := s.movable(ctx, move{Items: []homeward.ItemID{id}, From: m.From, To: m.To, Role: m.Role}, to.Site); err != nil {
			return err
		}
	}
	stored, err := s.store.Items.Change(ctx, string(id), func(it *vault.Item) error {
		*nodeOf(endOf(it, to.Site), m.Role) = m.To
		return nil
	})
	if err != nil {
		return err
	}
	if m.Role != pki.ProcessServer || stored.ActiveSite != to.Site || !replicates(stored) {
		return nil // it carries nothing now: the next leg takes it
	}
	it, err := s.load(ctx, stored)
	if err != nil {
		return err
	}
	return s.reroute(ctx, it)
}

// reroute leads an item's deltas over the running side's process server of now: the
// master target takes them from it, it knows where they go, and the agent ships to it.
func (s *workshop) reroute(ctx context.Context, it *recovery.Item) error {
	_, err := it.Standby.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Copies(it.Standby),
		Generation: it.Generation, Base: it.Base, From: it.Running.ProcessName, Policy: it.Policy})
	if err == nil {
		err = it.Reroute(ctx)
	}
	if err != nil || it.Paused {
		return err
	}
	return it.Unpause(ctx)
}
