package service

import (
	"context"
	"errors"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// Placement tells the inputs of the item's next way.
func (s *recoveries) Placement(ctx context.Context, req vault.PlacementRequest) (vault.PlacementFields, error) {
	if err := s.see(ctx); err != nil {
		return vault.PlacementFields{}, err
	}
	it, err := s.store.Items.Get(ctx, string(req.Item))
	if err != nil {
		return vault.PlacementFields{}, err
	}
	d := req.Direction
	if d == (homeward.Direction{}) {
		d = nextDirection(it)
	}
	ends := [2]string{it.Original.Site, it.Recovery.Site}
	if d != (homeward.Direction{From: ends[0], To: ends[1]}) && d != (homeward.Direction{From: ends[1], To: ends[0]}) {
		return vault.PlacementFields{}, homeward.Errorf("placement", homeward.Invalid, "direction", "give "+ends[0]+" and "+ends[1]+", either way round", "the item has no way from %q to %q", d.From, d.To)
	}
	w, err := s.placement.preselect(ctx, it, d, vault.Input{})
	if err != nil {
		return vault.PlacementFields{}, err
	}
	f := vault.PlacementFields{Direction: d, Policy: it.Policy}
	if d.To == it.Original.Site {
		f.Policy = vault.FailbackName(it.Policy)
	}
	f.Fields, err = s.placement.fields(ctx, it, w)
	return f, err
}

// Plan tells what Act would do, by the same code that does it.
func (s *recoveries) Plan(ctx context.Context, req vault.ActionRequest) (vault.Plan, error) {
	p := vault.Plan{Item: req.Item, Action: req.Action}
	if err := s.see(ctx); err != nil {
		return p, err
	}
	if err := checkInput(req); err != nil {
		return p, err
	}
	it, a, t, err := s.consider(ctx, req)
	var instead *vault.ConflictError
	switch {
	case err == nil:
		p.Allowed = true
	case errors.As(err, &instead):
		p.Why = err.Error()
	default:
		return p, err
	}
	for _, task := range t.Tasks {
		p.Tasks = append(p.Tasks, vault.Task{Name: task.Name, Title: task.Title, State: vault.TaskNotStarted, Cancellable: !task.Whole})
	}
	if a.New != nil || it.Record == nil {
		return p, nil
	}
	return p, s.foretell(ctx, it, req, a.Facts, &p)
}

// foretell adds what the rules say, what will travel, and what will be lost.
func (s *recoveries) foretell(ctx context.Context, it vault.Item, req vault.ActionRequest, known lifecycle.Facts, p *vault.Plan) error {
	if req.Action == vault.Reprotect || req.Action == vault.FailbackAction {
		if err := s.monitor.look(ctx, it); err != nil {
			return err
		}
		facts, err := s.gatherer.facts(ctx, it, req.Input)
		if err != nil {
			return err
		}
		p.Findings = readiness.Check(facts)
		checked := req.Action == vault.Reprotect || !unplanned(req.Input, known)
		if f, stops := firstStop(p.Findings, req.Input.Overrides); stops && checked && p.Allowed {
			p.Allowed, p.Why = false, f.Rule+": "+f.Text
		}
	}
	if req.Action == vault.Adopt {
		return s.foretellAdoption(ctx, it, req, p)
	}
	loaded, err := s.look(ctx, it)
	if err != nil {
		return err
	}
	switch req.Action {
	case vault.Reprotect:
		e, err := estimateOf(ctx, loaded, req.Input.Location)
		if err != nil {
			return err
		}
		if e.Seconds == 0 {
			e.Seconds = s.seconds(ctx, it, e)
		}
		p.Estimate, p.Losses = &e, e.Losses
		seeds, err := s.seeds(ctx, it, e)
		if err != nil {
			return err
		}
		p.Seeds = &seeds
	case vault.Failover, vault.FailbackAction, vault.ChangePoint, vault.CancelFailover, vault.Disable:
		p.Losses = append(p.Losses, s.losses(ctx, it, req)...)
	}
	return nil
}

// look is the recovery item of a stored one for questions only: what it would write
// down is refused.
func (c *core) look(ctx context.Context, stored vault.Item) (*recovery.Item, error) {
	it, err := c.load(ctx, stored)
	if err != nil {
		return nil, err
	}
	it.Save = func(*recovery.Item) error {
		return homeward.Errorf("plan", homeward.Internal, "item "+string(stored.ID), "", "a plan changes nothing")
	}
	return it, nil
}

// losses tell what an action gives up.
func (s *recoveries) losses(ctx context.Context, it vault.Item, req vault.ActionRequest) (all []string) {
	now, known := s.monitor.last(it.ID)
	switch req.Action {
	case vault.Disable:
		return disabled(it)
	case vault.CancelFailover:
		return []string{"everything the failed-over machine wrote is dropped with its overlay"}
	case vault.ChangePoint:
		return []string{"everything the failed-over machine wrote so far is dropped with its overlay"}
	case vault.Failover, vault.FailbackAction:
		if it.State == vault.Synchronizing {
			return interrupted(it, req.Input.Point)
		}
		if req.Action == vault.Failover && req.Input.Shutdown {
			return []string{"nothing, if the machine can be shut down and its last writes shipped; else what was written after the newest recovery point"}
		}
	}
	c, err := parsePoint(req.Input.Point)
	if err != nil || c.newest() && req.Action == vault.FailbackAction && !req.Input.Force {
		return nil
	}
	if !c.newest() {
		all = append(all, "everything written after the chosen point, "+req.Input.Point)
	}
	if req.Action == vault.Failover || req.Input.Force {
		newest, of := "not known", "what"
		if known && !now.replication.Newest.IsZero() {
			newest = now.replication.Newest.UTC().Format(time.RFC3339)
		}
		if !c.newest() {
			of = "of that, what"
		}
		all = append(all, of+" was written after the newest recovery point (from "+newest+"): it cannot be shipped any more, and stays on the old side's disks until reprotect, and then as its branch")
	}
	return all
}

// interrupted is what is given up with a side amid its synchronization.
func interrupted(it vault.Item, point string) []string {
	from, to := it.ActiveSite, otherSite(it)
	since := "not known"
	if it.Record != nil && !it.Record.Point.At.IsZero() {
		since = it.Record.Point.At.UTC().Format(time.RFC3339)
	}
	return []string{
		"everything the machine wrote at " + from + ", where it runs since the failover to its state from " + since +
			": no point at " + to + " holds it; it stays on the disks at " + from + " until reprotect, and then as their branch, unless they are lost",
		"the machine at " + from + " is asked to shut down, for a minute; if it cannot be asked it may run on, and is kept off when " + from + " returns",
		to + " boots at the point " + point + "; until the commit a cancel goes back to the synchronization, if " + from + " is there",
	}
}

// disabled is what goes with an item.
func disabled(it vault.Item) []string {
	all := []string{"every recovery point of the item, and with them the way back to an older state"}
	if it.ActiveSite == it.Original.Site && it.State != vault.FailedOver {
		all = append(all, "the replica's disks at "+it.Recovery.Site)
	}
	if it.State == vault.Synchronizing && it.Record != nil && it.Record.List.Op != listProtect {
		to := otherSite(it)
		all = append(all, "the state that the machine had at "+to+" (point "+vault.LostWrites+"): its disks there are being overwritten, boot no more until the synchronization ends, and without its points never")
	}
	return all
}

// seconds are the time that an estimate's bytes take at the throughput that was
// measured on the way; 0: not known.
func (s *recoveries) seconds(ctx context.Context, it vault.Item, e homeward.Estimate) float64 {
	rate := s.rate(ctx, it)
	if rate <= 0 {
		return 0
	}
	return float64(e.WireBytes) / rate
}

// rate is the throughput between the process server and the master target of the
// item's next way, as probed.
func (s *recoveries) rate(ctx context.Context, it vault.Item) float64 {
	w, err := s.placement.preselect(ctx, it, nextDirection(it), vault.Input{})
	if err != nil {
		return 0
	}
	n, err := s.node(ctx, w.from.ProcessServer)
	if err != nil {
		return 0
	}
	return probeOf(n, w.to.MasterTarget).V.Rate
}

// seeds is the seeds' own formula: the enable job's duration, what changed, and the
// throughput that was measured.
func (s *recoveries) seeds(ctx context.Context, it vault.Item, e homeward.Estimate) (vault.SeedsEstimate, error) {
	now := s.now().UTC()
	enable := readiness.NotKnown[time.Duration](fromVault, "its enable job is not kept any more")
	for j, err := range s.store.Jobs.All(ctx, vault.Query{Item: string(it.ID), State: string(vault.JobSucceeded)}) {
		if err != nil {
			return vault.SeedsEstimate{}, err
		}
		if j.Scenario == lifecycle.ScenarioEnable {
			enable = readiness.Is(j.Ended.Sub(j.Started), fromVault, now)
		}
	}
	changed := readiness.Is(e.Bytes, fromVault, now)
	if e.Certainty == homeward.Unknown {
		changed = readiness.NotKnown[int64](fromVault, "not every map could be read")
	}
	rate := readiness.NotKnown[float64](fromVault, "no throughput was measured yet")
	if r := s.rate(ctx, it); r > 0 {
		rate = readiness.Is(r, fromVault, now)
	}
	return readiness.SeedsEstimate(enable, changed, rate), nil
}
