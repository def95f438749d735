package mastertarget

import (
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/mastertarget/history"
)

// point is a recovery point with its place in the chain.
type point struct {
	homeward.Point
	boundary uint64
}

// points lists what can be served, oldest first: bootable marks, and boundaries
// that a pin keeps. While a point is being promoted, and once it is, newer ones
// are gone: the promotion overwrites what they rest on.
func (it *item) points() []point {
	st := it.state()
	if st.replica == nil || st.PastLost != "" {
		return nil
	}
	limit := st.tip.Boundary
	if st.State == homeward.ReplicaPromoting || st.State == homeward.ReplicaPromoted {
		limit = st.FailOver.Tip.Boundary
	}
	var list []point
	bytes := int64(0) // since the last point
	for _, s := range st.replica.chain.Segments() {
		if s.Older > limit || s.Newer > st.tip.Boundary {
			break
		}
		list, bytes = it.listed(list, bytes, tip{Boundary: s.Older, Position: s.Position, Mark: s.Mark, At: s.At})
		bytes += s.Bytes
	}
	if limit == st.tip.Boundary {
		list, bytes = it.listed(list, bytes, st.tip)
	}
	if n := len(list); n > 0 {
		list[n-1].UndoBytes = bytes
		list[n-1].Latest = true
	}
	return list
}

// listed adds a boundary if it is a point; bytes is the undo since the last one.
func (it *item) listed(list []point, bytes int64, t tip) ([]point, int64) {
	// A digest tree pins whatever it is of; that makes no point of it.
	pins := slices.DeleteFunc(it.pins.on(t.Boundary), func(name string) bool { return name == digestPin })
	if !t.Mark.Kind.Bootable() && len(pins) == 0 || t.Boundary == 0 {
		return list, bytes
	}
	if n := len(list); n > 0 {
		list[n-1].UndoBytes = bytes
	}
	p := homeward.Point{Position: t.Position, Mark: t.Mark, At: t.At, Pins: pins}
	return append(list, point{p, t.Boundary}), 0
}

// find is the point at a position; zero: the newest bootable one.
func (it *item) find(op string, at homeward.Position) (point, error) {
	list := it.points()
	for _, p := range slices.Backward(list) {
		if p.Position == at || at.IsZero() && p.Mark.Kind.Bootable() {
			return p, nil
		}
	}
	if at.IsZero() {
		return point{}, homeward.Errorf(op, homeward.NotFound, it.subject(), "wait until the first bootable point has arrived", "it has no bootable point")
	}
	return point{}, homeward.Errorf(op, homeward.NotFound, at.String(), "choose one from the list of points", "no such point of %s", it.id)
}

// tipAt is the position record as it was at a boundary of the chain.
func (it *item) tipAt(st state, boundary uint64) (tip, error) {
	if boundary == st.tip.Boundary {
		return st.tip, nil
	}
	s, err := st.replica.segmentAt(boundary)
	if err != nil {
		return tip{}, err
	}
	m, err := s.Machine()
	return tip{Boundary: s.Older, Position: s.Position, Mark: s.Mark, At: s.At, Machine: m}, err
}

// segmentAt is the segment whose older end is a boundary.
func (r *replica) segmentAt(boundary uint64) (*history.Segment, error) {
	for _, s := range r.chain.Segments() {
		if s.Older == boundary {
			return s, nil
		}
	}
	if len(r.lost) > 0 {
		return nil, homeward.Errorf("find point", homeward.Corrupt, "",
			"choose a newer point, or restore the file from a copy", "the history that leads to it is damaged: %s", r.lost[0])
	}
	return nil, homeward.Errorf("find point", homeward.NotFound, "", "list the points again", "the point was thinned away")
}

// hold finds a point and holds it, for as long as the process lives, before
// anybody can thin it away: it is looked up again once it is held.
func (it *item) hold(op string, at homeward.Position, name string) (point, pin, error) {
	p, err := it.find(op, at)
	if err != nil {
		return p, pin{}, err
	}
	n := pin{Boundary: p.boundary, Position: p.Position, Name: name}
	it.pins.hold(n)
	if _, err := it.tipAt(it.state(), p.boundary); err != nil {
		it.pins.release(n)
		return p, pin{}, err
	}
	return p, n, nil
}
