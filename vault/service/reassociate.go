package service

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
)

// move is the stored input of a job that moves items between nodes.
type move struct {
	Items    []homeward.ItemID          `json:"items"`              // that have nothing at From
	Replicas []homeward.ItemID          `json:"replicas,omitempty"` // whose replicas it holds
	Stay     map[homeward.ItemID]string `json:"stay,omitempty"`     // that cannot leave it now, and why
	From     string                     `json:"from"`
	To       string                     `json:"to"`
	Role     pki.Role                   `json:"role"`
	How      leaving                    `json:"how,omitzero"`
}

// Reassociate moves items from one process server or master target to another of the
// same site. A process server holds nothing that is not elsewhere too. A replica at a
// master target is led to the other one by a job of its own (tasks_reassociate.go).
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
		title := fmt.Sprintf("Move %d items from %s to %s", len(m.Items)+len(m.Replicas), m.From, m.To)
		j, err = s.engine.Start(ctx, vault.Job{Scenario: scenarioReassociate, Title: title, Caller: caller.Name, Input: input})
		return err
	})
	return j, err
}

// PlanReassociate tells what Reassociate would do, item by item.
func (s *recoveries) PlanReassociate(ctx context.Context, req vault.ReassociateRequest) (vault.Page[vault.Plan], error) {
	var page vault.Page[vault.Plan]
	if err := s.see(ctx); err != nil {
		return page, err
	}
	m, err := s.moveOf(ctx, req)
	if err != nil {
		return page, err
	}
	for _, id := range m.Items {
		page.Entries = append(page.Entries, vault.Plan{Item: id, Action: planned, Allowed: true,
			Tasks: []vault.Task{{Name: "ReassociateTask", Title: "Move item " + string(id) + " to " + m.To, State: vault.TaskNotStarted}}})
	}
	for _, id := range m.Replicas {
		p, err := s.planReplica(ctx, id, m)
		if err != nil {
			return page, err
		}
		page.Entries = append(page.Entries, p)
	}
	for id, why := range m.Stay {
		page.Entries = append(page.Entries, vault.Plan{Item: id, Action: planned, Why: why, Tasks: []vault.Task{}})
	}
	slices.SortFunc(page.Entries, func(a, b vault.Plan) int { return strings.Compare(string(a.Item), string(b.Item)) })
	return page, nil
}

// planned is what the plan of a reassociation calls it.
const planned vault.Action = "reassociate"

func (s *recoveries) moveOf(ctx context.Context, req vault.ReassociateRequest) (move, error) {
	m := move{From: req.From, To: req.To, Stay: map[homeward.ItemID]string{},
		How: leaving{SameDisks: req.SameDisks, OldIsOff: req.OldIsOff, Datastore: req.Datastore, Retention: req.Retention}}
	from, err := s.store.Nodes.Get(ctx, req.From)
	if err != nil {
		return m, err
	}
	m.Role = from.Role
	if m.Role != pki.ProcessServer && m.Role != pki.MasterTarget {
		return m, homeward.Errorf("reassociate", homeward.Invalid, "from", "name a process server or a master target", "node %s is a %s", from.Name, from.Role)
	}
	if m.To == "" {
		if m.To, err = s.onlyOther(ctx, from); err != nil {
			return m, err
		}
	}
	if err := s.placement.checkNode(ctx, "reassociate", "to", m.To, from.Role, from.Site); err != nil {
		return m, err
	}
	ids := req.Items
	if len(ids) == 0 {
		if ids, err = s.itemsAt(ctx, from); err != nil {
			return m, err
		}
	}
	if len(ids) == 0 {
		return m, homeward.Errorf("reassociate", homeward.NotFound, "node "+req.From, "see 'homeward item list'", "no item uses it")
	}
	if err := s.sort(ctx, &m, ids, from.Site); err != nil {
		return m, err
	}
	if len(m.Stay) > 0 && (len(req.Items) > 0 || len(m.Items)+len(m.Replicas) == 0) {
		return m, refuseStay(m)
	}
	if len(m.Replicas) > 0 {
		return m, s.mayServe(ctx, m.To, m.How.Retention)
	}
	return m, nil
}

func refuseStay(m move) error {
	var ids, why []string
	for id, reason := range m.Stay {
		ids, why = append(ids, string(id)), append(why, string(id)+": "+reason)
	}
	slices.Sort(ids)
	slices.Sort(why)
	return homeward.Errorf("reassociate", homeward.Conflict, "node "+m.From, "leave "+strings.Join(ids, ", ")+" out, or do first what it says", "%s", strings.Join(why, "; "))
}

