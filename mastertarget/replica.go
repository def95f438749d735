package mastertarget

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/mastertarget/history"
	"github.com/homeward-dr/homeward/mastertarget/overlay"
)

// replica is an item's disks with all that says what they held: open, or not at
// all. Who writes to the disks, the chain's ends or the cell holds the item's turn.
type replica struct {
	disks []block.Disk
	chain *history.Chain
	cell  *tipCell
	// past is what a promoted (or just being promoted) machine overwrote, by disk;
	// nil: no machine runs on the disks themselves.
	past pastLayer
	// pastLost is set when past could not be kept: no point can be served any more.
	pastLost atomic.Bool
	lost     []string // files of the chain that are damaged or cut off
}

// pastLayer is the layer between the chain and disks that a machine writes to.
type pastLayer []*overlay.Store

func (p pastLayer) ReadBlocks(disk int, start, count int64, fn func(start int64, data []byte) error) error {
	if disk >= len(p) {
		return nil
	}
	return p[disk].ReadBlocks(start, count, fn)
}

func (p pastLayer) Map(disk int, m *block.Map) error {
	if disk < len(p) {
		for run := range p[disk].Held().Runs(0) {
			m.Set(run.Start, min(run.Count, m.Blocks()-run.Start))
		}
	}
	return nil
}

func (p pastLayer) close() error {
	var errs []error
	for _, s := range p {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// openDisks opens the disks of a machine. With create, those that are missing are
// made, but only after every other one has been found good.
func openDisks(ctx context.Context, openers block.Openers, m homeward.Machine, refs []string, create bool) ([]block.Disk, error) {
	disks := make([]block.Disk, len(refs))
	fail := func(i int, err error) ([]block.Disk, error) {
		subject := fmt.Sprintf("item %s disk %s", m.Item, m.Disks[i].ID)
		return nil, errors.Join(homeward.Wrap(err, "open replica", subject), closeDisks(disks))
	}
	var missing []int
	for i, ref := range refs {
		d, err := openers.Open(ctx, ref, block.Mode{Size: m.Disks[i].Size})
		if create && homeward.KindOf(err) == homeward.NotFound {
			missing = append(missing, i)
			continue
		}
		if err != nil {
			return fail(i, err)
		}
		disks[i] = d
	}
	for _, i := range missing {
		d, err := openers.Open(ctx, refs[i], block.Mode{Size: m.Disks[i].Size, Create: true})
		if err != nil {
			return fail(i, err)
		}
		disks[i] = d
	}
	return disks, nil
}

func closeDisks(disks []block.Disk) error {
	var errs []error
	for _, d := range disks {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

func (r *replica) close() error {
	err := errors.Join(r.past.close(), closeDisks(r.disks))
	if r.cell != nil {
		err = errors.Join(err, r.cell.close())
	}
	return err
}

func (r *replica) flush() error {
	for _, d := range r.disks {
		if err := d.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// takeBack writes the content at a boundary over every block that was
// overwritten since, and makes it durable. To do it again changes nothing.
func (r *replica) takeBack(ctx context.Context, boundary uint64, progress func(bytes int64)) error {
	for i, d := range r.disks {
		m := block.NewMap(block.BlocksOf(d.Size()))
		if err := r.chain.Since(ctx, i, boundary, m); err != nil {
			return err
		}
		for run := range windows(m) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.takeBackRun(i, boundary, run, nil); err != nil {
				return err
			}
			progress(run.Count * block.Size)
		}
		if err := d.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// takeBackRun does so for one run of at most windowBlocks, save for the blocks in except.
func (r *replica) takeBackRun(disk int, boundary uint64, run block.Run, except *block.Map) error {
	return r.chain.Old(disk, boundary, run.Start, run.Count, func(start int64, data []byte) error {
		for len(data) > 0 {
			n := int64(1) // blocks of one nature
			skip := except != nil && except.Has(start)
			for n*block.Size < int64(len(data)) && (except != nil && except.Has(start+n)) == skip {
				n++
			}
			piece := data[:min(n*block.Size, int64(len(data)))]
			if !skip {
				if err := writeOrZero(r.disks[disk], piece, start*block.Size); err != nil {
					return err
				}
			}
			start, data = start+n, data[len(piece):]
		}
		return nil
	})
}

// writeOrZero keeps sparse disks sparse. A block of a point before the disk grew
// is never longer than the disk.
func writeOrZero(d block.Disk, p []byte, off int64) error {
	if block.IsZero(p) {
		return d.Zero(off, int64(len(p)), true)
	}
	_, err := d.WriteAt(p, off)
	return err
}

// windowBlocks is how many blocks are handled at once: 1 MiB.
const windowBlocks = 256

// windows walks the runs of a map in pieces that do not cross a multiple of
// windowBlocks.
func windows(m *block.Map) func(yield func(block.Run) bool) {
	return func(yield func(block.Run) bool) {
		for run := range m.Runs(0) {
			for run.Count > 0 {
				n := min(run.Count, windowBlocks-run.Start%windowBlocks)
				if !yield(block.Run{Start: run.Start, Count: n}) {
					return
				}
				run.Start, run.Count = run.Start+n, run.Count-n
			}
		}
	}
}

// diskInfos is how a delta lists the disks of a machine.
func diskInfos(m homeward.Machine) (list []delta.DiskInfo) {
	for _, d := range m.Disks {
		list = append(list, delta.DiskInfo{ID: d.ID, Size: d.Size})
	}
	return list
}
