package apitest

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

func testRoundTrip(s *suite) {
	const id = homeward.ItemID("web01")
	item := s.protect(id)
	if item.ActiveSite != s.Site || item.Machine != s.Machine || item.Policy != s.Policy || len(item.Legs) != 2 {
		s.Fatalf("protected: %+v", item)
	}
	step := func(action vault.Action, in vault.Input, state vault.State, runs string) {
		s.Helper()
		s.act(vault.Operator, vault.ActionRequest{Item: id, Action: action, Input: in})
		if item := s.reach(id, state); item.ActiveSite != runs {
			s.Fatalf("after %s it runs at %s, want %s", action, item.ActiveSite, runs)
		}
	}
	back := s.placed(id, homeward.Direction{From: s.Target, To: s.Site})
	step(vault.Failover, vault.Input{Point: vault.Latest}, vault.FailedOver, s.Target)
	step(vault.CancelFailover, vault.Input{}, vault.Protected, s.Site)
	step(vault.Failover, vault.Input{Shutdown: true}, vault.FailedOver, s.Target)
	step(vault.Commit, vault.Input{}, vault.Committed, s.Target)
	step(vault.Reprotect, back, vault.Protected, s.Target)
	step(vault.FailbackAction, vault.Input{}, vault.FailedOver, s.Site)
	step(vault.Commit, vault.Input{}, vault.Committed, s.Site)
	step(vault.Reprotect, s.placed(id, homeward.Direction{From: s.Site, To: s.Target}), vault.Protected, s.Site)
}

// placed is the input of a reprotect: of each field that is demanded the first
// eligible option.
func (s *suite) placed(id homeward.ItemID, d homeward.Direction) (in vault.Input) {
	s.Helper()
	ctx, v := s.As(vault.Reader)
	fields, err := v.Placement(ctx, vault.PlacementRequest{Item: id, Direction: d})
	s.must(err)
	if fields.Direction != d || fields.Policy == "" {
		s.Fatalf("placement %+v", fields)
	}
	values := map[string]string{}
	for _, f := range fields.Fields {
		if at := slices.IndexFunc(f.Options, func(o homeward.Option) bool { return o.Eligible }); f.Demand && at >= 0 {
			values[f.Name] = f.Options[at].Value
		}
		for _, o := range f.Options {
			if !o.Eligible && o.Why == "" {
				s.Errorf("%s: nobody learns why %s is not eligible", f.Name, o.Value)
			}
		}
	}
	data, err := json.Marshal(values)
	s.must(err)
	s.must(json.Unmarshal(data, &in))
	return in
}

func testTestFailover(s *suite) {
	const id = homeward.ItemID("web01")
	s.protect(id)
	ctx, v := s.As(vault.Operator)
	_, err := v.Act(ctx, vault.ActionRequest{Item: id, Action: vault.TestFailover})
	s.refused(homeward.Invalid, err, "network")
	s.act(vault.Operator, vault.ActionRequest{Item: id, Action: vault.TestFailover, Input: vault.Input{Network: s.Network}})
	item := s.reach(id, vault.Protected)
	if item.Test.State != vault.TestOpen || item.Test.Network != s.Network || item.Test.Expires.IsZero() {
		s.Errorf("test %+v", item.Test)
	}
	_, err = v.Act(ctx, vault.ActionRequest{Item: id, Action: vault.Resync})
	s.refused(homeward.Conflict, err)
	s.act(vault.Operator, vault.ActionRequest{Item: id, Action: vault.CleanUpTest})
	if item := s.reach(id, vault.Protected); item.Test.State != vault.TestNone || item.Test.Succeeded.IsZero() {
		s.Errorf("test %+v", item.Test)
	}
}

