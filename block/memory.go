package block

import (
	"iter"
	"sync"

	"github.com/homeward-dr/homeward"
)

// Memory is a Disk in memory, for tests: sparse, and gone with the process.
type Memory struct {
	mu     sync.RWMutex
	size   int64
	blocks map[int64]*[Size]byte // absent: reads as zero, and is a hole
	closed bool
}

// NewMemory makes an empty disk; size is in bytes, a multiple of 512, else it panics.
func NewMemory(size int64) *Memory {
	if size <= 0 || size%512 != 0 {
		panic("block: the size of a memory disk must be a positive multiple of 512")
	}
	return &Memory{size: size, blocks: map[int64]*[Size]byte{}}
}

func (m *Memory) checkOpen(op string, off, n int64) error {
	if m.closed {
		return homeward.Errorf(op, homeward.Unavailable, "memory disk", "open it again", "the disk is closed")
	}
	return checkRange(op, "memory disk", m.size, off, n)
}

func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.checkOpen("read disk", off, int64(len(p))); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		rest := p[done:min(len(p), done+Size-int(at%Size))]
		if b := m.blocks[at/Size]; b != nil {
			copy(rest, b[at%Size:])
		} else {
			clear(rest)
		}
		done += len(rest)
	}
	return len(p), nil
}

func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkOpen("write disk", off, int64(len(p))); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		b := m.blocks[at/Size]
		if b == nil {
			b = new([Size]byte)
			m.blocks[at/Size] = b
		}
		done += copy(b[at%Size:], p[done:])
	}
	return len(p), nil
}

// WriteAtFUA is WriteAt: memory is as durable as it gets.
func (m *Memory) WriteAtFUA(p []byte, off int64) (int, error) { return m.WriteAt(p, off) }

func (m *Memory) Zero(off, n int64, punch bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkOpen("zero disk", off, n); err != nil {
		return err
	}
	for end := off + n; off < end; {
		next := min(end, (off/Size+1)*Size)
		b := m.blocks[off/Size]
		switch {
		case punch && next-off == Size:
			delete(m.blocks, off/Size)
		case b != nil:
			clear(b[off%Size : off%Size+next-off])
		case !punch:
			m.blocks[off/Size] = new([Size]byte)
		}
		off = next
	}
	return nil
}

func (m *Memory) Flush() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.checkOpen("flush disk", 0, 0)
}

func (m *Memory) Size() int64 { return m.size }

func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Extents tells holes from data by block.
func (m *Memory) Extents(off, n int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for at, end := off, off+n; ; {
			e, err := m.extent(at, end)
			if err != nil {
				yield(Extent{}, err)
				return
			}
			if e.Len == 0 || !yield(e, nil) {
				return
			}
			at += e.Len
		}
	}
}

func (m *Memory) extent(off, end int64) (Extent, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.checkOpen("list extents", off, end-off); err != nil {
		return Extent{}, err
	}
	if m.blocks[off/Size] == nil {
		return Extent{Off: off, Len: min(m.nextData(off, end), end) - off, Hole: true, Zero: true}, nil
	}
	at := off
	for at < end && m.blocks[at/Size] != nil {
		at = (at/Size + 1) * Size
	}
	return Extent{Off: off, Len: min(at, end) - off}, nil
}

// nextData is where the hole at off ends, or beyond end. A large disk may hold
// few blocks: then they are asked, and not the range.
func (m *Memory) nextData(off, end int64) int64 {
	if int64(len(m.blocks)) < (end-off)/Size {
		next := end
		for b := range m.blocks {
			if b*Size > off {
				next = min(next, b*Size)
			}
		}
		return next
	}
	for off < end && m.blocks[off/Size] == nil {
		off = (off/Size + 1) * Size
	}
	return off
}
