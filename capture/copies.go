package capture

import (
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

const (
	copyStripes  = 64
	regionBlocks = 256 // what one latch covers: 1 MiB
)

// copies are the saved blocks of one frozen cut. A block is protected until it is
// in released: then it was saved, shipped or given up.
type copies struct {
	m        *Machine
	stripes  [copyStripes]stripe
	released []*bitmap // by disk
}

// stripe is the latch of some regions. It is held from before the old content is
// read until it is saved, so no overwrite of the same block slips in between.
type stripe struct {
	mu    sync.Mutex
	over  bool               // the cut is: nothing is saved any more
	cache map[blockKey]int32 // pages of the pool
	spill map[blockKey]int64 // slots of the spill file; zeroSlot for a block of zeroes
}

type blockKey struct {
	disk  int
	block int64
}

func newCopies(m *Machine) *copies {
	c := &copies{m: m, released: make([]*bitmap, len(m.disks))}
	for i, d := range m.disks {
		c.released[i] = newBitmap(d.blocks)
	}
	return c
}

func (c *copies) stripe(disk int, at int64) *stripe {
	return &c.stripes[uint64(at/regionBlocks+int64(disk)*31)%copyStripes]
}

// regions calls do for each part of a range that one latch covers.
func regions(start, count int64, do func(at, n int64) error) error {
	for end := start + count; start < end; {
		n := min(regionBlocks-start%regionBlocks, end-start)
		if err := do(start, n); err != nil {
			return err
		}
		start += n
	}
	return nil
}

var regionBuffers = sync.Pool{New: func() any { return new([regionBlocks * block.Size]byte) }}

// save copies the old content of those blocks of a region that protects says and
// that are not released yet. The write that overwrites them comes after.
func (c *copies) save(d *disk, at, n int64, protects *bitmap) error {
	released := c.released[d.index]
	if released.hasAll(at, n) {
		return nil
	}
	st := c.stripe(d.index, at)
	st.mu.Lock()
	defer st.mu.Unlock()
	for end := at + n; at < end && !st.over; {
		run := int64(0)
		for at+run < end && (protects == nil || protects.has(at+run)) && !released.has(at+run) {
			run++
		}
		if run == 0 {
			at++
			continue
		}
		if err := c.saveRun(st, d, at, run); err != nil {
			return err
		}
		released.set(at, run)
		at += run
	}
	return nil
}

func (c *copies) saveRun(st *stripe, d *disk, at, run int64) error {
	whole := regionBuffers.Get().(*[regionBlocks * block.Size]byte)
	defer regionBuffers.Put(whole)
	buf := whole[:min(run*block.Size, d.size-at*block.Size)]
	if _, err := d.dev.ReadAt(buf, at*block.Size); err != nil {
		return homeward.Wrap(err, "save frozen content", d.name())
	}
	if st.cache == nil {
		st.cache, st.spill = map[blockKey]int32{}, map[blockKey]int64{}
	}
	for i := range run {
		old := buf[i*block.Size : min((i+1)*block.Size, int64(len(buf)))]
		key := blockKey{d.index, at + i}
		if block.IsZero(old) {
			st.spill[key] = zeroSlot
			continue
		}
		n, err := c.m.pool.put(old)
		if err != nil {
			return err
		}
		st.cache[key] = n
	}
	return nil
}

// overlay replaces, in p read from the disk just before, the blocks that were
// saved. Released ones without a copy are gone.
func (c *copies) overlay(d *disk, at, n int64, p []byte) error {
	type spilled struct{ slot, at int64 }
	var out []spilled
	st := c.stripe(d.index, at)
	st.mu.Lock()
	for i := range n {
		key := blockKey{d.index, at + i}
		to := p[i*block.Size : min((i+1)*block.Size, int64(len(p)))]
		if page, ok := st.cache[key]; ok {
			c.m.pool.get(page, to)
		} else if slot, ok := st.spill[key]; ok {
			out = append(out, spilled{slot, i})
		} else if c.released[d.index].has(at + i) {
			st.mu.Unlock()
			return homeward.Errorf("read frozen content", homeward.Conflict, d.name(), "", "block %d was shipped already: %w", at+i, ErrReleased)
		}
	}
	st.mu.Unlock()
	for _, s := range out {
		to := p[s.at*block.Size : min((s.at+1)*block.Size, int64(len(p)))]
		if err := c.m.pool.spill.read(s.slot, to); err != nil {
			return err
		}
	}
	return nil
}

// release ends the protection of a region and frees its copies.
func (c *copies) release(disk int, at, n int64) {
	st := c.stripe(disk, at)
	st.mu.Lock()
	defer st.mu.Unlock()
	c.released[disk].set(at, n)
	for i := range n {
		key := blockKey{disk, at + i}
		if page, ok := st.cache[key]; ok {
			delete(st.cache, key)
			c.m.pool.drop(page)
		}
		if slot, ok := st.spill[key]; ok {
			delete(st.spill, key)
			c.m.pool.spill.drop(slot)
		}
	}
}

// close ends all protection and frees everything.
func (c *copies) close() {
	for i := range c.stripes {
		st := &c.stripes[i]
		st.mu.Lock()
		st.over = true
		for _, page := range st.cache {
			c.m.pool.drop(page)
		}
		for _, slot := range st.spill {
			c.m.pool.spill.drop(slot)
		}
		st.cache, st.spill = nil, nil
		st.mu.Unlock()
	}
}
