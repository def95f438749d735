package block

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
)

const (
	compareBatch = 1024 // hashes asked for at once: 32 KiB from each side
	compareLeafs = 8    // batches of leaves under way at once
)

// Hasher is one side of a comparison: a Tree, or one at the other end of a wire.
type Hasher interface {
	// Hashes returns the hashes of count nodes of a level from index on.
	Hashes(ctx context.Context, level int, index, count int64) ([]Hash, error)
	// Size of the disk in bytes.
	Size() int64
}

// CompareStats tells what a comparison took.
type CompareStats struct {
	Nodes     int64 // compared above the leaves
	Leaves    int64 // compared
	Differ    int64 // blocks that differ
	HashBytes int64 // of hashes that each side told
}

// Compare finds the blocks in which two disks of the same size differ. It goes
// down only where nodes differ, so sides that are equal tell each other one hash.
// With within, it only looks at the blocks in it. Memory is bounded by the map it
// returns and some batches of hashes. Invalid when the sizes differ.
func Compare(ctx context.Context, a, b Hasher, within *Map) (*Map, CompareStats, error) {
	size := a.Size()
	if size != b.Size() {
		return nil, CompareStats{}, homeward.Errorf("compare disks", homeward.Invalid, "",
			"compare disks of the same size", "they have %d and %d bytes", size, b.Size())
	}
	if within != nil && within.Blocks() != BlocksOf(size) {
		return nil, CompareStats{}, homeward.Errorf("compare disks", homeward.Invalid, "",
			"use a map of this disk", "a map of %d blocks for a disk of %d", within.Blocks(), BlocksOf(size))
	}
	c := &comparison{a: a, b: b, size: size, differ: NewMap(BlocksOf(size))}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(compareLeafs)
	c.leaves = g
	err := c.descend(ctx, within)
	if waited := g.Wait(); waited != nil {
		err = waited // the first failure; it ended the rest
	}
	stats := CompareStats{Nodes: c.nodes.Load(), Leaves: c.compared.Load(), Differ: c.differ.Count()}
	stats.HashBytes = (stats.Nodes + stats.Leaves) * int64(len(Hash{}))
	if err != nil {
		return nil, stats, homeward.Wrap(err, "compare disks", "")
	}
	return c.differ, stats, nil
}

type comparison struct {
	a, b            Hasher
	size            int64
	differ          *Map
	leaves          *errgroup.Group
	nodes, compared atomic.Int64
}

// descend compares from the root, or from the largest nodes that lie in within.
func (c *comparison) descend(ctx context.Context, within *Map) error {
	if within == nil {
		return c.nodeRange(ctx, RootLevel(c.size), 0, 1)
	}
	for run := range within.Runs(0) {
		if err := c.blockRange(ctx, 0, run.Start, run.Start+run.Count); err != nil {
			return err
		}
	}
	return nil
}

// blockRange covers the nodes [first, last) of a level by the largest nodes that
// hold nothing else: the ends by nodes of this level, the middle from above.
func (c *comparison) blockRange(ctx context.Context, level int, first, last int64) error {
	up, down := (first+Fanout-1)/Fanout, last/Fanout
	if last == levelWidth(c.size, level) { // the disk's last node may have fewer children
		down = (last + Fanout - 1) / Fanout
	}
	if up >= down || level == RootLevel(c.size) {
		return c.nodeRange(ctx, level, first, last-first)
	}
	if err := c.nodeRange(ctx, level, first, up*Fanout-first); err != nil {
		return err
	}
	if err := c.blockRange(ctx, level+1, up, down); err != nil {
		return err
	}
	return c.nodeRange(ctx, level, min(down*Fanout, last), last-min(down*Fanout, last))
}

// nodeRange compares count nodes and goes down where they differ.
func (c *comparison) nodeRange(ctx context.Context, level int, index, count int64) error {
	for end := index + count; index < end; {
		n := min(compareBatch, end-index)
		from := index
		index += n
		if level == 0 {
			c.leaves.Go(func() error { return c.leafRange(ctx, from, n) })
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		c.nodes.Add(n)
		err := c.diff(ctx, level, from, n, func(first, last int64) error {
			return c.nodeRange(ctx, level-1, first*Fanout,
				min(last*Fanout, levelWidth(c.size, level-1))-first*Fanout)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) leafRange(ctx context.Context, index, count int64) error {
	c.compared.Add(count)
	return c.diff(ctx, 0, index, count, func(first, last int64) error {
		c.differ.Set(first, last-first)
		return nil
	})
}

// diff asks both sides and calls do for every run [first, last) of nodes that differ.
func (c *comparison) diff(ctx context.Context, level int, index, count int64, do func(first, last int64) error) error {
	var mine, theirs []Hash
	g, asking := errgroup.WithContext(ctx)
	ask := func(h Hasher, into *[]Hash) func() error {
		return func() (err error) {
			*into, err = h.Hashes(asking, level, index, count)
			if err == nil && int64(len(*into)) != count {
				err = homeward.Errorf("compare disks", homeward.Corrupt, "", "compare again",
					"a side told %d hashes of %d", len(*into), count)
			}
			return err
		}
	}
	g.Go(ask(c.a, &mine))
	g.Go(ask(c.b, &theirs))
	if err := g.Wait(); err != nil {
		return err
	}
	for i := int64(0); i < count; {
		if mine[i] == theirs[i] {
			i++
			continue
		}
		first := i
		for i < count && mine[i] != theirs[i] {
			i++
		}
		if err := do(index+first, index+i); err != nil {
			return err
		}
	}
	return nil
}
