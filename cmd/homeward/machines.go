package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// newMachine is one entry of the file given with --machines.
type newMachine struct {
	Machine homeward.Machine `json:"machine"`
	// Disks are references of disks that exist, in the machine's order; none: empty
	// disks are made in the default datastore, named after machine and disk.
	Disks []string `json:"disks,omitempty"`
	On    bool     `json:"on,omitempty"` // power it on when it was made
}

// readMachines reads a list of machines; an empty path is an empty list.
func readMachines(path string) (list []newMachine, err error) {
	const op = "read machines"
	if path == "" {
		return nil, nil
	}
	f, err := openRegular(op, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, homeward.Errorf(op, homeward.Invalid, path, `give a list such as [{"machine": {"item": "web01", "name": "web01", "disks": [{"id": "root", "size": 268435456}]}, "on": true}]`, "%w", err)
	}
	for _, m := range list {
		if err := m.Machine.Validate(); err != nil {
			return nil, homeward.Wrap(err, op, path)
		}
		if len(m.Disks) != 0 && len(m.Disks) != len(m.Machine.Disks) {
			return nil, homeward.Errorf(op, homeward.Invalid, path, "give one reference for each disk of the machine, or none",
				"machine %s: %d references for %d disks", m.Machine.Item, len(m.Disks), len(m.Machine.Disks))
		}
	}
	return list, nil
}

// makeMachines makes those that the site does not have; one that is there stays as
// it is.
func makeMachines(ctx context.Context, s homeward.Site, datastore string, wanted []newMachine) error {
	for _, m := range wanted {
		_, err := s.Machine(ctx, homeward.Ref{Native: string(m.Machine.Item)})
		if homeward.KindOf(err) == homeward.NotFound {
			err = makeMachine(ctx, s, datastore, m)
		}
		if err != nil {
			return homeward.Wrap(err, "make machine", string(m.Machine.Item))
		}
	}
	return nil
}

func makeMachine(ctx context.Context, s homeward.Site, datastore string, m newMachine) error {
	var attached []homeward.Attachment
	for i, d := range m.Machine.Disks {
		a := homeward.Attachment{Disk: d.ID, Controller: d.Controller, Slot: i}
		if len(m.Disks) > 0 {
			a.Ref = m.Disks[i]
		} else {
			a.Ref = "file:" + filepath.Join(datastore, string(m.Machine.Item)+"-"+string(d.ID)+".raw")
			disk, err := block.OpenFile(ctx, a.Ref, block.Mode{Size: d.Size, Create: true})
			if err != nil {
				return err
			}
			if err := disk.Close(); err != nil {
				return err
			}
		}
		attached = append(attached, a)
	}
	key := "make " + string(m.Machine.Item) + " " + homeward.NewID().String() // it is not there: whatever made it before is over
	ref, err := settle(ctx, s, func() (homeward.Operation, error) { return s.Create(ctx, key, m.Machine, attached) })
	if err == nil && m.On {
		_, err = settle(ctx, s, func() (homeward.Operation, error) { return s.PowerOn(ctx, key+" on", ref) })
	}
	return err
}

// settle begins an operation and waits for its end.
func settle(ctx context.Context, s homeward.Site, begin func() (homeward.Operation, error)) (homeward.Ref, error) {
	op, err := begin()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for err == nil && op.State == homeward.OperationRunning {
		select {
		case <-tick.C:
			op, err = s.Operation(ctx, op.ID)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err == nil && op.State == homeward.OperationFailed {
		err = homeward.Errorf("wait for operation", homeward.Conflict, op.Key, op.Remedy, "%s", op.Error)
	}
	return op.Result, err
}
