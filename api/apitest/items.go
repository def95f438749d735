package apitest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// Items is part of vault.Vault, as are all exported methods of this file.
func (m *Memory) Items(ctx context.Context, q vault.Query) (vault.Page[vault.Item], error) {
	page, err := listOf(ctx, m, vault.Reader, &m.items, q)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range page.Entries {
		m.complete(&page.Entries[i])
	}
	return page, err
}

func (m *Memory) Item(ctx context.Context, id homeward.ItemID) (item vault.Item, err error) {
	err = m.see(ctx, vault.Reader, func() error {
		if item, err = m.items.get(string(id)); err == nil {
			m.complete(&item)
		}
		return err
	})
	return item, err
}

// complete fills in what is computed.
func (m *Memory) complete(i *vault.Item) {
	i.Allowed, i.Refused = lifecycle.Allowed(m.facts(*i))
	there, back := homeward.Direction{From: i.Original.Site, To: i.Recovery.Site}, homeward.Direction{From: i.Recovery.Site, To: i.Original.Site}
	i.Legs = []vault.Leg{
		{Direction: there, ProcessServer: i.Original.ProcessServer, MasterTarget: i.Recovery.MasterTarget, Policy: i.Policy},
		{Direction: back, ProcessServer: i.Recovery.ProcessServer, MasterTarget: i.Original.MasterTarget, Policy: vault.FailbackName(i.Policy)},
	}
	points := m.points[i.ID]
	i.Replication.Points, i.Replication.RPO = len(points), -1
	if n := len(points); n > 0 {
		i.Replication.Newest = points[n-1].At
		i.Replication.RPO = m.now().Sub(points[n-1].At).Seconds()
	}
	_, refused := lifecycle.Decide(m.facts(*i), vault.FailbackAction)
	i.Score = vault.Score{Ready: refused == nil, At: m.now()}
	if refused != nil {
		i.Score.Blockers = 1
	}
}

func (m *Memory) facts(i vault.Item) lifecycle.Facts {
	if i.State == lifecycle.None {
		return lifecycle.Facts{}
	}
	f := lifecycle.Facts{State: i.State, At: lifecycle.AtOriginal, Leg: lifecycle.Forward, Test: i.Test.State, Job: i.Job,
		JobScenario: m.jobs.rows[i.Job].Scenario, Points: lifecycle.Count{N: len(m.points[i.ID]), Known: true},
		FirstPoint: lifecycle.TruthOf(len(m.points[i.ID]) > 0), Committing: lifecycle.No, Machine: lifecycle.Yes, Paused: i.Replication.Paused}
	if i.ActiveSite != i.Original.Site {
		f.At = lifecycle.AtRecovery
	}
	if i.Direction.From != i.Original.Site {
		f.Leg = lifecycle.Reverse
	}
	f.Other = lifecycle.TruthOf(m.sites.rows[other(i)].Connected)
	return f
}

// other is the site where the machine does not run.
func other(i vault.Item) string {
	if i.ActiveSite == i.Original.Site {
		return i.Recovery.Site
	}
	return i.Original.Site
}

func (m *Memory) Points(ctx context.Context, id homeward.ItemID) (list homeward.PointList, err error) {
	err = m.see(ctx, vault.Reader, func() error {
		if _, err := m.items.get(string(id)); err != nil {
			return err
		}
		list.Points = slices.Clone(m.points[id])
		return nil
	})
	return list, err
}

// addPoint makes a recovery point, as if the agent had cut.
func (m *Memory) addPoint(id homeward.ItemID) {
	points := m.points[id]
	at := homeward.Position{Generation: homeward.Generation{Number: 1, ID: homeward.NewID()}, Sequence: uint64(len(points) + 1), Cut: homeward.NewID()}
	for i := range points {
		points[i].Latest = false
	}
	m.points[id] = append(points, homeward.Point{Position: at, Mark: homeward.Mark{Kind: homeward.MarkCrash, At: m.now()}, At: m.now(), Latest: true})
}

func (m *Memory) Pin(ctx context.Context, req homeward.PinRequest) error {
	return m.pin(ctx, "point.pin", req, func(pins []string) []string {
		if slices.Contains(pins, req.Name) {
			return pins
		}
		return append(slices.Clone(pins), req.Name)
	})
}

func (m *Memory) Unpin(ctx context.Context, req homeward.PinRequest) error {
	return m.pin(ctx, "point.unpin", req, func(pins []string) []string {
		return slices.DeleteFunc(slices.Clone(pins), func(p string) bool { return p == req.Name })
	})
}

