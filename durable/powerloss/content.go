package powerloss

import (
	"math/rand/v2"
)

const (
	pageSize   = 4096
	sectorSize = 512
	// maxVersions bounds what is remembered of a page between two syncs.
	maxVersions = 8
)

// page is 4 KiB of a file or disk. A nil version is all zero.
type page struct {
	current []byte   // what is read
	medium  [][]byte // versions that the medium may hold; [0] is the oldest
}

// content is bytes in a volatile cache above a medium. The caller locks.
type content struct {
	pages map[int64]*page
	dirty map[int64]*page // those whose current version the next sync makes durable
	size  int64
	sizes []int64 // sizes that the medium may have; [0] is the oldest
	// sizeDirty says that the next sync makes size durable.
	sizeDirty bool
}

func newContent() *content {
	return &content{pages: map[int64]*page{}, dirty: map[int64]*page{}, sizes: []int64{0}}
}

func (c *content) read(p []byte, off int64) {
	for len(p) > 0 {
		part := p[:min(len(p), pageSize-int(off%pageSize))]
		clear(part)
		if pg := c.pages[off/pageSize]; pg != nil && pg.current != nil {
			copy(part, pg.current[off%pageSize:])
		}
		p, off = p[len(part):], off+int64(len(part))
	}
}

// write changes the cache; data nil means n zero bytes.
func (c *content) write(data []byte, off, n int64) {
	for n > 0 {
		part := min(n, pageSize-off%pageSize)
		pg := c.pages[off/pageSize]
		if pg == nil {
			pg = &page{medium: [][]byte{nil}}
			c.pages[off/pageSize] = pg
		}
		var next []byte
		if data != nil || part < pageSize {
			next = make([]byte, pageSize)
			copy(next, pg.current)
			if data == nil {
				clear(next[off%pageSize : off%pageSize+part])
			} else {
				copy(next[off%pageSize:], data[:part])
				data = data[part:]
			}
		}
		pg.set(next)
		c.dirty[off/pageSize] = pg
		off, n = off+part, n-part
	}
}

func (pg *page) set(next []byte) {
	pg.current = next
	if len(pg.medium) == maxVersions { // forget one between the durable one and the last
		pg.medium = append(pg.medium[:maxVersions/2], pg.medium[maxVersions/2+1:]...)
	}
	pg.medium = append(pg.medium, next)
}

// grow makes the file at least size long; what lies beyond the end is zero already.
func (c *content) grow(size int64) {
	if size > c.size {
		c.setSize(size)
	}
}

// resize sets the size, and what is cut off reads as zero when it grows again.
func (c *content) resize(size int64) {
	if size < c.size {
		for n, pg := range c.pages {
			if keep := max(size-n*pageSize, 0); keep < pageSize && pg.current != nil {
				c.write(nil, n*pageSize+keep, pageSize-keep)
			}
		}
	}
	c.setSize(size)
}

func (c *content) setSize(size int64) {
	c.size, c.sizeDirty = size, true
	c.sizes = append(c.sizes, size)
	if len(c.sizes) > maxVersions {
		c.sizes = append(c.sizes[:1], c.sizes[2:]...)
	}
}

// sync makes durable what was written since the last sync, failed ones included.
func (c *content) sync() {
	for n, pg := range c.dirty {
		c.settle(n, pg)
	}
	if c.sizeDirty {
		c.sizes, c.sizeDirty = []int64{c.size}, false
	}
}

// syncRange is sync for the pages that n bytes at off touch.
func (c *content) syncRange(off, n int64) {
	for at := off / pageSize; at*pageSize < off+n; at++ {
		if pg := c.dirty[at]; pg != nil {
			c.settle(at, pg)
		}
	}
}

func (c *content) settle(n int64, pg *page) {
	pg.medium = [][]byte{pg.current}
	delete(c.dirty, n)
	if pg.current == nil {
		delete(c.pages, n)
	}
}

// failSync forgets that anything has to be synced: the medium stays undecided.
func (c *content) failSync() {
	clear(c.dirty)
	c.sizeDirty = false
}

// crash is what the medium holds after a power loss; both caches are empty.
func (c *content) crash(rng *rand.Rand) *content {
	after := newContent()
	after.size = c.sizes[rng.IntN(len(c.sizes))]
	after.sizes = []int64{after.size}
	for _, n := range sortedKeys(c.pages) {
		data := c.pages[n].crash(rng)
		if keep := after.size - n*pageSize; data != nil && keep < pageSize {
			if keep <= 0 {
				continue
			}
			data = append([]byte{}, data...)
			clear(data[keep:])
		}
		if data != nil {
			after.pages[n] = &page{current: data, medium: [][]byte{data}}
		}
	}
	return after
}

// crash picks the version of a page that the medium holds, or a torn mixture of two.
func (pg *page) crash(rng *rand.Rand) []byte {
	a, b := pg.medium[rng.IntN(len(pg.medium))], pg.medium[rng.IntN(len(pg.medium))]
	if len(pg.medium) == 1 || rng.IntN(2) == 0 {
		return a
	}
	torn := make([]byte, pageSize)
	for at := 0; at < pageSize; at += sectorSize {
		from := a
		if rng.IntN(2) == 0 {
			from = b
		}
		if from != nil {
			copy(torn[at:at+sectorSize], from[at:])
		}
	}
	return torn
}