// testRefused asks for what is not possible now: the answer says what is.
func testRefused(s *suite) {
	const id = homeward.ItemID("web01")
	item := s.protect(id)
	if n := len(item.Allowed) + len(item.Refused); n != len(vault.Actions()) {
		s.Errorf("%d actions are told of, there are %d", n, len(vault.Actions()))
	}
	for _, r := range item.Refused {
		if r.Why == "" || r.Remedy == "" || contains(item.Allowed, r.Action) {
			s.Errorf("refusal %+v", r)
		}
	}
	ctx, v := s.As(vault.Operator)
	_, err := v.Act(ctx, vault.ActionRequest{Item: id, Action: vault.Commit})
	s.refused(homeward.Conflict, err)
	var conflict *vault.ConflictError
	if !errors.As(err, &conflict) {
		s.Fatalf("it is not told what is allowed: %v", err)
	}
	for _, a := range item.Allowed {
		if !contains(conflict.Allowed, string(a)) {
			s.Errorf("%s is allowed and not told: %v", a, conflict.Allowed)
		}
	}
}

func testKey(s *suite) {
	const id = homeward.ItemID("web01")
	s.protect(id)
	ctx, v := s.As(vault.Operator)
	req := vault.ActionRequest{Item: id, Action: vault.Failover, Key: "once-and-only-once"}
	job := s.act(vault.Operator, req)
	again, err := v.Act(ctx, req)
	s.must(err)
	if again.ID != job.ID {
		s.Errorf("the same request again made job %s beside %s", again.ID, job.ID)
	}
	req.Input.Point = vault.LatestApp
	_, err = v.Act(ctx, req)
	s.refused(homeward.Conflict, err)
}

func testStale(s *suite) {
	const id = homeward.ItemID("web01")
	looked := s.protect(id)
	ctx, v := s.As(vault.Operator)
	nine := 9
	item, err := v.Tune(ctx, id, vault.TuneRequest{Priority: &nine})
	s.must(err)
	if item.Replication.Priority != 9 || item.Revision <= looked.Revision {
		s.Errorf("tuned: priority %d, revision %d after %d", item.Replication.Priority, item.Revision, looked.Revision)
	}
	_, err = v.Act(ctx, vault.ActionRequest{Item: id, Action: vault.Failover, Revision: looked.Revision})
	s.refused(homeward.Conflict, err)
	ten := 10
	_, err = v.Tune(ctx, id, vault.TuneRequest{Priority: &ten})
	s.refused(homeward.Invalid, err)
	s.reach(id, vault.Protected)
}

// testInput refuses what does not belong to an action, by name, and does nothing.
func testInput(s *suite) {
	const id = homeward.ItemID("web01")
	s.protect(id)
	ctx, v := s.As(vault.Administrator)
	for field, req := range map[string]vault.ActionRequest{
		"force":    {Action: vault.Failover, Input: vault.Input{Force: true}},
		"network":  {Action: vault.Commit, Input: vault.Input{Network: "lab"}},
		"shutdown": {Action: vault.FailbackAction, Input: vault.Input{Shutdown: true}},
		"machine":  {Action: vault.Failover, Machine: s.Machine},
		"point":    {Action: vault.Failover, Input: vault.Input{Point: "yesterday"}},
		"location": {Action: vault.Reprotect, Input: vault.Input{Location: "moon"}},
		"action":   {Action: "explode"},
	} {
		req.Item = id
		_, err := v.Act(ctx, req)
		s.refused(homeward.Invalid, err, field)
		_, err = v.Plan(ctx, req)
		s.refused(homeward.Invalid, err)
	}
	s.reach(id, vault.Protected)
}

func testPlan(s *suite) {
	const id = homeward.ItemID("web01")
	before := s.protect(id)
	ctx, v := s.As(vault.Reader)
	plan, err := v.Plan(ctx, vault.ActionRequest{Item: id, Action: vault.Failover})
	s.must(err)
	if !plan.Allowed || len(plan.Tasks) == 0 || plan.Action != vault.Failover || plan.Item != id {
		s.Errorf("plan %+v", plan)
	}
	plan, err = v.Plan(ctx, vault.ActionRequest{Item: id, Action: vault.Commit})
	s.must(err)
	if plan.Allowed || plan.Why == "" {
		s.Errorf("plan of what is not allowed: %+v", plan)
	}
	after, err := v.Item(ctx, id)
	s.must(err)
	if after.State != before.State || after.Job != "" {
		s.Errorf("planning changed the item: %+v", after)
	}
}

