package block

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
)

const (
	// Fanout is how many children a node of a digest tree has at most.
	Fanout = 256

	nodeBytes    = Fanout * Size // of disk below a node of level 1: 1 MiB
	windowNodes  = 1024          // level-1 nodes sorted into holes and data at a time
	maxTreeReads = 16            // level-1 nodes read at once, a buffer of 1 MiB each
)

// Hash is a BLAKE3-256 digest.
type Hash [32]byte

// Node names a node of a digest tree. A tree's geometry follows from the size of
// its disk alone: level 0 has a leaf per block (the last as long as the disk's
// tail), and a node of level L covers 256 nodes of level L-1, or what is left.
// Levels 0 and 1 hash the bytes of the disk, the ones above the hashes below.
type Node struct {
	Level int
	Index int64
}

// levelWidth is how many nodes a level has.
func levelWidth(size int64, level int) int64 {
	n := BlocksOf(size)
	for range level {
		n = (n + Fanout - 1) / Fanout
	}
	return n
}

// RootLevel is the level of the digest tree of a disk of that many bytes that has
// one node.
func RootLevel(size int64) int {
	level := 0
	for levelWidth(size, level) > 1 {
		level++
	}
	return level
}

// Tree is the digest tree of a disk whose content does not change meanwhile. It
// reads what it is asked for, once, and keeps the hashes of level 1: 32 bytes per
// MiB of disk. Holes are not read. Methods may be called concurrently; together
// they read at most 16 MiB at a time.
type Tree struct {
	disk    Disk
	size    int64
	level1  []Hash
	known   *Map // which of level1 are computed
	mu      sync.RWMutex
	hashed  atomic.Int64 // bytes
	readers chan struct{}
	buffers sync.Pool
	// Of a whole leaf and a whole level-1 node that are all zero.
	zeroLeaf, zeroNode Hash
}

// NewTree makes the tree of d and reads nothing yet.
func NewTree(d Disk) *Tree {
	n := levelWidth(d.Size(), 1)
	t := &Tree{disk: d, size: d.Size(), level1: make([]Hash, n), known: NewMap(n)}
	t.readers = make(chan struct{}, min(maxTreeReads, 2*runtime.GOMAXPROCS(0)))
	t.buffers.New = func() any { return new([nodeBytes]byte) }
	t.zeroLeaf, t.zeroNode = hash(zeroes[:Size]), hash(zeroes[:nodeBytes])
	return t
}

func hash(p []byte) Hash { return blake3.Sum256(p) }

// Size of the disk in bytes.
func (t *Tree) Size() int64 { return t.size }

// Progress is how many bytes of the disk are digested (read, or known to be
// holes) at level 1 and above, and how many there are.
func (t *Tree) Progress() (done, total int64) { return t.hashed.Load(), t.size }

// Root is the digest of the whole disk. It says nothing about the disk's size:
// compare that too.
func (t *Tree) Root(ctx context.Context) (Hash, error) {
	h, err := t.Hashes(ctx, RootLevel(t.size), 0, 1)
	if err != nil {
		return Hash{}, err
	}
	return h[0], nil
}

// Hashes returns the hashes of count nodes of a level from index on. Invalid when
// the tree has no such nodes; the errors of the disk otherwise.
func (t *Tree) Hashes(ctx context.Context, level int, index, count int64) ([]Hash, error) {
	if err := checkNodes(t.size, level, index, count); err != nil {
		return nil, err
	}
	if level == 0 {
		return t.leaves(ctx, index, count)
	}
	first, last := index, index+count
	for range level - 1 {
		first, last = first*Fanout, last*Fanout
	}
	last = min(last, int64(len(t.level1)))
	if err := t.digest(ctx, first, last); err != nil {
		return nil, err
	}
	t.mu.RLock()
	hashes := append([]Hash{}, t.level1[first:last]...)
	t.mu.RUnlock()
	for range level - 1 {
		hashes = parents(hashes)
	}
	return hashes, ctx.Err()
}

func checkNodes(size int64, level int, index, count int64) error {
	top := RootLevel(size)
	if level < 0 || level > top || index < 0 || count < 0 || index > levelWidth(size, level)-count {
		return homeward.Errorf("digest disk", homeward.Invalid, fmt.Sprintf("level %d", level),
			fmt.Sprintf("the levels of a disk of %d bytes are 0 to %d", size, top),
			"no %d nodes from %d on", count, index)
	}
	return nil
}

