package leg

import (
	"context"
	"os"
	"time"

	"github.com/homeward-dr/homeward"
)

// Item is a machine of one disk that is captured.
type Item struct {
	ID  homeward.ItemID
	URI string // where its disk is served, to one client at a time

	leg     *Leg
	machine homeward.Machine
	request homeward.CaptureRequest
}

// Hold captures the image at path and ships nothing: every write is marked, no cut
// is made.
func (l *Leg) Hold(ctx context.Context, id homeward.ItemID, path string) (*Item, error) {
	m, generation, err := machine(id, path)
	if err != nil {
		return nil, err
	}
	return l.prepare(ctx, m, generation, path, homeward.Policy{}, "")
}

// Replicate captures the image at path and replicates it into the file replica,
// which is made. It returns when the first recovery point stands.
func (l *Leg) Replicate(ctx context.Context, id homeward.ItemID, path, replica string, p homeward.Policy) (*Item, error) {
	m, generation, err := machine(id, path)
	if err != nil {
		return nil, err
	}
	_, err = l.Replica.Prepare(ctx, homeward.ReplicaRequest{Machine: m, Disks: []string{"file:" + replica}, Create: true,
		Generation: generation, Base: homeward.Position{}.Base(generation), From: l.Process.Name, Policy: p})
	if err == nil {
		_, err = l.Route.Prepare(ctx, homeward.RouteRequest{Item: id, Generation: generation, Target: l.url, Agent: l.Agent.Name})
	}
	if err != nil {
		return nil, err
	}
	it, err := l.prepare(ctx, m, generation, path, p, "https://"+l.Process.Listen())
	if err != nil {
		return nil, err
	}
	// A point is asked for; it comes when the first set is whole.
	_, err = l.Capture.Cut(ctx, homeward.CutRequest{Item: id, Kind: homeward.MarkCrash})
	return it, err
}

func (l *Leg) prepare(ctx context.Context, m homeward.Machine, g homeward.Generation, path string, p homeward.Policy, sink string) (*Item, error) {
	it := &Item{ID: m.Item, leg: l, machine: m}
	it.request = homeward.CaptureRequest{Machine: m, Disks: []string{"file:" + path}, Generation: g,
		Base: homeward.Position{}.Base(g), InitialAll: sink != "", Sink: sink, Policy: p}
	rep, err := l.Capture.Prepare(ctx, it.request)
	if err != nil {
		return nil, err
	}
	it.URI = rep.Disks[0].URI
	return it, nil
}

func machine(id homeward.ItemID, path string) (homeward.Machine, homeward.Generation, error) {
	st, err := os.Stat(path)
	if err != nil {
		return homeward.Machine{}, homeward.Generation{}, homeward.Errorf("capture image", homeward.NotFound, path, "make it first", "%w", err)
	}
	m := homeward.Machine{Item: id, Name: string(id), CPUs: 1, MemoryMiB: 128, Firmware: "bios", OSFamily: "linux",
		Disks: []homeward.Disk{{ID: homeward.DiskID(id) + "-disk", Size: st.Size(), BootOrder: 1}}}
	return m, homeward.Generation{Number: 1, ID: homeward.NewID()}, nil
}

// Report tells how the item's capture stands.
func (it *Item) Report(ctx context.Context) (homeward.CaptureReport, error) {
	return it.leg.Capture.Report(ctx, homeward.ItemRequest{Item: it.ID})
}

// SetPolicy changes how the item replicates from now on.
func (it *Item) SetPolicy(ctx context.Context, p homeward.Policy) error {
	it.request.Policy = p
	_, err := it.leg.Capture.Prepare(ctx, it.request)
	return err
}

// Drain waits until nobody is connected to the disk any more and the replica holds
// everything that was written.
func (it *Item) Drain(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond) // the pace of asking
	defer tick.Stop()
	for {
		rep, err := it.Report(ctx)
		if err != nil {
			return err
		}
		if rep.Clients == 0 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return homeward.Errorf("drain", homeward.Canceled, string(it.ID), "end the client of the disk", "%w", ctx.Err())
		}
	}
	_, err := it.leg.Capture.Drain(ctx, homeward.DrainRequest{Item: it.ID, Stopped: true})
	return err
}
