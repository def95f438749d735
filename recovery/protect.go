package recovery

import (
	"context"
	"errors"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Protect begins the first leg and returns when its first point stands: Enable,
// then AwaitInitial.
func (it *Item) Protect(ctx context.Context) error {
	if err := it.Enable(ctx); err != nil {
		return err
	}
	return it.AwaitInitial(ctx)
}

// Enable begins the first leg: a new replica at the standby side, everything there
// is at the running side as the first set. A machine that Refs names at the running
// side is shut down, and booted again on the agent's disks; one that it does not
// name is created there. Enable returns when the machine runs and replicates; the
// item is then Synchronizing, and AwaitInitial goes on.
func (it *Item) Enable(ctx context.Context) error {
	if it.State == Synchronizing && it.List.Op == opProtect {
		return nil
	}
	if err := it.require(opProtect, Unprotected); err != nil {
		return err
	}
	if it.Attached || it.List.Op == opDisable {
		return homeward.Errorf(opProtect, homeward.Conflict, "item "+string(it.ID()),
			"shut the machine down and disable it once more first", "it is not disabled to the end: its machine may run on the agent's disks")
	}
	if _, err := it.begin(opProtect, homeward.Position{}); err != nil {
		return err
	}
	err := it.once(ctx, claimStep, func(func(homeward.Progress)) error { return it.claim(ctx) })
	if err != nil {
		return err
	}
	next := it.List.Next
	it.Generation, it.Base = next, homeward.Position{}.Base(next)
	err = it.step(ctx, "prepare replica", func(func(homeward.Progress)) error {
		_, err := it.Standby.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Copies(it.Standby),
			Create: true, Generation: it.Generation, Base: it.Base, From: it.Running.ProcessName, Retention: it.Standby.Retention, Policy: it.Policy})
		return err
	})
	if err == nil { // it may run on its own disks
		err = it.once(ctx, shutStep, func(func(homeward.Progress)) error { return it.shutDownOwn(ctx) })
	}
	var report homeward.CaptureReport
	if err == nil {
		err = it.step(ctx, "start capture", func(func(homeward.Progress)) (err error) {
			if err = it.route(ctx, it.Running, it.Standby); err != nil {
				return err
			}
			req := homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn,
				Generation: it.Generation, Base: it.Base, InitialAll: true, Sink: it.Running.SinkURL, Policy: it.Policy}
			if next.Number > 1 { // the copies may hold what they held when it was protected before
				req.InitialAll, req.Initial = false, it.everything()
			}
			report, err = it.Running.Agent.Prepare(ctx, req)
			return err
		})
	}
	if err == nil {
		err = it.step(ctx, "boot machine", func(func(homeward.Progress)) error { return it.boot(ctx, it.Running, report) })
	}
	if err != nil {
		return err
	}
	return it.half()
}

// The steps of Enable after which a role may hold something of the item.
const (
	claimStep = "claim item"
	shutStep  = "shut down machine"
)

// Begun tells how far an Enable that has not ended may have come: the master target may
// hold a replica, and the agent may serve the machine's disks.
func (it *Item) Begun() (replica, capture bool) {
	if it.List.Op != opProtect {
		return false, false
	}
	return it.List.Done[claimStep], it.List.Done[shutStep]
}

