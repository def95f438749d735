package processserver

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/ship"
)

// Prepare is homeward.ProcessServer's. A newer generation than the one in force
// drops what is spooled for the older one; the same one changes the route.
func (s *Server) Prepare(ctx context.Context, req homeward.RouteRequest) (homeward.RouteReport, error) {
	if err := s.validateRoute(req); err != nil {
		return homeward.RouteReport{}, err
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return homeward.RouteReport{}, err
	}
	defer end()
	r, err := s.change(req.Item, req.Generation, func(rec *record) {
		rec.Target, rec.Agent, rec.Compression, rec.Share = req.Target, req.Agent, req.Compression, req.Share
		rec.Weight = req.Weight
	})
	if err != nil {
		return homeward.RouteReport{}, err
	}
	return r.report(), ctx.Err()
}

func (s *Server) validateRoute(req homeward.RouteRequest) error {
	bad := func(field, fix string, value any) error {
		return homeward.Errorf("prepare route", homeward.Invalid, field, fix, "%v", value)
	}
	if err := req.Item.Validate(); err != nil {
		return err
	}
	switch req.Compression {
	case "", "auto", "none", "s2", "zstd":
	default:
		return bad("compression", `give "auto", "none", "s2" or "zstd"`, req.Compression)
	}
	u, err := url.Parse(req.Target)
	switch {
	case req.Generation.IsZero():
		return bad("generation", "give the item's generation", req.Generation)
	case err != nil || u.Host == "":
		return bad("target", "give the URL of the master target, https://host:port", strconv.Quote(req.Target))
	case req.Share < 0 || req.Share > s.cfg.SpoolBytes:
		return bad("share", "give 0, or at most the size of the spool", req.Share)
	case req.Weight < 0 || req.Weight > homeward.MaxWeight:
		return bad("weight", fmt.Sprintf("give 1 to %d, or 0 for %d", homeward.MaxWeight, homeward.DefaultWeight), req.Weight)
	}
	return nil
}

// SetGeneration is homeward.Fencer's: deltas of older generations are dropped and
// refused from now on, also when the item is not routed here.
func (s *Server) SetGeneration(ctx context.Context, req homeward.GenerationRequest) (homeward.Done, error) {
	return s.setGeneration(ctx, req, func(*record) {})
}

// Forget is homeward.ProcessServer's. The generation is remembered.
func (s *Server) Forget(ctx context.Context, req homeward.GenerationRequest) (homeward.Done, error) {
	return s.setGeneration(ctx, req, func(rec *record) { *rec = record{Item: rec.Item, Generation: rec.Generation} })
}

func (s *Server) setGeneration(ctx context.Context, req homeward.GenerationRequest, edit func(*record)) (homeward.Done, error) {
	if err := req.Item.Validate(); err != nil {
		return homeward.Done{}, err
	}
	if req.Generation.IsZero() {
		return homeward.Done{}, homeward.Errorf("set generation", homeward.Invalid, "generation", "give the item's generation", "it is zero")
	}
	_, end, err := s.begin(ctx)
	if err != nil {
		return homeward.Done{}, err
	}
	defer end()
	_, err = s.change(req.Item, req.Generation, edit)
	return homeward.Done{}, err
}

// change raises an item's generation and edits its record, durably.
func (s *Server) change(item homeward.ItemID, g homeward.Generation, edit func(*record)) (*route, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.routes[item]
	if r == nil {
		r = newRoute(s, record{Item: item})
		if err := s.cfg.FS.MkdirAll(r.dir(), 0o700); err != nil {
			return nil, homeward.Wrap(err, "make route", "item "+string(item))
		}
	}
	if err := r.change(g, edit); err != nil {
		return nil, err
	}
	s.connect(r)
	if s.routes[item] == nil {
		s.routes[item] = r
		s.loops.Go(func() { r.run(s.life) })
	}
	s.sweepUplinks()
	if rec := r.recorded(); rec.Target != "" {
		s.budget.enter(r, rec.Share)
	} else {
		s.budget.leave(r)
	}
	return r, nil
}

func (r *route) recorded() record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record
}

// change raises the generation and edits the record, as one durable step.
func (r *route) change(g homeward.Generation, edit func(*record)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.record
	if before.Generation.Fences(g) {
		return ship.FencedBy(r.item, before.Generation)
	}
	rec := before
	rec.Generation = g
	edit(&rec)
	if rec == before {
		return nil
	}
	newTarget := rec.Target != before.Target
	if rec.Generation != before.Generation || rec.Target == "" {
		r.plain, r.wire = 0, 0
	}
	if err := r.store(rec); err != nil {
		return err
	}
	if g != before.Generation {
		r.supersede(g)
	}
	if rec.Target == "" {
		r.dropFrom(0, notRouted(r.item))
	}
	if newTarget {
		for _, e := range r.queue {
			e.passed = false
			if e.cancel != nil {
				e.cancel()
			}
		}
		r.forgetTarget()
	}
	return nil
}

// Limit is homeward.ProcessServer's. An empty schedule lifts the cap.
func (s *Server) Limit(ctx context.Context, req homeward.LimitRequest) (homeward.Done, error) {
	if err := validateSchedule(req.Schedule); err != nil {
		return homeward.Done{}, err
	}
	_, end, err := s.begin(ctx)
	if err != nil {
		return homeward.Done{}, err
	}
	defer end()
	s.mu.Lock()
	defer s.mu.Unlock()
	limits := maps.Clone(s.limits)
	link := addressOf(req.Target)
	limits[link] = req.Schedule
	if len(req.Schedule) == 0 {
		delete(limits, link)
	}
	if err := durable.WriteJSON(s.cfg.FS, filepath.Join(s.cfg.Dir, "limits.json"), limits); err != nil {
		return homeward.Done{}, homeward.Wrap(err, "limit link", req.Target)
	}
	s.limits = limits
	return homeward.Done{}, nil
}

// Report is homeward.ProcessServer's.
func (s *Server) Report(_ context.Context, req homeward.ItemRequest) (homeward.RouteReport, error) {
	r, err := s.routed(req.Item)
	if err != nil {
		return homeward.RouteReport{}, err
	}
	return r.report(), nil
}

func (r *route) report() homeward.RouteReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := homeward.RouteReport{
		Item: r.item, Generation: r.record.Generation, Target: r.record.Target, Standing: r.standing(),
		PlainBytes: r.plain, WireBytes: r.wire, Weight: cmp.Or(r.record.Weight, homeward.DefaultWeight),
		SpoolBytes: r.server.budget.usedBy(r), SpoolLimit: r.server.budget.shareOf(r),
	}
	if r.fault != nil {
		rep.TargetError = r.fault.Error()
	}
	return rep
}
