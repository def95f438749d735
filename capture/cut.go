package capture

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// cutState is where a cut stands; it only moves down this list.
type cutState int

const (
	cutFrozen   cutState = iota // content readable, blocks protected
	cutLeaving                  // being given up: unreadable, its blocks are on their way back
	cutDemoted                  // its blocks are active again
	cutSpooled                  // content durable at the next hop; blocks unapplied
	cutApplied                  // over
	cutReturned                 // by Reship: its blocks are active again
)

// Cut is the state of all disks of the machine at one instant. Methods may be
// called concurrently.
type Cut struct {
	ID    homeward.ID   // random, of this attempt
	At    time.Time     // the instant, UTC
	Hold  time.Duration // how long writes were held for it
	Whole bool          // the whole content is frozen
	Late  int           // writes in flight that the hold did not wait for

	m      *Machine
	epoch  uint64    // in which its writes were counted
	frozen []*bitmap // by disk; in use by others once the cut is released
	maps   []*block.Map
	mapped []sync.Once
	late   *late
	copies *copies

	mu    sync.Mutex
	state cutState
	err   error
	over  chan struct{} // closed when frozen content is no more
	done  chan struct{} // closed when demoted
}

func (m *Machine) newCut(o CutOptions) *Cut {
	c := &Cut{
		ID: homeward.NewID(), Whole: o.Whole, m: m, late: newLate(), copies: newCopies(m),
		frozen: make([]*bitmap, len(m.disks)), maps: make([]*block.Map, len(m.disks)), mapped: make([]sync.Once, len(m.disks)),
		over: make(chan struct{}), done: make(chan struct{}),
	}
	return c
}

// Cut freezes the changed blocks of all disks at one instant: it holds new
// writes, waits for those in flight until the hold deadline, and swaps the maps.
// Errors: ErrCutOpen (Conflict) while another cut is frozen, ErrHeld (Busy) while
// a group holds the machine, ErrHandedOver, ErrClosed, and those of ctx.
func (m *Machine) Cut(ctx context.Context, o CutOptions) (*Cut, error) {
	m.cutting.Lock()
	defer m.cutting.Unlock()
	if m.hold != nil {
		return nil, homeward.Errorf("cut", homeward.Busy, "", "wait for the group's cut", "%w", ErrHeld)
	}
	if err := m.canCut(); err != nil {
		return nil, err
	}
	c := m.newCut(o)
	began := time.Now()
	m.gate.close()
	deadline := time.NewTimer(m.cfg.HoldDeadline)
	defer deadline.Stop()
	m.gate.drain(ctx, deadline.C)
	if err := ctx.Err(); err != nil {
		m.gate.open(nil)
		return nil, homeward.Wrap(err, "cut", "")
	}
	m.freeze(c)
	m.gate.open(nil)
	c.Hold = time.Since(began)
	m.holds.add(c.Hold)
	return c, nil
}

func (m *Machine) canCut() error {
	if err := m.ending(); err != nil {
		return homeward.Wrap(err, "cut", "")
	}
	m.roles.RLock()
	defer m.roles.RUnlock()
	if m.open != nil {
		return homeward.Errorf("cut", homeward.Conflict, "", "release the open cut first", "%w", ErrCutOpen)
	}
	return nil
}

// freeze swaps the maps. The gate is closed.
func (m *Machine) freeze(c *Cut) {
	m.roles.Lock()
	for i, d := range m.disks {
		c.frozen[i] = d.active.Load()
		d.active.Store(d.frozen) // empty since the cut before was released
		d.frozen = c.frozen[i]
	}
	m.open = c
	m.roles.Unlock()
	m.gate.overdue(c.late)
	c.Late = int(c.late.left.Load())
	c.epoch = m.epoch.Add(1) - 1
	c.At = m.cfg.Now().UTC()
	m.frozen.Store(c)
}

// Map is the set of changed blocks of a disk at the cut, a copy that stays valid
// after the release. Taken only after the release it is all blocks: nobody knows.
func (c *Cut) Map(disk int) *block.Map {
	c.mapped[disk].Do(func() {
		d := c.m.disks[disk]
		c.maps[disk] = block.NewMap(d.blocks)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.state == cutFrozen {
			c.frozen[disk].addTo(c.maps[disk])
		} else {
			c.maps[disk].Set(0, d.blocks)
		}
	})
	return c.maps[disk]
}

