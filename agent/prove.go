package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/capture"
)

const (
	maxHashes = 65536            // DigestRequest.Count
	treeIdle  = 30 * time.Second // an unused tree of a live disk is forgotten
	proofIdle = 10 * time.Minute // a frozen cut nobody digests is released: no other is made meanwhile
)

// proof is the digesting of one item: its frozen cut, and trees that were asked
// for. The zero value is ready.
type proof struct {
	standing atomic.Bool // frozen is set; for those who must not wait for mu

	mu     sync.Mutex
	leg    *leg
	frozen *cutting      // nil: none
	expiry *time.Timer   // ends it
	trees  map[int]*tree // of the frozen cut
	live   map[int]*tree // of the disks as they are
}

// tree is a digest tree that is kept between requests.
type tree struct {
	*block.Tree
	used  time.Time
	whole bool // its root was told
}

func newTree(d block.Disk) *tree { return &tree{Tree: block.NewTree(d)} }

// freeze makes a whole cut, waits until it is applied, and keeps it.
func (p *proof) freeze(ctx context.Context, l *leg) (homeward.CutReport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		return p.frozen.report(), nil
	}
	c, err := l.wishFor(ctx, wish{kind: homeward.MarkCrash, whole: true}, homeward.WaitApplied)
	if err != nil {
		if c != nil {
			err = errors.Join(err, l.unfreeze(c))
		}
		return homeward.CutReport{}, err
	}
	p.leg, p.frozen, p.trees = l, c, map[int]*tree{}
	p.standing.Store(true)
	p.expiry = time.AfterFunc(proofIdle, func() {
		if err := p.end(); err != nil {
			l.log.Warn("forgotten frozen cut not released", "item", l.id, "error", err)
		}
	})
	return c.report(), nil
}

// end lets the frozen cut go. Without one it does nothing.
func (p *proof) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.frozen
	p.frozen, p.trees, p.live = nil, nil, nil
	if c == nil {
		return nil
	}
	p.expiry.Stop()
	p.standing.Store(false)
	return p.leg.unfreeze(c)
}

// unfreeze releases a whole cut: its blocks leave the map if it is applied.
func (l *leg) unfreeze(c *cutting) error {
	defer l.turn.give(c.lease)
	var err error
	select {
	case <-c.applied:
		err = c.cut.Applied()
	default:
		err = c.cut.Demote()
	}
	if errors.Is(err, capture.ErrDemoted) || errors.Is(err, capture.ErrReleased) || errors.Is(err, capture.ErrClosed) {
		return nil
	}
	return homeward.Wrap(err, "unfreeze", string(l.id))
}

// digest answers hashes of a disk. Which blocks are read follows from the nodes
// asked for: a comparison within some blocks asks for nodes that lie in them.
func (p *proof) digest(ctx context.Context, req homeward.DigestRequest, disk int, d block.Disk) (homeward.DigestReport, error) {
	rep := homeward.DigestReport{Size: d.Size()}
	if req.Count < 0 || req.Count > maxHashes {
		return rep, homeward.Errorf("digest", homeward.Invalid, "count", "ask for at most 65,536 at a time", "%d", req.Count)
	}
	t, err := p.tree(req, disk, d)
	if err != nil {
		return rep, err
	}
	before, _ := t.Progress()
	hashes, err := t.Hashes(ctx, req.Level, req.Index, req.Count)
	// Requests for leaves come side by side, and with those for nodes: each counts its own.
	if after, _ := t.Progress(); req.Level > 0 {
		rep.Read = after - before
	} else {
		rep.Read = int64(len(hashes)) * block.Size
	}
	p.mu.Lock()
	t.used = time.Now()
	t.whole = t.whole || err == nil && req.Level == block.RootLevel(d.Size())
	p.mu.Unlock()
	for _, h := range hashes {
		rep.Hashes = append(rep.Hashes, h[:]...)
	}
	if !req.At.IsZero() && errors.Is(err, capture.ErrDemoted) { // it cannot be read any more
		err = errors.Join(err, p.end())
	}
	return rep, err
}

// tree finds or begins the tree that a request is about.
//
// A tree of a live disk is kept between the requests of one comparison, though the
// guest writes on: a hash that is out of date is of a block that is in the map
// since, so it may be told equal or different alike. The root is told fresh.
func (p *proof) tree(req homeward.DigestRequest, disk int, d block.Disk) (*tree, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !req.At.IsZero() {
		if p.frozen == nil || p.frozen.report().Position != req.At {
			return nil, homeward.Errorf("digest", homeward.NotFound, req.At.String(), "freeze the item, and use the position it answers",
				"it is not the frozen cut")
		}
		p.expiry.Reset(proofIdle)
		if p.trees[disk] == nil {
			p.trees[disk] = newTree(frozenDisk{cut: p.frozen.cut, disk: disk, size: d.Size()})
		}
		return p.trees[disk], nil
	}
	t := p.live[disk]
	again := t != nil && t.whole && req.Level == block.RootLevel(d.Size())
	if t == nil || again || time.Since(t.used) > treeIdle {
		if p.live == nil {
			p.live = map[int]*tree{}
		}
		t = newTree(d)
		p.live[disk] = t
	}
	t.used = time.Now()
	return t, nil
}

// frozenDisk is a disk as of a whole cut, for reading whole blocks.
type frozenDisk struct {
	cut  *capture.Cut
	disk int
	size int64
}

func (d frozenDisk) Size() int64  { return d.size }
func (d frozenDisk) Flush() error { return nil }
func (d frozenDisk) Close() error { return nil }

func (d frozenDisk) ReadAt(p []byte, off int64) (int, error) {
	n := int64(len(p))
	if off%block.Size != 0 || n%block.Size != 0 && off+n != d.size {
		return 0, homeward.Errorf("read frozen disk", homeward.Invalid, fmt.Sprintf("disk %d", d.disk), "", "%d bytes at %d are not whole blocks", n, off)
	}
	if err := d.cut.ReadBlocks(d.disk, off/block.Size, block.BlocksOf(n), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d frozenDisk) WriteAt([]byte, int64) (int, error) { return 0, d.readOnly() }
func (d frozenDisk) Zero(int64, int64, bool) error      { return d.readOnly() }

func (d frozenDisk) readOnly() error {
	return homeward.Errorf("write frozen disk", homeward.Unsupported, fmt.Sprintf("disk %d", d.disk), "", "a frozen cut is read only")
}
