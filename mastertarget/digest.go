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
	item *item
	disk pointDisk // which says of which replica: one that is opened anew has other disks
	tree *block.Tree
	pin  pin
}

// get finds the tree of a disk at a boundary, or keeps a new one; nil when the
// state is not there any more.
func (c *treeCache) get(it *item, d *pointDisk, held pin) *block.Tree {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Asked with mu held: who ends a state does so before it drops its trees.
	if !(prover{it}).stands(d.replica, d.boundary) {
		it.pins.release(held)
		return nil
	}
	for i, t := range c.list {
		if t.disk == *d {
			it.pins.release(held) // the tree has one of its own
			c.list = append(append(c.list[:i:i], c.list[i+1:]...), t)
			return t.tree
		}
	}
	t := &cachedTree{item: it, disk: *d, tree: block.NewTree(d), pin: held}
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
	tree, of, err := it.tree(op, req.At, disk, st)
	if err != nil {
		return homeward.DigestReport{}, err
	}
	hashes, read, err := hashesWithin(ctx, tree, of.Size(), req)
	if point, ok := of.(*pointDisk); ok && !it.stands(point.replica, point.boundary) {
		err = it.noState(op, req.At) // it ended while it was read
	}
	if err != nil {
		return homeward.DigestReport{}, homeward.Wrap(err, op, it.subject())
	}
	r := homeward.DigestReport{Size: of.Size(), Read: read, Hashes: make([]byte, 0, len(hashes)*len(block.Hash{}))}
	for _, h := range hashes {
		r.Hashes = append(r.Hashes, h[:]...)
	}
	return r, nil
}

// stands reports whether a state can be read from a replica and goes on to be: a
// roll-back and a promotion end the newer ones from their first write on.
func (it prover) stands(r *replica, boundary uint64) bool {
	st := it.state()
	limit := st.tip.Boundary
	switch {
	case st.RollBack != nil:
		limit = st.RollBack.Tip.Boundary
	case st.State == homeward.ReplicaPromoting || st.State == homeward.ReplicaPromoted:
		limit = st.FailOver.Tip.Boundary
	}
	if r != st.replica || boundary > limit {
		return false
	}
	_, err := r.segmentAt(boundary)
	return err == nil || boundary == st.tip.Boundary
}

func (it prover) noState(op string, at homeward.Position) error {
	return homeward.Errorf(op, homeward.NotFound, at.String(), "ask again, or choose a point from the list", "no such state of %s is kept", it.id)
}

// tree is the digest tree of a disk at a position, and the disk; zero: as it is
// now, which is what runs, or else the state the replica stands at, held while the
// tree lives.
func (it prover) tree(op string, at homeward.Position, disk int, st state) (*block.Tree, block.Disk, error) {
	switch v := it.view(failOverView); {
	case !at.IsZero() || st.State == homeward.ReplicaReplicating:
	case v != nil:
		return block.NewTree(v.disks[disk]), v.disks[disk], nil
	default:
		return nil, nil, homeward.Errorf(op, homeward.Conflict, it.subject(), "mend what the item's fault names, or name a point", "what runs here is not served")
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
		return nil, nil, it.noState(op, at)
	}
	it.pins.hold(held)
	t, err := it.tipAt(it.state(), held.Boundary)
	if err != nil {
		it.pins.release(held)
		return nil, nil, err
	}
	d := st.replica.pointDisks(t.Machine, held.Boundary)[disk]
	if tree := it.trees.get(it.item, d, held); tree != nil {
		return tree, d, nil
	}
	return nil, nil, it.noState(op, at)
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
