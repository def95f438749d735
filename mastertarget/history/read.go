package history

import (
	"context"

	"github.com/homeward-dr/homeward/block"
)

// window is how much of a disk is looked up at once: 1 MiB.
const window = 256

// ReadAt reads a disk as it was at a boundary; p and off must lie within it.
//
// The replica is read first and the chain is asked then: whoever overwrites a
// block publishes its old content before, so what was read is either still the
// content at the boundary or the chain has it.
func (c *Chain) ReadAt(replica block.Disk, disk int, at uint64, p []byte, off int64) error {
	for len(p) > 0 {
		n := min(int64(len(p)), window*block.Size-off%block.Size)
		if err := c.readWindow(replica, disk, at, p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (c *Chain) readWindow(replica block.Disk, disk int, at uint64, p []byte, off int64) error {
	// A view of a point before the disk grew ends earlier than the replica; after
	// a shrink, which is refused elsewhere, it could not end later.
	if _, err := replica.ReadAt(p, off); err != nil {
		return err
	}
	first := off / block.Size
	count := (off+int64(len(p))+block.Size-1)/block.Size - first
	return c.Old(disk, at, first, count, func(start int64, data []byte) error {
		from := start*block.Size - off
		if from < 0 {
			data, from = data[min(-from, int64(len(data))):], 0
		}
		if from < int64(len(p)) {
			copy(p[from:], data)
		}
		return nil
	})
}

// Old calls fn with the content at a boundary of those blocks of
// [start, start+count) that have been overwritten since, in no order; data is
// valid during the call. count is at most 257 (1 MiB, not aligned).
func (c *Chain) Old(disk int, at uint64, start, count int64, fn func(start int64, data []byte) error) error {
	segments, last, err := c.acquire(at)
	if err != nil {
		return err
	}
	defer c.release(segments)
	w := wanted{start: start, left: count, fn: fn}
	for _, s := range segments {
		if w.left == 0 {
			return nil
		}
		if err := w.ask(s, disk, count); err != nil {
			return err
		}
	}
	if last == nil || w.left == 0 {
		return nil
	}
	return w.ask(last, disk, count)
}

// wanted is a range of blocks of which some are found already.
type wanted struct {
	start, left int64
	found       [window + 1]bool
	fn          func(start int64, data []byte) error
}

// ask takes from a layer what is still wanted.
func (w *wanted) ask(l Layer, disk int, count int64) error {
	var fresh [window + 1]bool
	err := l.ReadBlocks(disk, w.start, count, func(start int64, data []byte) error {
		for len(data) > 0 {
			i := start - w.start
			n := int64(0) // blocks of one nature
			size := 0
			for size < len(data) && w.found[i+n] == w.found[i] {
				n++
				size = min(size+block.Size, len(data))
			}
			if !w.found[i] {
				for j := i; j < i+n; j++ {
					fresh[j] = true
				}
				if err := w.fn(start, data[:size]); err != nil {
					return err
				}
			}
			start, data = start+n, data[size:]
		}
		return nil
	})
	for i, f := range fresh {
		if f {
			w.found[i] = true
			w.left--
		}
	}
	return err
}

// Since ORs into m the blocks of a disk overwritten since a boundary: every block
// in which the replica may differ from it.
func (c *Chain) Since(ctx context.Context, disk int, at uint64, m *block.Map) error {
	segments, last, err := c.acquire(at)
	if err != nil {
		return err
	}
	defer c.release(segments)
	for _, s := range segments {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.Map(disk, m); err != nil {
			return err
		}
	}
	if last != nil {
		return last.Map(disk, m)
	}
	return nil
}

// Touched is which blocks of a range were overwritten since a boundary; block
// start is number 0 of the map.
func (c *Chain) Touched(disk int, at uint64, start, count int64) (*block.Map, error) {
	segments, last, err := c.acquire(at)
	if err != nil {
		return nil, err
	}
	defer c.release(segments)
	m := block.NewMap(count)
	for _, s := range segments {
		if err := s.touched(disk, start, m); err != nil {
			return nil, err
		}
	}
	if last == nil {
		return m, nil
	}
	return m, last.ReadBlocks(disk, start, count, func(b int64, data []byte) error {
		m.Set(b-start, block.BlocksOf(int64(len(data))))
		return nil
	})
}

// touched sets in m, whose block 0 is block start of the disk, what s holds.
func (s *Segment) touched(disk int, start int64, m *block.Map) error {
	h, err := s.files.open(s.path)
	if err != nil {
		return err
	}
	defer s.files.done(h)
	for run, err := range h.reader.Runs(disk, start) {
		if err != nil {
			return err
		}
		from := run.Start - start
		if from >= m.Blocks() {
			return nil
		}
		m.Set(from, min(run.Count, m.Blocks()-from))
	}
	return nil
}