// claim sees that nobody has an item of this id, and begins above the generation
// that roles remember of one that was disabled. Nothing is made yet.
func (it *Item) claim(ctx context.Context) error {
	id := homeward.ItemRequest{Item: it.ID()}
	_, replica := it.Standby.Target.Report(ctx, id)
	_, capture := it.Running.Agent.Report(ctx, id)
	for where, err := range map[string]error{"the master target at " + it.Standby.Name: replica, "the agent at " + it.Running.Name: capture} {
		switch {
		case err == nil:
			return homeward.Errorf("claim item", homeward.Exists, "item "+string(it.ID()),
				"disable the one that is there, or protect the machine under another id", "%s has an item of this id", where)
		case homeward.KindOf(err) != homeward.NotFound:
			return err
		}
	}
	for _, role := range []homeward.Fencer{it.Standby.Target, it.Running.Agent, it.Running.Process} {
		if err := it.rise(ctx, role); err != nil {
			return err
		}
	}
	for _, role := range []homeward.Fencer{it.Standby.Agent, it.Standby.Process} { // of the way back: they may be chosen, and answer, later
		if err := it.rise(ctx, role); err != nil && (ctx.Err() != nil || errors.Is(err, errSave)) {
			return err
		}
	}
	return nil
}

// rise tells a role the generation of an item that begins, a newer one if the role
// remembers more.
func (it *Item) rise(ctx context.Context, role homeward.Fencer) error {
	for {
		_, err := role.SetGeneration(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.List.Next})
		var fenced *homeward.FencedError
		if !errors.As(err, &fenced) {
			return err
		}
		it.Next = fenced.InForce.Next()
		it.List.Next = it.Next
		if err := it.save(); err != nil {
			return err
		}
	}
}

// shutDownOwn shuts a machine down that is about to get the agent's disks.
func (it *Item) shutDownOwn(ctx context.Context) error {
	m, known, err := it.machineAt(ctx, it.Running)
	if err != nil || !known || m.Power == homeward.PowerOff {
		return err
	}
	it.List.WasOn = true
	if err := it.save(); err != nil { // before it is off
		return err
	}
	return it.shutdown(ctx, it.Running)
}

// everything is every block of the machine's disks.
func (it *Item) everything() (all []homeward.DiskChanges) {
	for _, d := range it.Machine.Disks {
		m := block.NewMap(d.Blocks())
		m.Set(0, m.Blocks())
		all = append(all, changed(d.ID, m))
	}
	return all
}

// AwaitInitial returns when the first point of the first leg stands at the standby
// side: the item is Protected then.
func (it *Item) AwaitInitial(ctx context.Context) error {
	if it.State == Protected && it.List.Op == "" {
		return nil
	}
	if err := it.mayAwait("await initial sync", opProtect); err != nil {
		return err
	}
	if err := it.awaitFirstPoint(ctx, "initial sync"); err != nil {
		return err
	}
	return it.end(Protected)
}

// route tells the process server of one side where the item's deltas go.
func (it *Item) route(ctx context.Context, from, to *Side) error {
	_, err := from.Process.Prepare(ctx, homeward.RouteRequest{Item: it.ID(), Generation: it.Generation,
		Target: to.TargetURL, Agent: from.AgentName, Weight: it.Weight})
	return err
}

// awaitFirstPoint returns when a bootable mark of the leg in force is applied.
// What a power loss makes suspect meanwhile is compared: else no mark would come.
func (it *Item) awaitFirstPoint(ctx context.Context, name string) error {
	return it.step(ctx, name, func(tell func(homeward.Progress)) error {
		return poll(ctx, func() (bool, error) {
			capture, err := it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
			if err != nil {
				return false, err
			}
			tell(capture.Progress)
			if !capture.Complete {
				read, err := it.makeWhole(ctx, it.noDifferences(), 0, tell)
				it.List.FullReads += read
				return false, err
			}
			replica, err := it.taker().Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
			if err != nil {
				return false, err
			}
			p := replica.NewestPoint
			return p.Latest && p.Position.Generation == it.Generation && p.Position.Sequence > 0, nil
		})
	})
}

// Reroute tells the running side's process server once more where the item's
// deltas go, for one that lost its spool with its routes, or for another weight.
func (it *Item) Reroute(ctx context.Context) error {
	if err := it.require("route", Protected, Synchronizing); err != nil {
		return err
	}
	return it.step(ctx, "route", func(func(homeward.Progress)) error { return it.route(ctx, it.Running, it.taker()) })
}
