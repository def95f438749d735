package mastertarget

import (
	"context"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

const (
	maxTrees  = 8       // digest trees kept
	maxHashes = 1 << 16 // asked for at once
)

// treeCache keeps the digest trees asked for last, each of one disk at one
// boundary, which it pins. Safe for concurrent use.
type treeCache struct {
	mu   sync.Mutex
	list []*cachedTree // least recently used first
}

type cachedTree struct {
	item     *item
	disk     int
	boundary uint64
	tree     *block.Tree
	pin      pin
}

// get finds the tree of a disk at a boundary, or keeps a new one.
func (c *treeCache) get(it *item, disk int, d *pointDisk, held pin) *block.Tree {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range c.list {
		if t.item == it && t.disk == disk && t.boundary == d.boundary {
			it.pins.release(held) // the tree has one of its own
			c.list = append(append(c.list[:i:i], c.list[i+1:]...), t)
			return t.tree
		}
	}
	t := &cachedTree{item: it, disk: disk, boundary: d.boundary, tree: block.NewTree(d), pin: held}
	c.list = append(c.list, t)
	if len(c.list) > maxTrees {
		c.list[0].item.pins.release(c.list[0].pin)
		c.list = c.list[1:]
	}
	return t.tree
}

// drop forgets the trees of an item: its replica is closed or moves.
func (c *treeCache) drop(it *item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []*cachedTree
	for _, t := range c.list {
		if t.item == it {
			it.pins.release(t.pin)
		} else {
			left = append(left, t)
		}
	}
	c.list = left
}

// prover digests disks of an item.
type prover struct{ *item }

// digest answers hashes of a disk at a boundary, or as it is.
func (it prover) digest(ctx context.Context, req homeward.DigestRequest) (homeward.DigestReport, error) {
	const op = "digest"
	st, err := it.open(op)
	if err != nil {
		return homeward.DigestReport{}, err
	}
	if req.Count < 0 || req.Count > maxHashes {
		return homeward.DigestReport{}, homeward.Errorf(op, homeward.Invalid, "count", "ask for at most 65536 at once", "%d hashes", req.Count)
	}
	disk := -1
	for i, d := range st.Leg.Machine.Disks {
		if d.ID == req.Disk {
			disk = i
		}
	}
	if disk < 0 {
		return homeward.DigestReport{}, homeward.Errorf(op, homeward.NotFound, string(req.Disk), "name a disk of the machine", "item %s has no such disk", it.id)
	}
	tree, size, err := it.tree(op, req.At, disk, st)
	if err != nil {
		return homeward.DigestReport{}, err
	}
	hashes, read, err := hashesWithin(ctx, tree, size, req)
	if err != nil {
		return homeward.DigestReport{}, homeward.Wrap(err, op, it.subject())
	}
	r := homeward.DigestReport{Size: size, Read: read, Hashes: make([]byte, 0, len(hashes)*len(block.Hash{}))}
	for _, h := range hashes {
		r.Hashes = append(r.Hashes, h[:]...)
	}
	return r, nil
}

// tree is the digest tree of a disk at a position; zero: as it is now, which is
// what runs, or else the state the replica stands at, held while the tree lives.
func (it prover) tree(op string, at homeward.Position, disk int, st state) (*block.Tree, int64, error) {
	if v := it.view(failOverView); at.IsZero() && v != nil {
		d := v.disks[disk]
		return block.NewTree(d), d.Size(), nil
	}
	held := pin{Name: digestPin, Position: at}
	if at.IsZero() {
		at = st.tip.Position
	}
	found := at == st.tip.Position
	held.Boundary = st.tip.Boundary
	for _, s := range st.replica.chain.Segments() {
		if s.Position == at {
			found, held.Boundary = true, s.Older
		}
	}
	if !found {
		return nil, 0, homeward.Errorf(op, homeward.NotFound, at.String(), "choose a point from the list", "no such state of %s is kept", it.id)
	}
	it.pins.hold(held)
	t, err := it.tipAt(it.state(), held.Boundary)
	if err != nil {
		it.pins.release(held)
		return nil, 0, err
	}
	d := st.replica.pointDisks(t.Machine, held.Boundary)[disk]
	return it.trees.get(it.item, disk, d, held), d.size, nil
}

// hashesWithin gives the hashes of the nodes that a request names; those without
// a block in Within are left zero and not read.
func hashesWithin(ctx context.Context, tree *block.Tree, size int64, req homeward.DigestRequest) (out []block.Hash, read int64, err error) {
	before, _ := tree.Progress()
	get := func(index, count int64) error {
		hashes, err := tree.Hashes(ctx, req.Level, index, count)
		if req.Level == 0 {
			read += int64(len(hashes)) * block.Size
		}
		out = append(out, hashes...)
		return err
	}
	if len(req.Within) == 0 {
		err = get(req.Index, req.Count)
	} else {
		err = eachWithin(size, req, get, func() { out = append(out, block.Hash{}) })
	}
	// Requests for leaves come side by side, and with those for nodes: each counts its own.
	if after, _ := tree.Progress(); req.Level > 0 {
		read = after - before
	}
	return out, read, err
}

func eachWithin(size int64, req homeward.DigestRequest, get func(index, count int64) error, skip func()) error {
	within, err := block.UnmarshalMap(req.Within, block.BlocksOf(size))
	if err != nil {
		return err
	}
	covers := int64(1) // blocks below a node
	for range req.Level {
		covers *= block.Fanout
	}
	for i := req.Index; i < req.Index+req.Count; i++ {
		from := min(max(i*covers, 0), within.Blocks())
		if !within.HasAny(from, min(covers, within.Blocks()-from)) {
			skip()
			continue
		}
		if err := get(i, 1); err != nil {
			return err
		}
	}
	return nil
}
