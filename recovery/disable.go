package recovery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// Leftover is something that Disable has left behind, and why.
type Leftover struct {
	Where  string `json:"where"` // side
	What   string `json:"what"`
	Why    string `json:"why"`
	Remedy string `json:"remedy,omitempty"`
}

// Disable ends protection: the copies' points go, the routes, the guards, and what
// the agents keep; the disks of both sides stay. It answers what is left behind.
//
// A machine that runs is not stopped: its disks come to it through its agent, which
// goes on exporting them and ships nothing (Attached, and a leftover that says so).
// Disable again, once the machine is off, gives it its own disks back. With force,
// what cannot be reached is left behind; else it is an error, and Disable is called
// again until it succeeds. From its first step on the item is Unprotected.
func (it *Item) Disable(ctx context.Context, force bool) ([]Leftover, error) {
	if it.State == Unprotected && it.List.Op == "" && !it.Attached {
		return nil, nil
	}
	if err := it.require(opDisable, Unprotected, Synchronizing, Protected, Committed); err != nil {
		return nil, err
	}
	d := disabling{it: it, force: force}
	it.giveUpLeaving()
	begun := it.List
	if begun.Op == opProtect { // its generation may not be written down as the one in force
		it.Generation = begun.Next
	}
	next, err := it.begin(opDisable, homeward.Position{})
	if err != nil {
		return nil, err
	}
	it.List.WasOn = it.List.WasOn || begun.Op == opProtect && begun.WasOn
	it.State, it.Paused, it.Took, it.Interrupted = Unprotected, false, nil, nil
	if err := it.save(); err != nil {
		return nil, err
	}
	if t := it.Test; t != nil {
		err := d.try(ctx, "end test failover", t.Side, "test machine "+t.Ref.Native+" and its view", func() error { return it.CleanUpTest(ctx) })
		if err != nil {
			return d.left, err
		}
	}
	if err := d.letGo(ctx, next); err != nil {
		return d.left, err
	}
	if err := d.forget(ctx, next); err != nil {
		return d.left, err
	}
	if !it.Attached {
		it.Generation, it.Base, it.RunsOn = next, homeward.Position{}, it.Copies(it.Running)
	}
	for _, l := range it.Left {
		d.leave(l.Side, fmt.Sprintf("what master target %s has of the item, and disks %v", l.Target, l.Disks), "the item was led to another one and this one could not be told", "remove it by hand")
	}
	if it.Doomed != nil {
		d.leave(it.Doomed.Side, "the old machine and its disks "+fmt.Sprint(it.Doomed.Disks), "they may hold writes that nobody else has", "remove them by hand")
	}
	return d.left, it.end(Unprotected)
}

// disabling is one call of Disable.
type disabling struct {
	it    *Item
	force bool
	left  []Leftover
}

func (d *disabling) leave(where, what, why, remedy string) {
	d.left = append(d.left, Leftover{Where: where, What: what, Why: why, Remedy: remedy})
}

// try runs a step; with force one whose role cannot be reached is left behind.
func (d *disabling) try(ctx context.Context, name, where, what string, do func() error) error {
	run := d.it.step
	if d.force {
		run = d.it.optional
	}
	err := run(ctx, name+" at "+where, func(func(homeward.Progress)) error { return do() })
	if err != nil && d.force && homeward.Retryable(err) && ctx.Err() == nil {
		d.leave(where, what, err.Error(), "remove it when "+where+" answers again")
		return nil
	}
	return err
}

// letGo takes the machine from its agent if it is off. If it is on, or if nobody
// can tell, the agent goes on exporting.
func (d *disabling) letGo(ctx context.Context, next homeward.Generation) error {
	it := d.it
	where, what := it.Running.Name, "the agent's hold on the machine's disks"
	holds := true // until it is known not to
	err := d.try(ctx, "look at machine", where, what, func() (err error) {
		if holds, err = it.holds(ctx); err == nil && holds {
			err = it.ship(ctx, "")
		}
		return err
	})
	if err != nil {
		return err
	}
	if holds {
		it.Attached = true
		d.leave(where, "the agent still exports the machine's disks, and ships nothing", "the machine runs on them",
			"shut the machine down, then disable it once more")
		return it.save()
	}
	return d.try(ctx, "give the machine its own disks", where, what, func() error { return it.ownDisks(ctx, next) })
}

// holds reports whether the running side's agent serves disks to a machine that may
// be on. One that its site says is off may still look connected for a moment.
func (it *Item) holds(ctx context.Context) (holds bool, err error) {
	m, known, err := it.machineAt(ctx, it.Running)
	if err != nil {
		return true, err
	}
	deadline := time.Now().Add(hangUp)
	err = poll(ctx, func() (bool, error) {
		report, err := it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		switch {
		case homeward.KindOf(err) == homeward.NotFound:
			holds = false
			return true, nil
		case err != nil:
			return true, err
		}
		serves := report.State == homeward.CaptureRunning || report.State == homeward.CaptureHeld
		off := !known || m.Power == homeward.PowerOff
		holds = serves && (!off || report.Clients > 0)
		return !holds || !off || time.Now().After(deadline), nil
	})
	return holds || err != nil, err
}

// ownDisks gives a machine that is off the copies of its side, from the agent and
// from the master target whose view it may have run on.
func (it *Item) ownDisks(ctx context.Context, next homeward.Generation) error {
	if err := it.endCapture(ctx, it.Running, next); err != nil {
		return err
	}
	own := it.Copies(it.Running)
	if !slices.Equal(it.RunsOn, own) {
		if _, err := it.Running.Target.Forget(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: next}); err != nil {
			return err
		}
	}
	it.Attached = false
	m, known, err := it.machineAt(ctx, it.Running)
	if err != nil || !known {
		return err
	}
	var disks []homeward.Attachment
	for i, d := range it.Machine.Disks {
		disks = append(disks, homeward.Attachment{Disk: d.ID, Ref: own[i], Slot: i})
	}
	key := fmt.Sprintf("%s-%d", it.ID(), next.Number)
	if !it.List.WasOn {
		return reattach(ctx, it.Running.Site, key, m.Ref, disks)
	}
	return it.bootOn(ctx, it.Running, key, disks) // Enable had shut it down
}

// endCapture ends what a side's agent has of the item.
func (it *Item) endCapture(ctx context.Context, side *Side, next homeward.Generation) error {
	req := homeward.GenerationRequest{Item: it.ID(), Generation: next}
	_, err := side.Agent.Handover(ctx, req)
	if err == nil {
		_, err = side.Agent.Release(ctx, req)
	}
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	return err
}

// forget has every other role forget the item.
func (d *disabling) forget(ctx context.Context, next homeward.Generation) error {
	it := d.it
	req := homeward.GenerationRequest{Item: it.ID(), Generation: next}
	for _, part := range []struct {
		side *Side
		what string
		do   func(*Side) error
	}{
		{it.Running, "the route", func(s *Side) error { _, err := s.Process.Forget(ctx, req); return err }},
		{it.Standby, "the points", func(s *Side) error { _, err := s.Target.Forget(ctx, req); return err }},
		{it.Standby, "the old capture", func(s *Side) error { return it.endCapture(ctx, s, next) }},
		{it.Standby, "the old route", func(s *Side) error { _, err := s.Process.Forget(ctx, req); return err }},
		{it.Standby, "the guard of the machine", func(s *Side) error { return it.allowOn(ctx, s) }},
	} {
		if err := d.try(ctx, "forget "+part.what, part.side.Name, part.what, func() error { return part.do(part.side) }); err != nil {
			return err
		}
	}
	return nil
}
