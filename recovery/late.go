package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Resume begins replication anew, in the same direction, of a machine that was
// protected, ran for a while where its agent saw no write (late capture, or a leg
// that was given up), and is off now; changed is what may have been written since
// the standby side's newest state, as LateCapture.ChangedSince tells it. The
// machine is booted on the agent's disks while the rest travels.
func (it *Item) Resume(ctx context.Context, changed homeward.Changes) error {
	if err := it.require("resume protection", Protected); err != nil {
		return err
	}
	next, err := it.begin("resume protection", homeward.Position{})
	if err != nil {
		return err
	}
	set := it.noDifferences()
	if err := set.add(changed, func(d *diskDifferences) *block.Map { return d.since }); err != nil {
		return err
	}
	err = it.once(ctx, "begin a new leg at the standby side", func(func(homeward.Progress)) error {
		replica, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		if err != nil {
			return err
		}
		base := replica.Applied
		if base.Generation != next { // else an earlier attempt began it
			base = base.Base(next)
		}
		_, err = it.Standby.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Copies(it.Standby),
			Generation: next, Base: base, Bootable: true, From: it.Running.ProcessName, Retention: it.Standby.Retention, Policy: it.Policy})
		if err == nil {
			it.Generation, it.Base = next, base
		}
		return err
	})
	var report homeward.CaptureReport
	if err == nil {
		err = it.step(ctx, "start capture", func(func(homeward.Progress)) (err error) {
			if err = it.route(ctx, it.Running, it.Standby); err != nil {
				return err
			}
			report, err = it.Running.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn,
				Generation: next, Base: it.Base, Initial: set.known(), Incomplete: true, Sink: it.Running.SinkURL, Policy: it.Policy})
			return err
		})
	}
	if err == nil {
		err = it.step(ctx, "boot machine", func(func(homeward.Progress)) error { return it.boot(ctx, it.Running, report) })
	}
	if err == nil {
		err = it.once(ctx, compareStep, func(tell func(homeward.Progress)) error { return it.completeMaps(ctx, set, tell) })
	}
	if err == nil {
		err = it.awaitFirstPoint(ctx, "resync")
	}
	if err != nil {
		return err
	}
	return it.end(Protected)
}
