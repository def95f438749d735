package world

import "testing"

// lived is a timeline of one disk of four sectors, zero at first.
func lived(t *testing.T) *Timeline {
	t.Helper()
	tl, err := newTimeline(&Clock{}, [][]byte{make([]byte, 4*SectorSize)})
	if err != nil {
		t.Fatal(err)
	}
	return tl
}

func state(writes ...uint64) [][]byte {
	p := make([]byte, len(writes)*SectorSize)
	for s, w := range writes {
		if w != 0 {
			fillSector(p[s*SectorSize:], w, 0, int64(s))
		}
	}
	return [][]byte{p}
}

func TestTimelinePrefixes(t *testing.T) {
	tl := lived(t)
	write := func(w uint64, first, count int64) { tl.begin(0, first, count, w); tl.finish(0, first, count) }
	write(1, 0, 2)
	write(2, 1, 2)
	write(0, 0, 1)
	write(3, 3, 1)
	tl.begin(0, 2, 2, 4) // in flight for good
	for _, c := range []struct {
		name string
		good bool
		is   [][]byte
	}{
		{"nothing", true, state(0, 0, 0, 0)},
		{"half of the first write, while it was in flight", true, state(1, 0, 0, 0)},
		{"the first", true, state(1, 1, 0, 0)},
		{"the second without the first", false, state(0, 0, 2, 0)},
		{"all but the second", false, state(0, 1, 0, 3)},
		{"all that ended", true, state(0, 2, 2, 3)},
		{"any sector in flight", true, state(0, 2, 4, 3)},
		{"all", true, state(0, 2, 4, 4)},
		{"in flight, but the one before it missing", false, state(0, 2, 4, 0)},
		{"something foreign", false, state(0, 2, 2, 9)},
	} {
		err := Between(always, never, tl.Observe(c.is))
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	now := tl.clock.Tick()
	if err := Between(now, now, tl.Observe(state(1, 1, 0, 0))); err == nil {
		t.Error("an older state passes for one of now")
	}
	if err := Between(now, now, tl.Observe(state(0, 2, 4, 3))); err != nil {
		t.Error(err)
	}
}

func TestTimelineSettles(t *testing.T) {
	tl := lived(t)
	tl.begin(0, 0, 1, 1)
	tl.finish(0, 0, 1)
	tl.flushed(0, tl.clock.Tick())
	tl.begin(0, 0, 1, 2)
	tl.finish(0, 0, 1)
	tl.begin(0, 1, 1, 3)
	if err := tl.settle(state(0, 0, 0, 0), true); err == nil {
		t.Error("a flushed write may be lost")
	}
	if err := tl.settle(state(1, 0, 0, 0), false); err == nil {
		t.Error("a write may be lost without a power loss")
	}
	if err := tl.settle(state(1, 3, 0, 0), true); err != nil {
		t.Error(err)
	}
	now := tl.clock.Tick()
	if err := Between(now, now, tl.Observe(state(1, 3, 0, 0))); err != nil {
		t.Error(err)
	}
	if err := Between(now, now, tl.Observe(state(2, 3, 0, 0))); err == nil {
		t.Error("what the power loss took is back")
	}
	if err := Between(always, now, tl.Observe(state(2, 0, 0, 0))); err != nil {
		t.Error(err)
	}
}
