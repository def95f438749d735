package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/capture"
	"github.com/homeward-dr/homeward/durable"
)

// baselineRecord names the newest baseline of an item.
type baselineRecord struct {
	ID homeward.ID `json:"id"`
}

func (a *Agent) baselineDir(id homeward.ItemID) string {
	return filepath.Join(a.host.cfg.Dir, "baselines", string(id))
}

func (a *Agent) baselineRecord(id homeward.ItemID) string {
	return filepath.Join(a.baselineDir(id), "baseline.json")
}

// Baseline remembers the state of disks, before first power-on. It reads them
// whole; nobody may write to them meanwhile.
func (a *Agent) Baseline(ctx context.Context, req homeward.BaselineRequest) (rep homeward.BaselineReport, err error) {
	err = a.withDisks(ctx, "make baseline", req, func(late capture.Late) error {
		if err := a.host.cfg.FS.MkdirAll(late.Dir, 0o700); err != nil {
			return err
		}
		b, err := late.Baseline(ctx)
		if err == nil {
			rep = homeward.BaselineReport{ID: b.ID, Read: b.Read}
			err = durable.WriteJSON(a.host.cfg.FS, a.baselineRecord(req.Machine.Item), baselineRecord{ID: b.ID})
		}
		return err
	})
	return rep, err
}

// ChangedSince compares disks with the newest baseline of the item. It reads them
// whole. A lost baseline makes all suspect, which is no error.
func (a *Agent) ChangedSince(ctx context.Context, req homeward.BaselineRequest) (c homeward.Changes, err error) {
	c.Item = req.Machine.Item
	err = a.withDisks(ctx, "compare with baseline", req, func(late capture.Late) error {
		var r baselineRecord
		err := durable.ReadJSON(a.host.cfg.FS, a.baselineRecord(req.Machine.Item), &r)
		if kind := homeward.KindOf(err); err != nil && kind != homeward.NotFound && kind != homeward.Corrupt {
			return err
		}
		found, err := late.ChangedSince(ctx, r.ID) // no baseline has the zero id
		if err != nil {
			return err
		}
		for i, d := range req.Machine.Disks {
			dc, err := diskChanges(d.ID, found.Changed[i], found.Suspect[i], found.Reasons[i])
			if err != nil {
				return err
			}
			c.Disks = append(c.Disks, dc)
		}
		return nil
	})
	return c, err
}

// withDisks runs do on the disks of a request: those of the captured item, or
// others, opened for reading.
func (a *Agent) withDisks(ctx context.Context, op string, req homeward.BaselineRequest, do func(capture.Late) error) (err error) {
	if err := req.Machine.Validate(); err != nil {
		return err
	}
	if len(req.Disks) != len(req.Machine.Disks) {
		return homeward.Errorf(op, homeward.Invalid, "disks", "give one reference for each disk of the machine",
			"%d references for %d disks", len(req.Disks), len(req.Machine.Disks))
	}
	late := capture.Late{Dir: a.baselineDir(req.Machine.Item), FS: a.host.cfg.FS}
	if it, missing := a.find(op, req.Machine.Item); missing == nil {
		if done := it.using(); done != nil {
			defer done()
			if it.sameDisks(req) {
				late.Disks = it.disks
			}
		}
	}
	if late.Disks == nil {
		mode := block.Mode{ReadOnly: true, NoLock: true}
		if late.Disks, err = a.host.openDisks(ctx, req.Machine, req.Disks, mode); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeDisks(late.Disks)) }()
	}
	return homeward.Wrap(do(late), op, string(req.Machine.Item))
}

// sameDisks reports whether the item is open on the disks of a request.
func (it *item) sameDisks(req homeward.BaselineRequest) bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return slices.Equal(it.rec.Request.Disks, req.Disks)
}
