package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// Repolicy has the leg in force replicate by another policy from now on: which points
// are kept, how often is cut, what is called for application marks. It is written down
// when both sides know it: cut short, it is called again. What is retained at once is
// what the new policy keeps; what the old one let go does not come back.
func (it *Item) Repolicy(ctx context.Context, p homeward.Policy) error {
	const op = "change policy"
	if err := it.require(op, Protected, Synchronizing); err != nil {
		return err
	}
	if it.Leaving != nil {
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "let it come there first", "its replica is on its way to master target %s", it.Leaving.To)
	}
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return err
	}
	err := it.step(ctx, op, func(func(homeward.Progress)) error {
		_, err := it.Standby.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: it.Machine, Disks: it.Copies(it.Standby),
			Generation: it.Generation, Base: it.Base, From: it.Running.ProcessName, Retention: it.Standby.Retention, Policy: p})
		if err != nil {
			return err
		}
		sink := it.Running.SinkURL
		if it.Paused {
			sink = ""
		}
		_, err = it.Running.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn,
			Generation: it.Generation, Base: it.Base, Sink: sink, Policy: p})
		return err
	})
	if err != nil {
		return err
	}
	it.Policy = p
	return it.save()
}
