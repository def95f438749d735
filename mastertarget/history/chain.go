package history

import (
	"errors"
	"slices"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// Layer holds older content of some blocks: a segment, or what an overlay keeps.
type Layer interface {
	// ReadBlocks calls fn for the blocks it holds of a range, ascending.
	ReadBlocks(disk int, start, count int64, fn func(start int64, data []byte) error) error
	// Map sets the blocks it holds.
	Map(disk int, m *block.Map) error
}

// Chain is the living chain of segments of one replica. Reading may go on while
// segments are published, merged and dropped: a reader keeps those it began with
// until it has finished, and only then do their files go. Publishing, merging and
// dropping are the caller's to serialise, merging excepted: one Merge may run
// beside Publish and DropOlder.
//
// A boundary that is held when it is looked up stays: whoever wants one first
// holds it and then looks whether it is there.
type Chain struct {
	fsys  durable.FS
	dir   string
	files *Files
	held  func(boundary uint64) bool

	mu       sync.Mutex
	segments []*Segment // oldest first, adjacent; the slice is replaced, never changed
	newest   uint64     // the boundary behind the newest segment
	highest  uint64     // the highest number a boundary had in this directory
	last     Layer      // behind the newest segment; see SetLast
}

// Segments lists the chain, oldest first. The slice must not be changed.
func (c *Chain) Segments() []*Segment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.segments
}

// Bytes is the room the chain takes.
func (c *Chain) Bytes() (n int64) {
	for _, s := range c.Segments() {
		n += s.Bytes
	}
	return n
}

// SetLast puts a layer between the newest segment and the replica: what a machine
// that writes to the replica itself has overwritten. Nil takes it away.
func (c *Chain) SetLast(l Layer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = l
}

// Next is the number for the next boundary. None is given twice, also when the
// replica was taken back and the boundaries that had them are gone: a file of
// theirs may still be read.
func (c *Chain) Next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.highest + 1
}

// Publish makes s the newest segment. It must be adjacent, and it must be called
// before the first of its blocks is overwritten in the replica.
func (c *Chain) Publish(s *Segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.segments = append(slices.Clone(c.segments), s)
	c.newest, c.highest = s.Newer, max(c.highest, s.Newer)
}

// Restart drops every segment, held or not: the replica holds something else from
// now on, a boundary of that number, to which nothing older connects.
func (c *Chain) Restart(boundary uint64) error {
	c.mu.Lock()
	c.newest, c.highest = boundary, max(c.highest, boundary)
	return c.drop(func(*Segment) bool { return true })
}

// DropOlder removes every segment that ends at the boundary or before it, as far
// as no held boundary needs it: no older point can be served afterwards.
func (c *Chain) DropOlder(boundary uint64) error {
	c.mu.Lock()
	for _, s := range c.segments {
		if c.held(s.Older) {
			boundary = min(boundary, s.Older)
		}
	}
	return c.drop(func(s *Segment) bool { return s.Newer <= boundary })
}

// DropNewer removes every segment that begins at the boundary or after it: the
// replica is at the boundary by other means. No Merge may be running.
func (c *Chain) DropNewer(boundary uint64) error {
	c.mu.Lock()
	c.newest = min(c.newest, boundary)
	return c.drop(func(s *Segment) bool { return s.Older >= boundary })
}

// drop is called with mu held and gives it up.
func (c *Chain) drop(which func(*Segment) bool) error {
	var gone, left []*Segment
	for _, s := range c.segments {
		if which(s) {
			gone = append(gone, s)
		} else {
			left = append(left, s)
		}
	}
	c.segments = left
	c.mu.Unlock()
	return c.retire(gone)
}

// retire removes the files of segments that are out of the chain, oldest first,
// so that a crash between leaves a shorter chain and not one with a gap. A file
// that somebody reads goes with its last reader.
func (c *Chain) retire(gone []*Segment) error {
	var free []*Segment
	c.mu.Lock()
	for _, s := range gone {
		s.retired = true
		if s.users == 0 {
			free = append(free, s)
		}
	}
	c.mu.Unlock()
	return c.remove(free)
}

func (c *Chain) remove(segments []*Segment) error {
	var errs []error
	for _, s := range segments {
		c.files.drop(s.path)
		errs = append(errs, durable.Remove(c.fsys, s.path))
	}
	return errors.Join(errs...)
}

// acquire gives the layers between boundary at and the replica, the one next to
// the boundary first. Of two that hold a block, the first is right. A boundary
// that the chain does not reach is Corrupt: what newer segments hold would be
// another state's content.
func (c *Chain) acquire(at uint64) (segments []*Segment, last Layer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.segments, func(s *Segment) bool { return s.Older == at })
	switch {
	case i < 0 && at == c.newest:
		return nil, c.last, nil
	case i < 0:
		return nil, nil, homeward.Errorf("read history", homeward.Corrupt, c.dir,
			"choose a newer point, or restore the damaged file from a copy", "no chain of segments leads to boundary %d", at)
	}
	segments = c.segments[i:]
	for _, s := range segments {
		s.users++
	}
	return segments, c.last, nil
}

func (c *Chain) release(segments []*Segment) {
	var free []*Segment
	c.mu.Lock()
	for _, s := range segments {
		if s.users--; s.users == 0 && s.retired {
			free = append(free, s)
		}
	}
	c.mu.Unlock()
	// A file that cannot be removed now is one that the next Load sweeps; the
	// reader whose call this is has no part in it.
	_ = c.remove(free)
}
