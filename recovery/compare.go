package recovery

import (
	"context"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// hasher lets package block compare the digest tree of a disk behind a role.
type hasher struct {
	role homeward.Prover
	req  homeward.DigestRequest
	size int64
	read atomic.Int64 // bytes of disk the role read so far; block.Compare asks concurrently
}

// maxHashes is DigestRequest.Count's bound.
const maxHashes = 65536

func (h *hasher) Size() int64 { return h.size }

func (h *hasher) Hashes(ctx context.Context, level int, index, count int64) ([]block.Hash, error) {
	out := make([]block.Hash, 0, count)
	for count > 0 {
		req := h.req
		req.Level, req.Index, req.Count = level, index, min(count, maxHashes)
		rep, err := h.role.Digest(ctx, req)
		if err != nil {
			return nil, err
		}
		if rep.Size != h.size || int64(len(rep.Hashes)) != req.Count*int64(len(block.Hash{})) {
			return nil, homeward.Errorf("compare digests", homeward.Invalid, "disk "+string(req.Disk),
				"protect the machine again if a disk changed its size", "%d hashes of a disk of %d bytes, want %d of %d",
				len(rep.Hashes)/len(block.Hash{}), rep.Size, req.Count, h.size)
		}
		for b := rep.Hashes; len(b) > 0; b = b[len(block.Hash{}):] {
			out = append(out, block.Hash(b[:len(block.Hash{})]))
		}
		h.read.Add(rep.Read)
		index, count = index+req.Count, count-req.Count
	}
	return out, nil
}

// compareSuspects finds which suspect blocks differ between the running side's
// live disk and the standby side's replica, and the bytes read for it. A block
// written meanwhile is in the capture's map already, so no cut is needed.
func (it *Item) compareSuspects(ctx context.Context, set *differences, tell func(homeward.Progress)) (found []homeward.DiskChanges, read int64, err error) {
	var done, total int64
	for i := range set.disks {
		total += set.disks[i].suspect.Count() * homeward.BlockSize
	}
	for i := range set.disks {
		d := &set.disks[i]
		suspect := d.suspect.Clone()
		suspect.AndNot(d.travels)
		if suspect.Count() == 0 {
			continue
		}
		differ, n, err := it.compareWithin(ctx, d.disk, suspect)
		read += n
		if err != nil {
			return nil, read, err
		}
		found = append(found, changed(d.disk.ID, differ))
		done += suspect.Count() * homeward.BlockSize
		tell(homeward.Progress{Done: done, Total: total})
	}
	return found, read, nil
}

// compareWithin compares some blocks of a disk and tells how many bytes were
// read for it on both sides together. The roles are not told the blocks: block.Compare
// asks for nodes that hold nothing else, and a map with each of thousands of requests
// would be most of what travels.
func (it *Item) compareWithin(ctx context.Context, d homeward.Disk, blocks *block.Map) (differ *block.Map, read int64, err error) {
	req := homeward.DigestRequest{Item: it.ID(), Disk: d.ID}
	a := &hasher{role: it.Running.Agent, req: req, size: d.Size}
	b := &hasher{role: it.taker().Target, req: req, size: d.Size}
	differ, _, err = block.Compare(ctx, a, b, blocks)
	return differ, a.read.Load() + b.read.Load(), err
}
