package mastertarget

import (
	"iter"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// pointDisk is a disk as it was at a boundary: a block.Disk that refuses writes.
// It is right while deltas are applied and segments are merged, as long as its
// boundary is pinned. Safe for concurrent use.
type pointDisk struct {
	replica  *replica
	disk     int
	boundary uint64
	size     int64 // at the boundary; the replica may have grown since
}

// pointDisks are the disks of the machine as of a boundary.
func (r *replica) pointDisks(m homeward.Machine, boundary uint64) (list []*pointDisk) {
	for i, d := range m.Disks {
		list = append(list, &pointDisk{replica: r, disk: i, boundary: boundary, size: d.Size})
	}
	return list
}

func (p *pointDisk) Size() int64  { return p.size }
func (p *pointDisk) Flush() error { return nil }
func (p *pointDisk) Close() error { return nil }

func (p *pointDisk) check(op string, off, n int64) error {
	if p.replica.pastLost.Load() {
		return homeward.Errorf(op, homeward.NoSpace, "recovery point", "use the machine that runs now",
			"the point was given up: there was no room to keep what the running machine overwrote")
	}
	if off >= 0 && n >= 0 && off <= p.size && n <= p.size-off {
		return nil
	}
	return homeward.Errorf(op, homeward.Invalid, "recovery point", "stay within the disk",
		"%d bytes at %d are not within its %d bytes", n, off, p.size)
}

func (p *pointDisk) ReadAt(b []byte, off int64) (int, error) {
	if err := p.check("read", off, int64(len(b))); err != nil {
		return 0, err
	}
	if err := p.replica.chain.ReadAt(p.replica.disks[p.disk], p.disk, p.boundary, b, off); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p *pointDisk) WriteAt([]byte, int64) (int, error) { return 0, p.refuse("write") }
func (p *pointDisk) Zero(int64, int64, bool) error      { return p.refuse("zero") }

func (p *pointDisk) refuse(op string) error {
	return homeward.Errorf(op, homeward.Forbidden, "recovery point", "open a scratch view to write", "it is read-only")
}

// extentWindow is how much of a disk Extents looks at at once.
const extentWindow = 256 << 20

// Extents calls data what was overwritten since the boundary, and asks the
// replica about the rest. As with reading, the replica is asked first.
func (p *pointDisk) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		if err := p.check("list extents", off, n); err != nil {
			yield(block.Extent{}, err)
			return
		}
		for n > 0 {
			step := min(n, extentWindow-off%extentWindow)
			list, err := p.extents(off, step)
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(block.Extent{}, err)
				return
			}
			off, n = off+step, n-step
		}
	}
}

func (p *pointDisk) extents(off, n int64) (list []block.Extent, err error) {
	var below []block.Extent
	for e, err := range block.Extents(p.replica.disks[p.disk], off, n) {
		if err != nil {
			return nil, err
		}
		below = append(below, e)
	}
	first := off / block.Size
	touched, err := p.replica.chain.Touched(p.disk, p.boundary, first, block.BlocksOf(off+n)-first)
	if err != nil {
		return nil, err
	}
	for _, e := range below {
		for end := e.Off + e.Len; e.Off < end; {
			b := e.Off / block.Size
			old := touched.Has(b - first)
			for b++; b*block.Size < end && touched.Has(b-first) == old; b++ {
			}
			part := e
			part.Len = min(b*block.Size, end) - e.Off
			if old {
				part.Hole, part.Zero = false, false
			}
			list = append(list, part)
			e.Off += part.Len
		}
	}
	return list, nil
}
