package mastertarget

import (
	"context"
	"errors"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/mastertarget/overlay"
	"github.com/homeward-dr/homeward/nbd"
)

// failOverView is the name of the view that FailOver makes.
const failOverView = "failover"

// view is a served point.
type view struct {
	homeward.View
	boundary uint64
	pin      pin
	disks    []block.Disk     // as served
	stores   []*overlay.Store // of a writable one; guarded by the item's mu once it is served
	exports  []string
}

func (v *view) overlayBytes() (n int64) {
	for _, s := range v.stores {
		n += s.Bytes()
	}
	return n
}

// reportView is a view as callers see it.
func (it *item) reportView(v *view) homeward.View {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.told(v)
}

// told is how a view stands; the caller holds mu.
func (it *item) told(v *view) homeward.View {
	r := v.View
	r.OverlayBytes = v.overlayBytes()
	r.ByHand = v.Kind == homeward.ViewDurable && it.rec.FailOver != nil && it.rec.FailOver.ByHand
	return r
}

// stage serves points of an item.
type stage struct{ *item }

// openView serves a point read-only or with a scratch overlay. The caller holds
// the turn, so that no name is opened twice.
func (it stage) openView(ctx context.Context, req homeward.ViewRequest) (homeward.View, error) {
	const op = "open view"
	if err := homeward.ItemID(req.Name).Validate(); err != nil || req.Name == failOverView {
		return homeward.View{}, homeward.Errorf(op, homeward.Invalid, fmt.Sprintf("name %q", req.Name),
			"use 1 to 64 letters, digits, '-' or '_', and not \"failover\"", "not a valid view name")
	}
	if req.Kind != homeward.ViewReadOnly && req.Kind != homeward.ViewScratch {
		return homeward.View{}, homeward.Errorf(op, homeward.Invalid, fmt.Sprintf("kind %q", req.Kind),
			"use read-only or scratch; FailOver makes a durable one", "not a kind of view that can be opened")
	}
	st, err := it.open(op)
	if err != nil {
		return homeward.View{}, err
	}
	if v := it.view(req.Name); v != nil {
		if v.Kind != req.Kind || !req.Point.IsZero() && v.Point.Position != req.Point {
			return homeward.View{}, homeward.Errorf(op, homeward.Exists, req.Name, "close it first, or use another name", "it is open with another point or kind")
		}
		return it.reportView(v), nil
	}
	p, held, err := it.hold(op, req.Point, viewPin+req.Name)
	if err != nil {
		return homeward.View{}, err
	}
	v := &view{boundary: p.boundary, pin: held, View: homeward.View{
		Item: it.id, Name: req.Name, Kind: req.Kind, Generation: it.fence.generation(), Point: p.Point,
	}}
	if err := it.serve(ctx, v, st, nil); err != nil {
		return homeward.View{}, homeward.Wrap(err, op, req.Name)
	}
	return it.reportView(v), nil
}

// serve builds the disks of a view, exports them and enters the view. stores are
// the durable overlays of a failover. On error nothing is left of it.
func (it stage) serve(ctx context.Context, v *view, st state, stores []*overlay.Store) error {
	v.stores = stores
	t, err := it.tipAt(st, v.boundary)
	if err == nil {
		v.Machine = t.Machine
		err = it.buildDisks(v, st.replica)
	}
	for i := 0; err == nil && i < len(v.disks); i++ {
		err = it.export(v, i)
	}
	if err != nil {
		return errors.Join(err, it.dismantle(ctx, v))
	}
	it.change(func() { it.views[v.Name] = v })
	return nil
}

func (it stage) buildDisks(v *view, r *replica) error {
	points := r.pointDisks(v.Machine, v.boundary)
	if v.Kind == homeward.ViewScratch {
		if err := it.FS.MkdirAll(it.path("scratch"), 0o700); err != nil {
			return err
		}
		for i, p := range points {
			s, err := overlay.Scratch(it.FS, fmt.Sprintf("%s.%d", it.path("scratch/"+v.Name), i), p.Size())
			if err != nil {
				return err
			}
			v.stores = append(v.stores, s)
		}
	}
	for i, p := range points {
		if v.Kind == homeward.ViewReadOnly {
			v.disks = append(v.disks, p)
		} else {
			v.disks = append(v.disks, overlay.NewDisk(p, v.stores[i]))
		}
	}
	return nil
}

// export adds one disk to the NBD server. A name is never used twice, so that no
// client of an earlier view can come back to this one (I-6): it carries the
// generation, and a number where a view of the generation was closed before.
func (it stage) export(v *view, disk int) error {
	name := fmt.Sprintf("%s.%s.%s.%d", it.id, v.Machine.Disks[disk].ID, v.Name, v.Generation.Number)
	for again := 1; ; again++ {
		e := nbd.Export{
			Name: name, Disk: v.disks[disk],
			ReadOnly:    v.Kind == homeward.ViewReadOnly,
			MultiConn:   v.Kind == homeward.ViewReadOnly,
			Exclusive:   v.Kind == homeward.ViewDurable,
			Description: fmt.Sprintf("%s disk %s at %s", it.id, v.Machine.Disks[disk].ID, v.Point.At.Format("2006-01-02 15:04:05Z")),
		}
		if again > 1 {
			e.Name = fmt.Sprintf("%s.%d", name, again)
		}
		err := it.NBD.Add(e)
		if homeward.KindOf(err) == homeward.Fenced {
			continue
		}
		if err == nil {
			v.exports = append(v.exports, e.Name)
			v.Disks = append(v.Disks, homeward.ViewDisk{Disk: v.Machine.Disks[disk].ID, URI: it.URI(e.Name)})
		}
		return err
	}
}

// dismantle withdraws a view's exports, then closes what was behind them. The
// overlay of a scratch view is gone with it, a durable one stays.
func (it *item) dismantle(ctx context.Context, v *view) error {
	for _, name := range v.exports {
		if err := it.NBD.Withdraw(ctx, name, true); err != nil {
			return err // a request may still be on the disk: nothing behind it may be closed
		}
	}
	v.exports = nil
	it.pins.release(v.pin)
	var errs []error
	for _, s := range v.stores {
		if v.Kind == homeward.ViewScratch {
			errs = append(errs, s.Drop())
		} else {
			errs = append(errs, s.Close())
		}
	}
	it.change(func() { v.stores = nil })
	return errors.Join(errs...)
}

func (it *item) view(name string) *view {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.views[name]
}

// closeViews closes the views that are asked for. One that cannot be closed stays.
func (it *item) closeViews(ctx context.Context, which func(*view) bool) error {
	it.mu.Lock()
	var list []*view
	for _, v := range it.views {
		if which(v) {
			list = append(list, v)
		}
	}
	it.mu.Unlock()
	var errs []error
	for _, v := range list {
		if err := it.dismantle(ctx, v); err != nil {
			errs = append(errs, homeward.Wrap(err, "close view", v.Name))
			continue
		}
		it.change(func() { delete(it.views, v.Name) })
	}
	return errors.Join(errs...)
}
