package processserver

import (
	"path/filepath"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

type incarnationRecord struct {
	ID homeward.ID `json:"id"`
}

// load reads the directory. A spool that lost acknowledged deltas, or is new, gets
// a new incarnation.
func (s *Server) load() error {
	fsys := s.cfg.FS
	if err := durable.SweepTemps(fsys, s.cfg.Dir); err != nil {
		return err
	}
	limits := filepath.Join(s.cfg.Dir, "limits.json")
	if err := durable.ReadJSON(fsys, limits, &s.limits); err != nil && homeward.KindOf(err) != homeward.NotFound {
		return err
	}
	items, err := fsys.ReadDir(filepath.Join(s.cfg.Dir, "items"))
	if err != nil {
		return err
	}
	whole := true
	for _, d := range items {
		kept, err := s.loadRoute(homeward.ItemID(d.Name()))
		if err != nil {
			return err
		}
		whole = whole && kept
	}
	file := filepath.Join(s.cfg.Dir, "incarnation.json")
	var rec incarnationRecord
	err = durable.ReadJSON(fsys, file, &rec)
	switch kind := homeward.KindOf(err); {
	case err == nil && whole:
		s.incarnation = rec.ID
		return nil
	case err != nil && kind != homeward.NotFound && kind != homeward.Corrupt:
		return err
	}
	rec.ID = homeward.NewID()
	s.incarnation = rec.ID
	return durable.WriteJSON(fsys, file, rec)
}

// loadRoute reads one item; kept is false when something that may have been
// acknowledged is lost.
func (s *Server) loadRoute(item homeward.ItemID) (kept bool, err error) {
	rec := record{Item: item}
	r := newRoute(s, rec)
	if err := durable.SweepTemps(s.cfg.FS, r.dir()); err != nil {
		return false, err
	}
	list, err := s.cfg.FS.ReadDir(r.dir())
	if err != nil {
		return false, err
	}
	err = durable.ReadJSON(s.cfg.FS, r.file(), &rec)
	if homeward.KindOf(err) == homeward.NotFound && len(list) == 0 {
		return true, nil // a crash came between making the directory and the route
	}
	if err != nil {
		return false, err
	}
	if rec.Item != item {
		return false, homeward.Errorf("load route", homeward.Corrupt, r.file(), "put the directory back under its item's name", "it is of item %s", rec.Item)
	}
	r = newRoute(s, rec)
	kept, err = r.loadQueue()
	if err != nil {
		return false, err
	}
	if err := r.line.Fence(rec.Generation); err != nil {
		return false, err
	}
	for _, e := range r.queue {
		r.line.Recall(e.position)
	}
	r.restLine()
	s.routes[item] = r
	if rec.Target != "" {
		s.budget.enter(r, rec.Share)
	}
	return kept, nil
}

// loadQueue rebuilds the queue from the files: the newest chain. What stands
// before a gap was applied, and only its removal got lost in a crash: files become
// durable in order, and those given up are removed durably.
func (r *route) loadQueue() (kept bool, err error) {
	files, err := r.server.cfg.FS.ReadDir(r.dir())
	if err != nil {
		return false, err
	}
	kept = true
	for _, f := range files { // by sequence
		if !strings.HasSuffix(f.Name(), ".delta") {
			continue
		}
		path := filepath.Join(r.dir(), f.Name())
		e, err := loadEntry(r.server, r.item, path)
		bad := homeward.KindOf(err) == homeward.Corrupt || homeward.KindOf(err) == homeward.Unsupported
		if err != nil && !bad {
			return false, err // unknown is never absent
		}
		if bad || r.record.Target == "" || e.to.Generation != r.record.Generation {
			if bad {
				r.server.cfg.Log.Warn("a spooled delta is damaged and dropped", "item", r.item, "error", err)
				kept = false
			}
			if err := durable.Remove(r.server.cfg.FS, path); err != nil {
				return false, err
			}
			continue
		}
		if n := len(r.queue); n > 0 && r.queue[n-1].position != e.follows {
			for len(r.queue) > 0 {
				r.remove(0, true, nil)
			}
		}
		e.bulk, r.open = r.open, e.mark.Kind == homeward.MarkNone
		r.queue = append(r.queue, e)
		r.server.budget.add(r, e.size)
	}
	return kept, nil
}
