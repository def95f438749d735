package capture

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

const (
	slabPages = 256 // pages allotted together: 1 MiB
	zeroSlot  = -1  // stands for a block of zeroes
)

// pool holds the pages of saved copies in memory, up to a budget. Above half of
// it a goroutine moves copies to the spill file; nobody ever waits for that: when
// the pool is full, put says so at once.
type pool struct {
	mu    sync.Mutex
	slabs [][]byte
	free  []int32
	used  int
	max   int
	wake  chan struct{}
	spill spill
}

func newPool(cfg Config) *pool {
	p := &pool{max: int(cfg.CacheBytes / block.Size), wake: make(chan struct{}, 1)}
	p.spill = spill{fs: cfg.FS, path: filepath.Join(cfg.SpillDir, "spill"), max: max(cfg.SpillBytes, 0) / block.Size}
	return p
}

// put copies a block into the pool.
func (p *pool) put(data []byte) (int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used >= p.max {
		return 0, homeward.Errorf("save frozen content", homeward.NoSpace, "", "give the policy more cache_bytes or spill_bytes, or the link more bandwidth",
			"the budget for saved copies is used up: %w", ErrDemoted)
	}
	if len(p.free) == 0 {
		first := int32(len(p.slabs) * slabPages)
		p.slabs = append(p.slabs, make([]byte, slabPages*block.Size))
		for i := range int32(slabPages) {
			p.free = append(p.free, first+slabPages-1-i)
		}
	}
	n := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.used++
	copy(p.page(n), data)
	if p.used > p.max/2 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return n, nil
}

// page is the memory of a page; the caller holds mu.
func (p *pool) page(n int32) []byte {
	at := int(n) % slabPages * block.Size
	return p.slabs[n/slabPages][at : at+block.Size]
}

// get copies a page out. Its owner's latch keeps it from being dropped meanwhile.
func (p *pool) get(n int32, to []byte) {
	p.mu.Lock()
	from := p.page(n)
	p.mu.Unlock()
	copy(to, from)
}

func (p *pool) drop(n int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, n)
	p.used--
}

func (p *pool) bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(p.used) * block.Size
}

func (p *pool) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used > p.max/2
}

// spillBatch is how many blocks are spilled by one write where slots are adjacent.
const spillBatch = 64

// run moves copies of the frozen cut to the spill file until stop is closed.
func (p *pool) run(m *Machine, stop <-chan struct{}) {
	buf := make([]byte, spillBatch*block.Size)
	for {
		select {
		case <-stop:
			return
		case <-p.wake:
		}
		for at := 0; at < copyStripes && p.crowded(); at++ {
			if c := m.frozen.Load(); c != nil {
				p.relieve(&c.copies.stripes[at], buf)
			}
		}
	}
}

// cached is a copy in the pool, on its way to the spill file.
type cached struct {
	key  blockKey
	page int32
}

// relieve spills what a stripe has in memory.
func (p *pool) relieve(st *stripe, buf []byte) {
	for p.crowded() {
		first, room := p.spill.take()
		list := st.someCached(p, buf, room)
		p.spill.untake(first+int64(len(list)), room-len(list))
		if len(list) == 0 || !p.spill.write(buf[:len(list)*block.Size], first) {
			p.spill.untake(first, len(list))
			return
		}
		st.mu.Lock()
		for i, was := range list {
			if now, there := st.cache[was.key]; there && now == was.page && !st.over {
				delete(st.cache, was.key)
				st.spill[was.key] = first + int64(i)
				p.drop(was.page)
			} else {
				p.spill.untake(first+int64(i), 1)
			}
		}
		st.mu.Unlock()
	}
}

// someCached copies at most n blocks of a stripe into buf.
func (st *stripe) someCached(p *pool, buf []byte, n int) (list []cached) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for key, page := range st.cache {
		if len(list) == n {
			break
		}
		p.get(page, buf[len(list)*block.Size:][:block.Size])
		list = append(list, cached{key, page})
	}
	return list
}

// spill is the file that saved copies move to: scratch, emptied at start and
// whenever the last copy is dropped.
type spill struct {
	fs     durable.FS
	path   string
	max    int64 // slots of one block
	mu     sync.Mutex
	file   durable.File
	free   []int64
	next   int64
	used   int64
	failed atomic.Pointer[error] // the first failure: nothing is spilled any more
}

func (s *spill) open() error {
	f, err := s.fs.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return homeward.Wrap(err, "open spill file", s.path)
	}
	s.file = f
	return nil
}

// take reserves adjacent slots: many while the file grows, then one by one those
// that were given back; none when the file is full or has failed.
func (s *spill) take() (first int64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failed.Load() != nil:
	case s.next < s.max:
		first, n = s.next, int(min(spillBatch, s.max-s.next))
		s.next += int64(n)
	case len(s.free) > 0:
		first, n = s.free[len(s.free)-1], 1
		s.free = s.free[:len(s.free)-1]
	}
	s.used += int64(n)
	return first, n
}

// write fills slots; false when the file fails.
func (s *spill) write(data []byte, first int64) bool {
	if _, err := s.file.WriteAt(data, first*block.Size); err != nil {
		err = homeward.Wrap(err, "spill saved copies", s.path)
		s.failed.CompareAndSwap(nil, &err)
		return false
	}
	return true
}

func (s *spill) read(slot int64, to []byte) error {
	if slot == zeroSlot {
		clear(to)
		return nil
	}
	_, err := s.file.ReadAt(to, slot*block.Size)
	return homeward.Wrap(err, "read saved copies", s.path)
}

func (s *spill) drop(slot int64) {
	if slot != zeroSlot {
		s.untake(slot, 1)
	}
}

// untake gives slots back.
func (s *spill) untake(first int64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range int64(n) {
		s.free = append(s.free, first+i)
	}
	if s.used -= int64(n); s.used == 0 && n > 0 {
		s.free, s.next = nil, 0
		_ = s.file.Truncate(0) // only to give room back; slots are written before they are read
	}
}

func (s *spill) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used * block.Size
}
