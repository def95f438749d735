package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// Plan is part of vault.Vault, as is Act.
func (m *Memory) Plan(ctx context.Context, req vault.ActionRequest) (plan vault.Plan, err error) {
	err = m.see(ctx, vault.Reader, func() error {
		item, err := m.target(req)
		if err != nil {
			return err
		}
		plan = vault.Plan{Item: req.Item, Action: req.Action, Allowed: true, Tasks: []vault.Task{}}
		t, refusal := lifecycle.Decide(m.asked(item, req), req.Action)
		if refusal != nil {
			plan.Allowed, plan.Why = false, refusal.Why
			plan.Findings = []vault.Finding{{Rule: refusal.Rule, Title: "Lifecycle", Verdict: vault.Blocker, Subject: "item " + string(req.Item), Text: refusal.Why, Remedy: refusal.Remedy}}
			return nil
		}
		plan.Tasks = tasksOf(t)
		if t.Turns {
			plan.Estimate = &homeward.Estimate{Item: req.Item, Bytes: 64 << 20, WireBytes: 65 << 20, Seconds: 12, Certainty: homeward.Exact}
			plan.Seeds = &vault.SeedsEstimate{Why: "no enable job of this item is known"}
			plan.Losses = []string{"what the old side wrote after the failover; it is kept as branch lost-writes"}
		}
		return nil
	})
	return plan, err
}

func (m *Memory) Act(ctx context.Context, req vault.ActionRequest) (job vault.Job, err error) {
	err = m.change(ctx, req.Action.Access(), "item."+string(req.Action), "item "+string(req.Item), func(c vault.Caller) error {
		request, err := json.Marshal(req)
		if err != nil {
			return homeward.Errorf("act", homeward.Invalid, "input", "give plain values", "%w", err)
		}
		if used, known := m.keys[req.Key]; known && req.Key != "" {
			if used.request != string(request) {
				return homeward.Errorf("act", homeward.Conflict, "key "+req.Key, "use another idempotency key", "it was used for job %s, which is something else", used.job)
			}
			job, err = m.jobs.get(used.job)
			return err
		}
		item, err := m.target(req)
		if err != nil {
			return err
		}
		if err := stale("item "+string(req.Item), req.Revision, item.Revision); err != nil {
			return err
		}
		t, refusal := lifecycle.Decide(m.asked(item, req), req.Action)
		if refusal != nil {
			return m.conflict(item, refusal)
		}
		apply(&item, req)
		if t.Scenario == "" {
			m.items.put(string(item.ID), &item)
			job = m.ended(string(req.Action), t.Title, c.Name)
		} else {
			job = m.begin(begun{item: item, transition: t, caller: c.Name, request: req})
		}
		if req.Key != "" {
			m.keys[req.Key] = keyed{request: string(request), job: job.ID}
		}
		return nil
	})
	return job, err
}

func (m *Memory) conflict(item vault.Item, refusal *vault.Refusal) error {
	allowed, _ := lifecycle.Allowed(m.facts(item))
	cause := &vault.ConflictError{Job: refusal.Job}
	for _, a := range allowed {
		cause.Allowed = append(cause.Allowed, string(a))
	}
	return homeward.Errorf(string(refusal.Action), homeward.Conflict, "item "+string(item.ID), refusal.Remedy, "%s: %w", refusal.Why, cause)
}