// parents replaces the hashes of a level by those of the level above; the first
// one must be a first child.
func parents(children []Hash) []Hash {
	var buf [Fanout * len(Hash{})]byte
	up := children[:0]
	for len(children) > 0 {
		n := min(Fanout, len(children))
		for i := range n {
			copy(buf[i*len(Hash{}):], children[i][:])
		}
		up = append(up, hash(buf[:n*len(Hash{})]))
		children = children[n:]
	}
	return up
}

// leaves hashes blocks and keeps nothing.
func (t *Tree) leaves(ctx context.Context, first, count int64) ([]Hash, error) {
	hashes := make([]Hash, count)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(t.readers))
	for at := first; at < first+count; {
		n := min(Fanout-at%Fanout, first+count-at) // never across a node of level 1
		out, off := hashes[at-first:at-first+n], at*Size
		g.Go(func() error {
			return t.withBytes(ctx, off, min(n*Size, t.size-off), false, func(data []byte) {
				t.hashLeaves(out, data)
			})
		})
		at += n
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return hashes, nil
}

func (t *Tree) hashLeaves(out []Hash, data []byte) {
	for i := range out {
		leaf := data[i*Size : min((i+1)*Size, len(data))]
		if len(leaf) == Size && IsZero(leaf) {
			out[i] = t.zeroLeaf
		} else {
			out[i] = hash(leaf)
		}
	}
}

// withBytes reads n bytes, at most a node's, and lends them to use; whole says
// that they are known to hold data all over. It waits for one of the readers.
func (t *Tree) withBytes(ctx context.Context, off, n int64, whole bool, use func([]byte)) error {
	select {
	case t.readers <- struct{}{}:
		defer func() { <-t.readers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	buf := t.buffers.Get().(*[nodeBytes]byte)
	defer t.buffers.Put(buf)
	if err := t.read(buf[:n], off, whole); err != nil {
		return err
	}
	use(buf[:n])
	return nil
}

// read fills data from the disk, without reading holes.
func (t *Tree) read(data []byte, off int64, whole bool) error {
	if whole {
		_, err := t.disk.ReadAt(data, off)
		return err
	}
	for e, err := range Extents(t.disk, off, int64(len(data))) {
		if err != nil {
			return err
		}
		part := data[e.Off-off : e.Off-off+e.Len]
		if e.Zero {
			clear(part)
		} else if _, err := t.disk.ReadAt(part, e.Off); err != nil {
			return err
		}
	}
	return nil
}

// digest computes the nodes of level 1 in [first, last) that are not known yet.
func (t *Tree) digest(ctx context.Context, first, last int64) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(t.readers))
	err := func() error {
		for ; first < last; first += windowNodes {
			if err := t.digestWindow(ctx, g, first, min(first+windowNodes, last)); err != nil {
				return err
			}
		}
		return nil
	}()
	if waited := g.Wait(); waited != nil {
		return waited // the first failure; err is then that it stopped the rest
	}
	return err
}

// digestWindow sorts the nodes into holes, data and mixed, and hashes the latter two.
func (t *Tree) digestWindow(ctx context.Context, g *errgroup.Group, first, last int64) error {
	if t.known.CountRange(first, last-first) == last-first {
		return ctx.Err()
	}
	var data, zero [windowNodes]int64 // bytes of each node
	off := first * nodeBytes
	for e, err := range Extents(t.disk, off, min(last*nodeBytes, t.size)-off) {
		if err != nil {
			return err
		}
		tally := &data
		if e.Zero {
			tally = &zero
		}
		for at := e.Off; at < e.Off+e.Len; {
			next := min((at/nodeBytes+1)*nodeBytes, e.Off+e.Len)
			tally[at/nodeBytes-first] += next - at
			at = next
		}
	}
	for node := first; node < last; node++ {
		switch i := node - first; {
		case t.known.Has(node):
		case zero[i] == nodeBytes:
			t.learn(node, t.zeroNode)
		default:
			whole := zero[i] == 0
			g.Go(func() error { return t.hashNode(ctx, node, whole) })
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) hashNode(ctx context.Context, node int64, whole bool) error {
	off := node * nodeBytes
	return t.withBytes(ctx, off, min(nodeBytes, t.size-off), whole, func(data []byte) {
		if len(data) == nodeBytes && IsZero(data) {
			t.learn(node, t.zeroNode)
		} else {
			t.learn(node, hash(data))
		}
	})
}

func (t *Tree) learn(node int64, h Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known.Has(node) {
		return
	}
	t.level1[node] = h
	t.known.Set(node, 1)
	t.hashed.Add(min(nodeBytes, t.size-node*nodeBytes))
}