// protect saves what a write of the next epoch is about to overwrite. It never
// fails: what cannot be saved gives the cut up.
func (c *Cut) protect(d *disk, start, count int64) {
	select {
	case <-c.over:
		return
	default:
	}
	c.late.wait(d, start, count, c.over)
	err := regions(start, count, func(at, n int64) error {
		if c.Whole {
			return c.copies.save(d, at, n, nil)
		}
		if !c.frozen[d.index].hasAny(at, n) {
			return nil
		}
		return c.copies.save(d, at, n, c.frozen[d.index])
	})
	if err != nil {
		c.giveUp(err)
	}
}

// ReadBlocks reads frozen content into p, which has room for count blocks (the
// disk's last block may be partial). It waits for writes in flight at the cut
// that touch the blocks. What it returns is never newer than the cut: blocks
// neither in Map nor, with Whole, of the disk are Invalid, shipped ones Conflict
// (ErrReleased). ErrDemoted when the cut was given up.
func (c *Cut) ReadBlocks(disk int, start, count int64, p []byte) error {
	d := c.m.disks[disk]
	if start < 0 || count < 0 || count > d.blocks-start || int64(len(p)) < min(count*block.Size, d.size-start*block.Size) {
		return homeward.Errorf("read frozen content", homeward.Invalid, d.name(), "stay within the disk, with room for the blocks",
			"%d blocks at %d into %d bytes", count, start, len(p))
	}
	if !c.Whole && !c.frozen[disk].hasAll(start, count) && c.Err() == nil {
		return homeward.Errorf("read frozen content", homeward.Invalid, d.name(), "read the blocks of its map",
			"not all of %d blocks at %d are frozen", count, start)
	}
	err := regions(start, count, func(at, n int64) error {
		c.late.wait(d, at, n, c.over)
		from := (at - start) * block.Size
		part := p[from:min(from+n*block.Size, d.size-start*block.Size)]
		if _, err := d.dev.ReadAt(part, at*block.Size); err != nil {
			return homeward.Wrap(err, "read frozen content", d.name())
		}
		return c.copies.overlay(d, at, n, part) // after the read: see save
	})
	if given := c.Err(); given != nil {
		return given
	}
	return err
}

// Shipped ends the protection of blocks whose content is durable at the next hop,
// and frees their saved copies. They cannot be read again; their bits stay.
func (c *Cut) Shipped(disk int, start, count int64) {
	_ = regions(start, count, func(at, n int64) error { // its function cannot fail
		c.copies.release(disk, at, n)
		return nil
	})
}

// Done is closed when the cut was demoted, by the engine or by Demote: then its
// blocks are dirty again and another cut can be made.
func (c *Cut) Done() <-chan struct{} { return c.done }

// Err tells why frozen content cannot be read any more: ErrDemoted, ErrReleased;
// nil while it can.
func (c *Cut) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case cutFrozen:
		return nil
	case cutLeaving, cutDemoted:
		return c.err
	}
	return homeward.Errorf("use cut", homeward.Conflict, c.ID.String(), "", "%w", ErrReleased)
}

// giveUp begins to demote: protection ends at once, so that a guest's write goes
// on; the bits go back behind it. They are in the frozen map, which is as durable,
// until they are in the active one.
func (c *Cut) giveUp(cause error) {
	if !errors.Is(cause, ErrDemoted) {
		cause = errors.Join(ErrDemoted, cause)
	}
	c.mu.Lock()
	if c.state != cutFrozen {
		c.mu.Unlock()
		return
	}
	c.state = cutLeaving
	c.err = homeward.Wrap(cause, "keep cut", c.ID.String())
	close(c.over)
	c.mu.Unlock()
	c.m.frozen.CompareAndSwap(c, nil)
	c.m.demotions.Add(1)
	c.m.work.Go(func() {
		for i, d := range c.m.disks {
			d.active.Load().or(c.frozen[i]) // no cut swaps it: this one is still open
		}
		c.m.close(func(*disk) {})
		c.copies.close()
		c.mu.Lock()
		c.state = cutDemoted
		c.mu.Unlock()
		close(c.done)
	})
}

// close ends a cut's being open: take moves the frozen map of each disk on, what
// is left of it is cleared.
func (m *Machine) close(take func(d *disk)) {
	m.roles.Lock()
	for _, d := range m.disks {
		take(d)
	}
	m.roles.Unlock()
	for _, d := range m.disks { // no cut takes it while one is open
		d.frozen.clear()
	}
	m.roles.Lock()
	m.open = nil
	m.roles.Unlock()
}

// Demote gives the cut up: its blocks are dirty again when it returns. No error
// when that happened already; ErrReleased after Spooled.
func (c *Cut) Demote() error {
	c.giveUp(homeward.Errorf("demote", homeward.Canceled, c.ID.String(), "", "%w", ErrDemoted))
	if err := c.Err(); !errors.Is(err, ErrDemoted) {
		return err
	}
	<-c.done
	return nil
}