// onlyOther is the one node that items of another can go to; with several somebody has
// to choose.
func (s *workshop) onlyOther(ctx context.Context, from vault.Node) (string, error) {
	nodes, err := s.placement.nodesOf(ctx, from.Role, from.Site)
	if err != nil {
		return "", err
	}
	var others []string
	for _, n := range nodes {
		if n.Name != from.Name && n.State == vault.NodeReady {
			others = append(others, n.Name)
		}
	}
	switch len(others) {
	case 0:
		return "", homeward.Errorf("reassociate", homeward.Invalid, "to", "enrol one there, or bring one back", "no other %s of site %s is ready", from.Role, from.Site)
	case 1:
		return others[0], nil
	}
	return "", homeward.Errorf("reassociate", homeward.Invalid, "to", fmt.Sprintf("name a %s of site %s that is ready", from.Role, from.Site), "%d others could be meant: %s", len(others), strings.Join(others, ", "))
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

// sort says of each item how it leaves the node, before anything is done; one that does
// not use the node is refused.
func (s *workshop) sort(ctx context.Context, m *move, ids []homeward.ItemID, site string) error {
	for _, id := range ids {
		it, err := s.store.Items.Get(ctx, string(id))
		if err != nil {
			return err
		}
		end := endOf(&it, site)
		if end.Site != site || *nodeOf(end, m.Role) != m.From {
			return homeward.Errorf("reassociate", homeward.Invalid, "items", "leave it out", "item %s does not use %s", id, m.From)
		}
		why := stays(it, site, m.Role)
		switch {
		case why != "":
			m.Stay[id] = why
		case m.Role == pki.MasterTarget && replicates(it) && otherSite(it) == site:
			m.Replicas = append(m.Replicas, id)
		default:
			m.Items = append(m.Items, id)
		}
	}
	return nil
}

// stays says why an item cannot leave a node now; empty: it can.
func stays(it vault.Item, site string, role pki.Role) string {
	r := it.Record
	switch {
	case r == nil:
		return ""
	case role == pki.ProcessServer:
		if r.Leaving != nil {
			return "its replica is on its way to master target " + r.Leaving.To + ": let it come there first"
		}
		return ""
	case it.State == vault.FailedOver && it.ActiveSite == site:
		return "its machine runs on what this master target serves: commit the failover, reprotect and fail back; or cancel it"
	case it.ActiveSite == site && !slices.Equal(r.RunsOn, endOf(&it, site).Disks):
		return "its machine runs on what this master target serves: fail it back first"
	case otherSite(it) == site && !replicates(it) && r.Bound():
		return "an earlier reprotect may have made the replica there already: reprotect it to the end"
	case otherSite(it) == site && replicates(it) && r.List.Op != "" && r.State == recovery.Protected && r.Leaving == nil:
		return "an earlier action is unfinished: " + r.List.Op
	}
	return ""
}

// reassociating is the job: a task for each item.
func (s *workshop) reassociating() job.Definition {
	return job.Definition{Scenario: scenarioReassociate, Title: "Move items to another node", Tasks: func(_ context.Context, j vault.Job) ([]job.TaskDef, error) {
		var m move
		if err := json.Unmarshal(j.Input, &m); err != nil {
			return nil, homeward.Errorf("plan job", homeward.Corrupt, "job "+j.ID, "begin anew", "%w", err)
		}
		var defs []job.TaskDef
		task := func(id homeward.ItemID, title string, do func(context.Context, *job.Run) error) {
			defs = append(defs, job.TaskDef{Name: "ReassociateTask " + string(id), Title: title, Do: do})
		}
		for _, id := range m.Items {
			task(id, "Move item "+string(id)+" to "+m.To, func(ctx context.Context, _ *job.Run) error { return s.reassociate(ctx, id, m) })
		}
		for _, id := range m.Replicas {
			task(id, "Lead the replica of item "+string(id)+" to "+m.To, func(ctx context.Context, run *job.Run) error { return s.leadReplica(ctx, run, id, m) })
		}
		for id, why := range m.Stay {
			task(id, "Item "+string(id)+" stays at "+m.From, func(_ context.Context, run *job.Run) error { return run.Skip(why) })
		}
		slices.SortFunc(defs, func(a, b job.TaskDef) int { return strings.Compare(a.Name, b.Name) })
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
		now := move{From: m.From, Role: m.Role, Stay: map[homeward.ItemID]string{}}
		if err := s.sort(ctx, &now, []homeward.ItemID{id}, to.Site); err != nil {
			return err
		}
		if len(now.Stay) > 0 {
			return refuseStay(now)
		}
		if len(now.Replicas) > 0 {
			return homeward.Errorf("reassociate", homeward.Conflict, "item "+string(id), "reassociate it once more", "its replica has come to %s meanwhile", m.From)
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
