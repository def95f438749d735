package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// Protect begins the first leg: a new replica at the standby side, everything
// there is at the running side as the first set. The machine is booted on the
// agent's disks; Protect returns when the first point stands at the standby side.
func (it *Item) Protect(ctx context.Context) error {
	if err := it.require("protect", Unprotected); err != nil {
		return err
	}
	if it.Generation.IsZero() {
		it.Generation = homeward.Generation{}.Next()
		it.Base = homeward.Position{}.Base(it.Generation)
	}
	if err := it.save(); err != nil {
		return err
	}
	var report homeward.CaptureReport
	err := it.step(ctx, "prepare replica", func(func(homeward.Progress)) error {
		_, err := it.Standby.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Standby.Disks,
			Create: true, Generation: it.Generation, Base: it.Base, From: it.Running.ProcessName, Policy: it.Policy})
		return err
	})
	if err == nil {
		err = it.step(ctx, "start capture", func(func(homeward.Progress)) (err error) {
			if err = it.route(ctx, it.Running, it.Standby); err != nil {
				return err
			}
			report, err = it.Running.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn,
				Generation: it.Generation, Base: it.Base, InitialAll: true, Sink: it.Running.SinkURL, Policy: it.Policy})
			return err
		})
	}
	if err == nil {
		err = it.step(ctx, "boot machine", func(func(homeward.Progress)) error { return it.boot(ctx, it.Running, report) })
	}
	if err == nil {
		err = it.awaitFirstPoint(ctx, "initial sync")
	}
	if err != nil {
		return err
	}
	return it.end(Protected)
}

// route tells the process server of one side where the item's deltas go.
func (it *Item) route(ctx context.Context, from, to *Side) error {
	_, err := from.Process.Prepare(ctx, homeward.RouteRequest{Item: it.ID(), Generation: it.Generation, Target: to.TargetURL, Agent: from.AgentName})
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
			replica, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
			if err != nil {
				return false, err
			}
			p := replica.NewestPoint
			return p.Latest && p.Position.Generation == it.Generation && p.Position.Sequence > 0, nil
		})
	})
}

// Reroute tells the running side's process server once more where the item's
// deltas go, for one that lost its spool with its routes.
func (it *Item) Reroute(ctx context.Context) error {
	if err := it.require("route", Protected); err != nil {
		return err
	}
	return it.step(ctx, "route", func(func(homeward.Progress)) error { return it.route(ctx, it.Running, it.Standby) })
}