// target finds the item of a request, or makes the one that enable will; it checks
// the input.
func (m *Memory) target(req vault.ActionRequest) (vault.Item, error) {
	if err := req.Validate(); err != nil {
		return vault.Item{}, err
	}
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf(string(req.Action), homeward.Invalid, field, fix, format, args...)
	}
	in := req.Input
	if err := checkPoint(in.Point); err != nil {
		return vault.Item{}, err
	}
	switch {
	case req.Action == vault.TestFailover && in.Network == "":
		return vault.Item{}, bad("network", "name an isolated network of the target site", "a test failover demands one")
	case in.Lifetime < 0 || in.Lifetime > 14*24*time.Hour:
		return vault.Item{}, bad("lifetime", "give up to 14 days", "%v", in.Lifetime)
	case in.Location != "" && in.Location != vault.OriginalLocation && in.Location != vault.AlternateLocation:
		return vault.Item{}, bad("location", `give "original" or "alternate"`, "%q", in.Location)
	}
	item, err := m.items.get(string(req.Item))
	if err == nil || req.Action != vault.Enable {
		return item, err
	}
	machine, err := m.machines.get(req.Machine)
	if err != nil {
		return item, err
	}
	switch {
	case machine.Item != "":
		return item, homeward.Errorf("enable", homeward.Conflict, "machine "+machine.ID, "disable that item first", "item %s protects it", machine.Item)
	case in.Target == machine.Site:
		return item, bad("target_site", "name another site", "the machine is at %s", in.Target)
	}
	if _, err := m.sites.get(in.Target); err != nil {
		return item, err
	}
	policy, err := m.policies.get(in.Policy)
	if err != nil {
		return item, err
	}
	if policy.Failback {
		return item, bad("policy", "name forward policy "+policy.Of, "%s is a failback policy", policy.Name)
	}
	end := func(site string) vault.End {
		return vault.End{Site: site, Agent: "agent-" + site, ProcessServer: "ps-" + site, MasterTarget: "mt-" + site, Disks: []string{"file:/disks/" + machine.Found.Ref.Native}}
	}
	return vault.Item{ID: req.Item, Machine: machine.ID, Name: machine.Found.Machine.Name, Original: end(machine.Site), Recovery: end(in.Target),
		Direction: homeward.Direction{From: machine.Site, To: in.Target}, ActiveSite: machine.Site, Policy: in.Policy,
		Replication: vault.Replication{Priority: 5, RPO: -1}, Test: vault.Test{State: vault.TestNone}}, nil
}

func (m *Memory) asked(item vault.Item, req vault.ActionRequest) lifecycle.Facts {
	f := m.facts(item)
	f.Location, f.Force = req.Input.Location, req.Input.Force
	return f
}

// apply takes over of the input what an item remembers.
func apply(item *vault.Item, req vault.ActionRequest) {
	switch req.Action {
	case vault.Pause, vault.Resume:
		item.Replication.Paused = req.Action == vault.Pause
	case vault.TestFailover:
		life := req.Input.Lifetime
		if life == 0 {
			life = 24 * time.Hour
		}
		now := time.Now().UTC().Round(0)
		item.Test = vault.Test{Machine: "test-" + string(item.ID), Network: req.Input.Network, Point: req.Input.Point, Opened: now, Expires: now.Add(life), Succeeded: item.Test.Succeeded}
	case vault.CleanUpTest:
		item.Test.Succeeded = time.Now().UTC().Round(0)
	case vault.Reprotect:
		end := &item.Original
		if item.ActiveSite == item.Original.Site {
			end = &item.Recovery
		}
		if req.Input.MasterTarget != "" {
			end.MasterTarget = req.Input.MasterTarget
		}
		if req.Input.Retention != "" {
			end.Retention = req.Input.Retention
		}
	}
}

func tasksOf(t lifecycle.Transition) []vault.Task {
	tasks := make([]vault.Task, len(t.Tasks))
	for i, task := range t.Tasks {
		tasks[i] = vault.Task{Name: task.Name, Title: task.Title, State: vault.TaskNotStarted}
	}
	return tasks
}

// begun is a job that begins.
type begun struct {
	item       vault.Item
	transition lifecycle.Transition
	caller     string
	request    vault.ActionRequest
	parent     string
	done       func(*vault.Item) // after success; may be nil
}

// begin enters a job and lets it run.
func (m *Memory) begin(b begun) vault.Job {
	input, err := json.Marshal(b.request.Input)
	if err != nil {
		panic(fmt.Sprintf("an input that came as JSON: %v", err))
	}
	job := vault.Job{ID: m.newID("job"), Scenario: b.transition.Scenario, Title: b.transition.Title, Item: b.item.ID, Action: b.request.Action, Parent: b.parent,
		State: vault.JobRunning, Caller: b.caller, Key: b.request.Key, Input: input, Started: m.now(), Tasks: tasksOf(b.transition), Actions: []vault.JobAction{vault.JobCancel}}
	b.item.Job, b.item.State, b.item.Test.State = job.ID, b.transition.Begun, b.transition.Test.Begun
	m.jobs.put(job.ID, &job)
	m.items.put(string(b.item.ID), &b.item)
	if machine, err := m.machines.get(b.item.Machine); err == nil && machine.Item == "" {
		machine.Item = b.item.ID
		m.machines.put(machine.ID, &machine)
	}
	m.told[job.ID] = make(chan vault.JobAction, 1)
	m.wg.Go(func() { m.run(job.ID, b) })
	return job
}