func (m *Memory) pin(ctx context.Context, action string, req homeward.PinRequest, do func([]string) []string) error {
	return m.change(ctx, vault.Operator, action, "item "+string(req.Item), func(vault.Caller) error {
		if req.Name == "" || len(req.Name) > 80 {
			return homeward.Errorf(action, homeward.Invalid, "name", `give 1 to 80 bytes, such as "hold:audit"`, "%q", req.Name)
		}
		if _, err := m.items.get(string(req.Item)); err != nil {
			return err
		}
		points := slices.Clone(m.points[req.Item])
		at := slices.IndexFunc(points, func(p homeward.Point) bool { return p.Position == req.Point })
		if at < 0 {
			return homeward.Errorf(action, homeward.NotFound, "point "+req.Point.String(), "choose one of 'homeward point list'", "the item has no such point")
		}
		points[at].Pins = do(points[at].Pins)
		m.points[req.Item] = points
		return nil
	})
}

func (m *Memory) Readiness(ctx context.Context, id homeward.ItemID) (r vault.Readiness, err error) {
	err = m.see(ctx, vault.Reader, func() error {
		item, err := m.items.get(string(id))
		if err != nil {
			return err
		}
		m.complete(&item)
		r = vault.Readiness{Item: string(id), Score: item.Score}
		if _, no := lifecycle.Decide(m.facts(item), vault.FailbackAction); no != nil {
			r.Findings = []vault.Finding{{Rule: "R3", Title: "Failback", Verdict: vault.Blocker, Subject: "item " + string(id), Text: no.Why, Remedy: no.Remedy, At: m.now()}}
		}
		return nil
	})
	return r, err
}

func (m *Memory) Prove(ctx context.Context, id homeward.ItemID) (job vault.Job, err error) {
	err = m.change(ctx, vault.Operator, "item.prove", "item "+string(id), func(c vault.Caller) error {
		item, err := m.items.get(string(id))
		if err != nil {
			return err
		}
		if item.State != vault.Protected {
			return homeward.Errorf("prove", homeward.Conflict, "item "+string(id), "wait until it is protected", "it is %s", item.State)
		}
		t := lifecycle.Transition{Phases: lifecycle.Phases[vault.State]{Begun: item.State, Next: item.State, Failed: item.State},
			Test:     lifecycle.Phases[vault.TestState]{Begun: item.Test.State, Next: item.Test.State, Failed: item.Test.State},
			Scenario: "ProveItem", Title: "Prove", Tasks: []lifecycle.Task{{Name: "ProveItemTask", Title: "Digesting both sides"}}}
		job = m.begin(begun{item: item, transition: t, caller: c.Name, done: func(i *vault.Item) { i.Proof = m.newID("proof") }})
		return nil
	})
	return job, err
}

func (m *Memory) Proof(ctx context.Context, id homeward.ItemID) (data []byte, err error) {
	err = m.see(ctx, vault.Reader, func() error {
		item, err := m.items.get(string(id))
		if err != nil {
			return err
		}
		if item.Proof == "" {
			return homeward.Errorf("read", homeward.NotFound, "proof of item "+string(id), "make one: 'homeward item prove'", "there is none")
		}
		data, err = json.Marshal(map[string]any{"item": id, "proof": item.Proof, "equal": true})
		return homeward.Wrap(err, "read proof", string(id))
	})
	return data, err
}

func (m *Memory) Tune(ctx context.Context, id homeward.ItemID, req vault.TuneRequest) (item vault.Item, err error) {
	err = m.change(ctx, vault.Operator, "item.tune", "item "+string(id), func(vault.Caller) error {
		if req.Priority != nil && (*req.Priority < 0 || *req.Priority > 9) {
			return homeward.Errorf("tune", homeward.Invalid, "priority", "give 0 (first) to 9", "%d", *req.Priority)
		}
		if item, err = m.items.get(string(id)); err != nil {
			return err
		}
		if req.Priority != nil {
			item.Replication.Priority = *req.Priority
		}
		if req.Paused != nil {
			item.Replication.Paused = *req.Paused
		}
		m.items.put(string(id), &item)
		m.complete(&item)
		return nil
	})
	return item, err
}

