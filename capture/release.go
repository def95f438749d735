package capture

import (
	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// generation are spooled cuts that share one map per disk. Two are enough: while
// the older one waits to be applied, everything newer gathers in the other, and
// when it is applied the other takes its place.
type generation struct {
	cuts  []*Cut // not applied yet, oldest first
	epoch uint64 // of its newest cut
	used  bool   // its maps may have bits
}

func (g *generation) add(c *Cut) {
	g.cuts = append(g.cuts, c)
	g.epoch, g.used = c.epoch, true
}

// Spooled is the first step of the release: all content is durable at the next
// hop, so protection ends and another cut can be made. The bits stay, unapplied.
// ErrDemoted when the cut was given up before; no error when it was spooled already.
func (c *Cut) Spooled() error {
	m := c.m
	m.release.Lock()
	defer m.release.Unlock()
	return m.spooled(c)
}

func (m *Machine) spooled(c *Cut) error {
	c.mu.Lock()
	switch c.state {
	case cutFrozen:
	case cutLeaving, cutDemoted:
		defer c.mu.Unlock()
		return c.err
	case cutReturned:
		defer c.mu.Unlock()
		return homeward.Errorf("release cut", homeward.Conflict, c.ID.String(), "", "its blocks are shipped anew: %w", ErrReleased)
	default:
		c.mu.Unlock()
		return nil
	}
	c.state = cutSpooled
	empty := c.empty()
	if empty { // nothing of it waits to be applied, nor may the blocks of cuts before it wait for that
		c.state = cutApplied
	}
	close(c.over)
	c.mu.Unlock()
	m.frozen.CompareAndSwap(c, nil)
	switch {
	case empty:
		m.close(func(*disk) {})
	case !m.older.used:
		m.older.add(c)
		m.close(func(d *disk) { d.frozen, d.older = d.older, d.frozen })
	case !m.newer.used:
		m.newer.add(c)
		m.close(func(d *disk) { d.frozen, d.newer = d.newer, d.frozen })
	default:
		m.newer.add(c)
		for _, d := range m.disks {
			d.newer.or(d.frozen) // only m.release moves them
		}
		m.close(func(*disk) {})
	}
	c.copies.close()
	return nil
}

// empty reports whether the cut froze no changed block. The caller holds c.mu and
// knows that the cut is frozen.
func (c *Cut) empty() bool {
	for _, b := range c.frozen {
		if !b.empty() {
			return false
		}
	}
	return true
}

// Applied is the second step: the other copy acknowledged a position that covers
// the cut. Its bits leave the maps as soon as all cuts of its generation are
// applied and the disks were flushed since (I-4); Applied flushes them if the
// guest did not. Cuts are applied in order: Conflict otherwise. One without blocks
// is in no generation: that it is applied changes nothing. When a flush fails
// the cut counts as applied, its bits stay, and the error says so.
func (c *Cut) Applied() error {
	m := c.m
	m.applying.Lock()
	defer m.applying.Unlock()
	whole, err := m.applied(c)
	if err != nil || !whole {
		return err
	}
	for _, d := range m.disks {
		if d.flushed.Load() > m.older.epoch { // guarded by applying: only here it changes hands
			continue
		}
		if err := d.flush(); err != nil {
			return homeward.Errorf("clear applied blocks", homeward.KindOf(err), d.name(),
				"replace the medium; the blocks stay dirty meanwhile", "%w", err)
		}
	}
	m.release.Lock()
	defer m.release.Unlock()
	if len(m.older.cuts) == 0 && m.older.used {
		m.forget()
	}
	return nil
}

// applied notes that c is, and tells whether all of the older generation is.
func (m *Machine) applied(c *Cut) (whole bool, err error) {
	m.release.Lock()
	defer m.release.Unlock()
	if err := m.ending(); err != nil {
		return false, homeward.Wrap(err, "release cut", c.ID.String())
	}
	if err := m.spooled(c); err != nil {
		return false, err
	}
	g := &m.older
	if len(g.cuts) == 0 {
		g = &m.newer // the older one waits for a flush that failed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == cutApplied {
		return len(m.older.cuts) == 0 && m.older.used, nil
	}
	if len(g.cuts) == 0 || g.cuts[0] != c {
		return false, homeward.Errorf("release cut", homeward.Conflict, c.ID.String(), "report cuts as applied in their order",
			"an earlier cut is not applied yet")
	}
	c.state = cutApplied
	g.cuts = g.cuts[1:]
	return len(m.older.cuts) == 0, nil
}

// forget clears the older generation's maps and puts the newer one in its place.
// The caller holds m.release.
func (m *Machine) forget() {
	m.roles.Lock()
	for _, d := range m.disks {
		d.older, d.newer = d.newer, d.older
	}
	m.older, m.newer = m.newer, generation{}
	m.roles.Unlock()
	for _, d := range m.disks { // in use by nobody else before the next Spooled
		d.keep.outdate(changedMap, d.newer, d.newer.clear)
	}
}

// Unapplied is the set of blocks of spooled cuts that are not known to be applied.
func (m *Machine) Unapplied(n int) *block.Map {
	return m.collect(m.disks[n], func(d *disk) []*bitmap { return []*bitmap{d.older, d.newer} })
}

// Reship puts everything unapplied back into the active maps: the next hop lost
// what it had spooled. The cuts it belonged to are over: ErrReleased. A frozen cut
// is not touched.
func (m *Machine) Reship() error {
	m.applying.Lock()
	defer m.applying.Unlock()
	m.release.Lock()
	defer m.release.Unlock()
	if err := m.ending(); err != nil {
		return homeward.Wrap(err, "ship again", "")
	}
	m.cutting.Lock() // no cut swaps the active maps meanwhile
	for _, d := range m.disks {
		d.active.Load().or(d.older)
		d.active.Load().or(d.newer)
	}
	m.cutting.Unlock()
	for _, d := range m.disks {
		d.older.clear()
		d.newer.clear()
	}
	for _, c := range append(m.older.cuts, m.newer.cuts...) {
		c.mu.Lock()
		c.state = cutReturned
		c.mu.Unlock()
	}
	m.older, m.newer = generation{}, generation{}
	return nil
}
