package processserver

import (
	"cmp"
	"slices"

	"github.com/homeward-dr/homeward"
)

// Generations are those in force for every item this server was ever told of, also
// for those it has forgotten.
func (s *Server) Generations() map[homeward.ItemID]homeward.Generation {
	known := map[homeward.ItemID]homeward.Generation{}
	for _, r := range s.known() {
		r.mu.Lock()
		if g := r.record.Generation; !g.IsZero() {
			known[r.item] = g
		}
		r.mu.Unlock()
	}
	return known
}

// Alarms tell of the targets that do not take an item's deltas now.
func (s *Server) Alarms() (all []homeward.Alarm) {
	for _, r := range s.known() {
		r.mu.Lock()
		if r.fault != nil && r.record.Target != "" {
			all = append(all, homeward.Alarm{Code: "target-fault", Since: r.faulty, Remedy: homeward.RemedyOf(r.fault),
				Text: "item " + string(r.item) + ": " + r.fault.Error()})
		}
		r.mu.Unlock()
	}
	return all
}

// known are all routes, by item.
func (s *Server) known() []*route {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*route, 0, len(s.routes))
	for _, r := range s.routes {
		list = append(list, r)
	}
	slices.SortFunc(list, func(x, y *route) int { return cmp.Compare(x.item, y.item) })
	return list
}
