package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// Pause stops shipping. The machine runs on, and what it writes goes into the map
// and travels after Unpause; no point is made meanwhile. Paused already is no error.
func (it *Item) Pause(ctx context.Context) error { return it.setPaused(ctx, "pause replication", true) }

// Unpause ships again, from where the replica stands.
func (it *Item) Unpause(ctx context.Context) error {
	return it.setPaused(ctx, "resume replication", false)
}

func (it *Item) setPaused(ctx context.Context, op string, paused bool) error {
	if err := it.require(op, Protected, Synchronizing); err != nil {
		return err
	}
	sink := it.Running.SinkURL
	if paused {
		sink = ""
	}
	it.Paused = paused // written down first: what is asked for is known, and done again
	if err := it.save(); err != nil {
		return err
	}
	return it.step(ctx, op, func(func(homeward.Progress)) error { return it.ship(ctx, sink) })
}

// ship has the capture of the leg in force ship to a sink, or to none.
func (it *Item) ship(ctx context.Context, sink string) error {
	_, err := it.Running.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: it.Machine, Disks: it.RunsOn,
		Generation: it.Generation, Base: it.Base, Sink: sink, Policy: it.Policy})
	return err
}