func (m *Memory) Placement(ctx context.Context, req vault.PlacementRequest) (fields vault.PlacementFields, err error) {
	err = m.see(ctx, vault.Reader, func() error {
		item, err := m.items.get(string(req.Item))
		if err != nil {
			return err
		}
		fields.Direction = req.Direction
		if fields.Direction == (homeward.Direction{}) {
			fields.Direction = homeward.Direction{From: item.ActiveSite, To: other(item)}
		}
		fields.Policy = item.Policy
		if fields.Direction.To == item.Original.Site {
			fields.Policy = vault.FailbackName(item.Policy)
		}
		to, from := fields.Direction.To, fields.Direction.From
		one := func(value string) []homeward.Option {
			return []homeward.Option{{Value: value, Label: value, Eligible: true}}
		}
		fields.Fields = []homeward.Field{
			{Name: "master_target", Label: "Master target", Demand: true, Options: one("mt-" + to)},
			{Name: "process_server", Label: "Process server", Demand: true, Options: one("ps-" + from)},
			{Name: "datastore", Label: "Datastore", Demand: true, Options: one("store-" + to)},
			{Name: "retention_volume", Label: "Retention volume", Options: append(one("/retention"), homeward.Option{Value: "/", Label: "/", Why: "R104: it is the system volume"})},
		}
		return nil
	})
	return fields, err
}

func (m *Memory) Reassociate(ctx context.Context, req vault.ReassociateRequest) (job vault.Job, err error) {
	err = m.change(ctx, vault.Operator, "node.reassociate", "node "+req.From, func(c vault.Caller) error {
		all, from, to, err := m.moved(req)
		if err != nil {
			return err
		}
		for key, i := range all {
			for _, end := range []*vault.End{&i.Original, &i.Recovery} {
				for _, node := range []*string{&end.Agent, &end.ProcessServer, &end.MasterTarget} {
					if *node == from.Name {
						*node = to.Name
					}
				}
			}
			m.items.put(key, &i)
		}
		job = m.ended("Reassociate", "Reassociate", c.Name)
		return nil
	})
	return job, err
}

// PlanReassociate is part of vault.Vault.
func (m *Memory) PlanReassociate(ctx context.Context, req vault.ReassociateRequest) (page vault.Page[vault.Plan], err error) {
	err = m.see(ctx, vault.Reader, func() error {
		all, _, to, err := m.moved(req)
		for _, i := range all {
			page.Entries = append(page.Entries, vault.Plan{Item: i.ID, Action: "reassociate", Allowed: true,
				Tasks: []vault.Task{{Name: "ReassociateTask", Title: "Move item " + string(i.ID) + " to " + to.Name, State: vault.TaskNotStarted}}})
		}
		return err
	})
	return page, err
}

// moved are the items of a reassociation, by key, and the nodes that it is between.
func (m *Memory) moved(req vault.ReassociateRequest) (all map[string]vault.Item, from, to vault.Node, err error) {
	if from, err = m.nodes.get(req.From); err != nil {
		return nil, from, to, err
	}
	if to, err = m.nodes.get(req.To); err != nil {
		return nil, from, to, err
	}
	if from.Role != to.Role || from.Site != to.Site || from.Name == to.Name {
		return nil, from, to, homeward.Errorf("reassociate", homeward.Invalid, "to", "name another node of the same role and site", "%s is a %s at %s", to.Name, to.Role, to.Site)
	}
	all = map[string]vault.Item{}
	for key, i := range m.items.rows {
		if len(req.Items) == 0 || slices.Contains(req.Items, i.ID) {
			all[key] = i
		}
	}
	return all, from, to, nil
}

// ended is the job of something that was done at once.
func (m *Memory) ended(scenario, title, caller string) vault.Job {
	job := vault.Job{ID: m.newID("job"), Scenario: scenario, Title: title, Caller: caller, State: vault.JobSucceeded, Started: m.now(), Ended: m.now(),
		Tasks: []vault.Task{{Name: scenario + "Task", Title: title, State: vault.TaskSucceeded, Started: m.now(), Ended: m.now()}}}
	m.jobs.put(job.ID, &job)
	return job
}

// checkPoint refuses what is no choice of a point.
func checkPoint(s string) error {
	if s == "" || s == vault.Latest || s == vault.LatestApp {
		return nil
	}
	var err error
	if age, negative := strings.CutPrefix(s, "-"); negative {
		_, err = time.ParseDuration(age)
	} else {
		_, err = homeward.ParsePosition(s)
	}
	if err != nil {
		return homeward.Errorf("choose point", homeward.Invalid, "point", `give "latest", "latest-app-consistent", an age such as "-30s", or a position`, "%q", s)
	}
	return nil
}
