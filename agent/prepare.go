package agent

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// checkCapture refuses a request that cannot be carried out, naming the field;
// it returns the request with what it leaves open filled in, and its first set.
func checkCapture(req homeward.CaptureRequest) (homeward.CaptureRequest, map[int]*block.Map, error) {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf("prepare capture", homeward.Invalid, field, fix, format, args...)
	}
	req.Policy = req.Policy.WithDefaults()
	if err := errors.Join(req.Machine.Validate(), req.Policy.Validate()); err != nil {
		return req, nil, err
	}
	if len(req.Disks) != len(req.Machine.Disks) {
		return req, nil, bad("disks", "give one reference for each disk of the machine",
			"%d references for %d disks", len(req.Disks), len(req.Machine.Disks))
	}
	for i, ref := range req.Disks {
		if ref == "" || slices.Contains(req.Disks[:i], ref) {
			return req, nil, bad(fmt.Sprintf("disks[%d]", i), "give each disk its own reference", "%q", ref)
		}
	}
	if req.Generation.Number == 0 || req.Generation.ID.IsZero() {
		return req, nil, bad("generation", "give the generation in force", "%v", req.Generation)
	}
	if u, err := url.Parse(req.Sink); req.Sink != "" && (err != nil || u.Host == "") {
		return req, nil, bad("sink", "give the URL of a process server, https://host:port, or none", "%q", req.Sink)
	}
	if req.InitialAll && len(req.Initial) > 0 {
		return req, nil, bad("initial", "give it or initial_all, not both", "both are set")
	}
	maps, err := mapsOf("initial", req.Initial, req.Machine)
	if err != nil {
		return req, nil, err
	}
	req.Initial = nil
	if req.Base.Generation != req.Generation { // as the replica computes it, see Position.Base
		req.Base = req.Base.Base(req.Generation)
	}
	return req, maps, nil
}

// prepare begins a leg, or finds it begun; with it.calls held.
func (it *item) prepare(ctx context.Context, req homeward.CaptureRequest, initial map[int]*block.Map) error {
	r := it.snapshot()
	running := r.live() && r.State != homeward.CaptureHandedOff
	switch {
	case r.InForce.Fences(req.Generation):
		return fencedBy(it.id, r.InForce)
	case running && r.Request.Generation == req.Generation:
		return it.adjust(ctx, r, req)
	case running && req.Live:
		return it.redirect(ctx, r, req, initial)
	case running:
		return homeward.Errorf("prepare capture", homeward.Conflict, string(it.id), "hand it over under the new generation first",
			"it captures under generation %d", r.Request.Generation.Number)
	case req.Live:
		return homeward.Errorf("prepare capture", homeward.Conflict, string(it.id), "leave live out", "no machine runs on its capture")
	case r.live():
		return it.renew(ctx, r, req, initial)
	}
	return it.begin(ctx, req, heritage{changed: initial})
}

// adjust is Prepare for a leg that is there: sink, policy, hosts and manifest may be
// other ones, the rest may not.
func (it *item) adjust(ctx context.Context, r record, req homeward.CaptureRequest) error {
	differ := func(field string) error {
		return homeward.Errorf("prepare capture", homeward.Exists, string(it.id)+" "+field,
			"hand it over and prepare it under a new generation", "it is captured with another %s", field)
	}
	sameDisk := func(a, b homeward.Disk) bool { return a.ID == b.ID && a.Size == b.Size }
	switch {
	case !slices.EqualFunc(r.Request.Machine.Disks, req.Machine.Disks, sameDisk):
		return differ("machine.disks")
	case !slices.Equal(r.Request.Disks, req.Disks):
		return differ("disks")
	case r.Request.Base != req.Base:
		return differ("base")
	}
	next := r.Request
	next.Sink, next.Policy, next.Machine, next.Hosts = req.Sink, req.Policy, req.Machine, req.Hosts
	if equalJSON(next, r.Request) {
		return nil
	}
	if err := it.amend(func(r *record) { r.Request = next }); err != nil {
		return err
	}
	it.halt()
	if it.freezer != nil {
		it.freezer.set(next.Policy.Freeze)
	}
	it.resume(ctx)
	it.start()
	return nil
}

