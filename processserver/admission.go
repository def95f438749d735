package processserver

import "github.com/homeward-dr/homeward"

// MaySend reports whether an agent of this name may send deltas of an item:
// Forbidden when the route is bound to another one. An item without a route is
// refused by Put itself.
func (s *Server) MaySend(item homeward.ItemID, name string) error {
	r, err := s.routed(item)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	if agent := r.recorded().Agent; agent != "" && agent != name {
		return homeward.Errorf("authorize", homeward.Forbidden, "item "+string(item),
			"send from "+agent+", or prepare the route to take its deltas from "+name, "its deltas come from %s, not from %s", agent, name)
	}
	return nil
}
