package capture

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/homeward-dr/homeward/block"
)

const (
	pageWords  = 512
	pageBlocks = pageWords * 64 // blocks of a page: 128 MiB of disk
	pageBytes  = pageWords * 8  // 4 KiB
	fullWord   = ^uint64(0)
)

// page is 4 KiB of a bitmap.
type page [pageWords]uint64

// bitmap is a set of blocks in pages that exist only where a bit was ever set:
// reading a mapped file of tmpfs would allot its holes, and one page a disk range
// of 128 MiB is what keeps five bitmaps of a TiB small. Concurrent use is fine;
// clear must not run beside set.
type bitmap struct {
	pages []atomic.Pointer[page]
	allot func(p int64) *page // memory for a page, all zero
	drop  func(p int64)       // gives it back
	mu    sync.Mutex          // of allotting
}

func pagesFor(blocks int64) int64 { return (blocks + pageBlocks - 1) / pageBlocks }

// newBitmap makes an empty one in the memory of the process.
func newBitmap(blocks int64) *bitmap {
	return &bitmap{
		pages: make([]atomic.Pointer[page], pagesFor(blocks)),
		allot: func(int64) *page { return new(page) },
		drop:  func(int64) {},
	}
}

// page returns page p, making it.
func (b *bitmap) page(p int64) *page {
	if pg := b.pages[p].Load(); pg != nil {
		return pg
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	pg := b.pages[p].Load()
	if pg == nil {
		pg = b.allot(p)
		b.pages[p].Store(pg)
	}
	return pg
}

// noBits stands for the words of pages that are not there; never written to.
var noBits uint64

// span calls do for each word that the range touches, with the bits it touches;
// pages that are not there are made or, without make, are words of zero.
func (b *bitmap) span(start, count int64, create bool, do func(w *uint64, mask uint64) (more bool)) {
	for end := start + count; start < end; {
		n := min(64-start%64, end-start)
		w := &noBits
		if pg := b.pages[start/pageBlocks].Load(); pg != nil {
			w = &pg[start%pageBlocks/64]
		} else if create {
			w = &b.page(start / pageBlocks)[start%pageBlocks/64]
		}
		if !do(w, fullWord>>(64-n)<<(start%64)) {
			return
		}
		start += n
	}
}

// set adds blocks.
func (b *bitmap) set(start, count int64) {
	b.span(start, count, true, func(w *uint64, mask uint64) bool {
		if atomic.LoadUint64(w)&mask != mask {
			atomic.OrUint64(w, mask)
		}
		return true
	})
}

// unset takes blocks out.
func (b *bitmap) unset(start, count int64) {
	b.span(start, count, false, func(w *uint64, mask uint64) bool {
		if atomic.LoadUint64(w)&mask != 0 {
			atomic.AndUint64(w, ^mask)
		}
		return true
	})
}

func (b *bitmap) has(at int64) bool { return b.hasAny(at, 1) }

func (b *bitmap) hasAny(start, count int64) (found bool) {
	b.span(start, count, false, func(w *uint64, mask uint64) bool {
		found = atomic.LoadUint64(w)&mask != 0
		return !found
	})
	return found
}

func (b *bitmap) hasAll(start, count int64) bool {
	all := true
	b.span(start, count, false, func(w *uint64, mask uint64) bool {
		all = atomic.LoadUint64(w)&mask == mask
		return all
	})
	return all
}

// orPage adds page p of b to the words of into.
func (b *bitmap) orPage(p int64, into *page) {
	from := b.pages[p].Load()
	if from == nil {
		return
	}
	for i := range from {
		if w := atomic.LoadUint64(&from[i]); w&^atomic.LoadUint64(&into[i]) != 0 {
			atomic.OrUint64(&into[i], w)
		}
	}
}

// or adds every block of o.
func (b *bitmap) or(o *bitmap) {
	for p := range o.pages {
		if o.pages[p].Load() != nil {
			o.orPage(int64(p), b.page(int64(p)))
		}
	}
}

// orMap adds every block of m.
func (b *bitmap) orMap(m *block.Map) {
	for run := range m.Runs(0) {
		b.set(run.Start, run.Count)
	}
}

// addTo adds every block to m.
func (b *bitmap) addTo(m *block.Map) {
	for p := range b.pages {
		b.addPage(int64(p), m)
	}
}

func (b *bitmap) addPage(p int64, m *block.Map) {
	pg := b.pages[p].Load()
	if pg == nil {
		return
	}
	words := m.Words()
	to := words[p*pageWords : min((p+1)*pageWords, int64(len(words)))]
	for i := range to {
		to[i] |= atomic.LoadUint64(&pg[i])
	}
}

// clear empties b and gives its memory back.
func (b *bitmap) clear() {
	for p := range b.pages {
		if b.pages[p].Swap(nil) != nil {
			b.drop(int64(p))
		}
	}
}

func (b *bitmap) empty() bool {
	for p := range b.pages {
		if pg := b.pages[p].Load(); pg != nil {
			for i := range pg {
				if atomic.LoadUint64(&pg[i]) != 0 {
					return false
				}
			}
		}
	}
	return true
}

func (b *bitmap) count() (n int64) {
	for p := range b.pages {
		if pg := b.pages[p].Load(); pg != nil {
			for i := range pg {
				n += int64(bits.OnesCount64(atomic.LoadUint64(&pg[i])))
			}
		}
	}
	return n
}
