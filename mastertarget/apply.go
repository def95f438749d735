package mastertarget

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/mastertarget/history"
)

// apply makes one step forward (I-9): the undo is durable and published before
// the first block is overwritten, the blocks are durable before the position
// record, and the record is the commit. The caller holds the turn.
func (it intake) apply(ctx context.Context, r *received, st state) error {
	next := st.tip.next(st.replica.chain.Next(), r.position, r.trailer.Mark, *r.header.Machine)
	next.AppliedBytes += r.trailer.Blocks * block.Size
	seg, err := it.journalWithRoom(ctx, r, st, next.Boundary)
	if err != nil {
		// Nothing is overwritten yet: the same delta may be tried again.
		err = homeward.Wrap(err, "keep undo", it.subject())
		it.change(func() { it.paused = err })
		return err
	}
	st.replica.chain.Publish(seg)
	// From here on the step runs to its end, whatever becomes of the caller.
	if err := st.replica.overwrite(r); err != nil {
		return it.fail("overwrite replica", err)
	}
	if err := st.replica.cell.store(next); err != nil {
		return it.fail("store position", err)
	}
	it.change(func() { it.tip, it.paused = next, nil })
	return nil
}

// journalWithRoom writes the undo; when the volume turns out to be full it makes
// room as the space rules allow, once.
func (it intake) journalWithRoom(ctx context.Context, r *received, st state, next uint64) (*history.Segment, error) {
	if err := (room{it.item}).makeRoom(ctx, r.trailer.PlainBytes); err != nil {
		return nil, err
	}
	seg, err := st.replica.journal(ctx, r, st.tip, next)
	if homeward.KindOf(err) != homeward.NoSpace {
		return seg, err
	}
	if (room{it.item}).prune(ctx, r.trailer.PlainBytes) == 0 {
		return nil, room{it.item}.noRoom(err)
	}
	seg, err = st.replica.journal(ctx, r, st.tip, next)
	if homeward.KindOf(err) == homeward.NoSpace {
		err = room{it.item}.noRoom(err)
	}
	return seg, err
}

// journal writes the old content of the blocks of a delta as the undo from the
// next boundary back to the tip.
func (rp *replica) journal(ctx context.Context, r *received, t tip, next uint64) (*history.Segment, error) {
	w, err := rp.chain.Create(history.Span{Newer: next, Older: t.Boundary, At: t.At}, delta.Header{
		Item: r.item, Disks: r.header.Disks, Follows: r.position, To: t.Position, Machine: &t.Machine,
	})
	if err != nil {
		return nil, err
	}
	_, err = r.each(func(f *delta.Frame, _ []byte) error {
		for _, run := range f.Runs {
			if err := rp.saveOld(ctx, w, f.Disk, run); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w.Commit(t.Mark)
}

// saveOld adds what the replica holds in a run to the undo; holes are not read.
func (rp *replica) saveOld(ctx context.Context, w *history.Writer, disk int, run block.Run) error {
	d := rp.disks[disk]
	off, end := run.Start*block.Size, min((run.Start+run.Count)*block.Size, d.Size())
	if run.Count <= windowBlocks {
		return readOld(w, d, disk, off, end)
	}
	// A long run is a zero run: what is zero already takes no room.
	for e, err := range block.Extents(d, off, end-off) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		// Extents may begin anywhere: a block that two of them share goes with the first.
		from, to := max(off, e.Off), min(roundUp(e.Off+e.Len), end)
		if zeros := zeroUntil(e, end); e.Zero && zeros > from {
			if err := w.AddZero(disk, from/block.Size, block.BlocksOf(zeros)-from/block.Size); err != nil {
				return err
			}
			from = zeros
		}
		if err := readOld(w, d, disk, from, to); err != nil {
			return err
		}
		off = max(off, to)
	}
	return nil
}

// zeroUntil is where the blocks end that a zero extent covers whole; the disk's
// last one may be short.
func zeroUntil(e block.Extent, end int64) int64 {
	if e.Off+e.Len >= end {
		return end
	}
	return (e.Off + e.Len) / block.Size * block.Size
}

func roundUp(off int64) int64 { return block.BlocksOf(off) * block.Size }

// readOld adds the bytes [off, end), which begins with a block.
func readOld(w *history.Writer, d block.Disk, disk int, off, end int64) error {
	buf := pieces.Get().(*piece)
	defer pieces.Put(buf)
	for off < end {
		p := buf[:min(end-off, int64(len(buf)))]
		if _, err := d.ReadAt(p, off); err != nil {
			return err
		}
		if err := w.Add(disk, off/block.Size, p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

// overwrite writes a delta into the disks and makes it durable.
func (rp *replica) overwrite(r *received) error {
	var touched []int
	_, err := r.each(func(f *delta.Frame, plain []byte) error {
		if !slices.Contains(touched, f.Disk) {
			touched = append(touched, f.Disk)
		}
		d := rp.disks[f.Disk]
		for run, data := range f.Split(plain) {
			off := run.Start * block.Size
			var err error
			if f.Zero {
				err = d.Zero(off, min(run.Count*block.Size, d.Size()-off), true)
			} else {
				_, err = d.WriteAt(data, off)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, i := range touched {
		if err == nil {
			if err = rp.disks[i].Flush(); err != nil {
				err = fmt.Errorf("disk %d: %w", i, err)
			}
		}
	}
	return err
}