func testItem(s *suite) {
	const id = homeward.ItemID("web01")
	s.protect(id)
	ctx, v := s.As(vault.Operator)
	points, err := v.Points(ctx, id)
	s.must(err)
	if len(points.Points) == 0 {
		s.Fatal("a protected item has no recovery point")
	}
	pin := homeward.PinRequest{Item: id, Point: points.Points[0].Position, Name: "hold:audit"}
	s.must(v.Pin(ctx, pin))
	points, err = v.Points(ctx, id)
	s.must(err)
	if at := slices.IndexFunc(points.Points, func(p homeward.Point) bool { return p.Position == pin.Point }); at < 0 || !contains(points.Points[at].Pins, pin.Name) {
		s.Errorf("the pin does not hold: %+v", points.Points)
	}
	s.must(v.Unpin(ctx, pin))
	pin.Name = ""
	s.refused(homeward.Invalid, v.Pin(ctx, pin))
	s.act(vault.Operator, vault.ActionRequest{Item: id, Action: vault.Pause})
	if item := s.reach(id, vault.Protected); !item.Replication.Paused || !contains(item.Allowed, vault.Resume) {
		s.Errorf("paused: %+v", item.Replication)
	}
	s.act(vault.Operator, vault.ActionRequest{Item: id, Action: vault.Resume})
	readiness, err := v.Readiness(ctx, id)
	s.must(err)
	if readiness.Item != string(id) {
		s.Errorf("readiness %+v", readiness)
	}
	if mine := all(s, v.Items, ctx, vault.Query{State: string(vault.Protected)}); len(mine) != 1 || mine[0].ID != id {
		s.Errorf("protected items: %v", mine)
	}
	machine, err := v.Machine(ctx, s.Machine)
	s.must(err)
	if machine.Item != id {
		s.Errorf("machine %+v", machine)
	}
	contributor, c := s.As(vault.Contributor)
	s.refused(homeward.InUse, c.DeletePolicy(contributor, s.Policy))
}

func testJobs(s *suite) {
	const id = homeward.ItemID("web01")
	ctx, v := s.As(vault.Operator)
	s.protect(id)
	job := s.act(vault.Operator, vault.ActionRequest{Item: id, Action: vault.Failover})
	if job.Scenario == "" || job.Title == "" || job.Item != id || job.Action != vault.Failover || job.Caller == "" || job.Ended.Before(job.Started) || len(job.Tasks) == 0 {
		s.Errorf("job %+v", job)
	}
	for _, task := range job.Tasks {
		if task.Name == "" || task.Title == "" || task.State != vault.TaskSucceeded && task.State != vault.TaskSkipped {
			s.Errorf("task %+v", task)
		}
	}
	listed := all(s, v.Jobs, ctx, vault.Query{Item: string(id), Limit: 1})
	if len(listed) < 2 || listed[0].ID != job.ID {
		s.Errorf("jobs of the item, newest first: %v", names(listed, func(j vault.Job) string { return j.Title }))
	}
	_, err := v.TellJob(ctx, vault.JobRequest{ID: job.ID, Action: vault.JobCancel})
	s.refused(homeward.Conflict, err)
	_, err = v.TellJob(ctx, vault.JobRequest{ID: job.ID, Action: "explode"})
	s.refused(homeward.Invalid, err)
}

func testDisable(s *suite) {
	const id = homeward.ItemID("web01")
	s.protect(id)
	s.act(vault.Contributor, vault.ActionRequest{Item: id, Action: vault.Disable})
	ctx, v := s.As(vault.Reader)
	_, err := v.Item(ctx, id)
	s.refused(homeward.NotFound, err)
	machine, err := v.Machine(ctx, s.Machine)
	s.must(err)
	if machine.Item != "" {
		s.Errorf("machine %+v", machine)
	}
	s.protect(id)
}