// heritage is what a leg begins with.
type heritage struct {
	changed map[int]*block.Map
	suspect map[int]*block.Map
	reasons map[int][]string
}

// renew begins a leg at a side that was handed over, such as after a cancelled
// failover: what its map says stays in the map.
func (it *item) renew(ctx context.Context, r record, req homeward.CaptureRequest, initial map[int]*block.Map) error {
	it.halt()
	it.endProof()
	if err := it.reopen(ctx, r); err != nil {
		return err
	}
	for i, d := range req.Machine.Disks {
		if i >= len(it.disks) || d.Size != it.disks[i].Size() || len(req.Machine.Disks) != len(it.disks) {
			return homeward.Errorf("prepare capture", homeward.Invalid, "machine.disks", "release the item first",
				"its map is of other disks")
		}
	}
	h := heritage{changed: map[int]*block.Map{}, suspect: map[int]*block.Map{}, reasons: map[int][]string{}}
	trusted := it.leadsTo(req.Base, req.Generation)
	for i, d := range it.disks {
		h.changed[i], h.suspect[i], h.reasons[i] = it.changed(i), it.machine.Suspect(i), it.machine.Reasons(i)
		if initial[i] != nil {
			h.changed[i].Or(initial[i])
		}
		if !trusted {
			h.suspect[i] = fullMap(d.Size())
			h.reasons[i] = append(h.reasons[i], "the replica's position is not one this side knows")
		}
	}
	if err := it.shut(ctx); err != nil {
		it.start()
		return err
	}
	err := it.begin(ctx, req, h)
	if err != nil {
		it.start()
	}
	return err
}

// leadsTo reports whether base is a state the replica may have reached from here.
func (it *item) leadsTo(base homeward.Position, g homeward.Generation) bool {
	applied, pending := it.chain.stands()
	return slices.ContainsFunc(append(pending, applied), func(p homeward.Position) bool {
		return p == base || p.Base(g) == base
	})
}

// begin makes a new leg. Until its record is durable nothing has happened; then
// all that was asked for is in the map.
func (it *item) begin(ctx context.Context, req homeward.CaptureRequest, h heritage) (err error) {
	fsys, dir := it.host.cfg.FS, it.legDir(req.Generation)
	if err := errors.Join(it.sweep(), removeTree(fsys, dir), fsys.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, it.shut(ctx), it.sweep())
		}
	}()
	if err := createBacklog(fsys, dir, req.Machine.Disks); err != nil {
		return err
	}
	if err := it.open(ctx, record{Request: req}); err != nil {
		return err
	}
	if err := it.inherit(req, h); err != nil {
		return err
	}
	whole := !req.Incomplete
	for i := range it.disks {
		whole = whole && it.machine.SuspectBytes(i) == 0
	}
	it.host.cfg.Fault("prepared")
	err = it.amend(func(r *record) {
		*r = record{InForce: req.Generation, State: homeward.CaptureRunning, Request: req, Complete: whole}
	})
	if err != nil {
		return err
	}
	it.alarms.clear(alarmFenced, alarmUnknown, alarmElsewhere, alarmSuspect, alarmDisks)
	it.mu.Lock()
	it.confirmed = true // by whoever prepares it
	it.mu.Unlock()
	if err := it.sweep(); err != nil {
		it.host.cfg.Log.Warn("leftovers not removed", "item", it.id, "error", err)
	}
	it.resume(ctx)
	it.start()
	return nil
}

// inherit puts the first set into the map of a new leg.
func (it *item) inherit(req homeward.CaptureRequest, h heritage) error {
	for i, d := range it.disks {
		m := h.changed[i]
		if m == nil && req.InitialAll {
			m = block.NewMap(block.BlocksOf(d.Size()))
		}
		if req.InitialAll {
			for e, err := range block.Extents(d, 0, d.Size()) {
				if err != nil {
					return homeward.Wrap(err, "find data", string(req.Machine.Disks[i].ID))
				}
				if !e.Zero {
					m.SetBytes(e.Off, e.Len)
				}
			}
		}
		if m != nil {
			if err := it.machine.Mark(i, m); err != nil {
				return err
			}
		}
		if s := h.suspect[i]; s != nil && s.Count() > 0 {
			for _, why := range h.reasons[i] {
				if err := it.machine.AddSuspect(i, s, why); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
