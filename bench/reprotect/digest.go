package reprotect

import (
	"context"
	"fmt"
	"os"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/block"
)

// Who reads a disk to compare it.
const (
	atSource = "source (agent)"
	atTarget = "target (master target)"
	bareRead = "bare reading"
)

// The values of label "cache".
const (
	cached   = "cached"
	uncached = "not cached"
)

// What the agent digests, as label "machine's disk" tells.
const (
	itsOwn = "an image"                         // before any failover
	served = "an export of the master target's" // after one
)

// digests measures how fast each side digests a disk, alone.
func (r *rig) digests(ctx context.Context, o *ours, on string, f *measure.Figure) error {
	for _, cache := range []string{cached, uncached} {
		contender := func(name string, do func(ctx context.Context) (int64, error)) measure.Contender {
			return measure.Contender{Name: name, Measure: func(ctx context.Context) (measure.Values, error) {
				return r.reading(ctx, o, cache, do)
			}}
		}
		disk := o.disk(o.st.Home)
		r.b.Say("  digests of %s, %s, %s", size(o.size), on, cache)
		s, err := measure.Alternate(ctx, r.rounds(),
			[]measure.Label{label("part", "digest"), label("disk", size(o.size)), label("machine's disk", on), label("cache", cache)},
			contender(bareRead, func(ctx context.Context) (int64, error) { return bare(ctx, disk) }),
			contender(atSource, func(ctx context.Context) (int64, error) { return o.digest(ctx, o.st.Home.Side.Agent) }),
			contender(atTarget, func(ctx context.Context) (int64, error) { return o.digest(ctx, o.st.Away.Side.Target) }))
		f.Series = append(f.Series, s)
		if err != nil {
			return err
		}
	}
	return nil
}

// reading times one reading of the disk, all of which has to be read.
func (r *rig) reading(ctx context.Context, o *ours, cache string, do func(context.Context) (int64, error)) (measure.Values, error) {
	if err := o.touch(ctx); err != nil {
		return nil, err
	}
	for _, p := range []string{o.disk(o.st.Home), o.disk(o.st.Away)} {
		err := forgetCached(p)
		if err == nil && cache == cached {
			_, err = bare(ctx, p)
		}
		if err != nil {
			return nil, err
		}
	}
	var read int64
	v, err := r.take(ctx, pids{source: pidsOf(o.st.Home), target: pidsOf(o.st.Away)}, home, away, nil, func(*attempt) (err error) {
		read, err = do(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if least := min(o.size, filled); read < least {
		return nil, fmt.Errorf("%d bytes were read of %d", read, least)
	}
	v["rate"] = float64(read) / v["seconds"]
	return v, nil
}

// digest has one side digest the whole disk, and tells how much of it was read.
func (o *ours) digest(ctx context.Context, side homeward.Prover) (int64, error) {
	rep, err := side.Digest(ctx, homeward.DigestRequest{Item: o.st.Item.ID(), Disk: o.st.Machine().Disks[0].ID,
		Level: block.RootLevel(o.size), Count: 1})
	return rep.Read, err
}

// touch changes a block and has that replicated: a side that keeps digests may not
// answer from those of before.
func (o *ours) touch(ctx context.Context) error {
	o.r.seed++
	err := o.write(ctx, o.st.Home, change{pattern: random, bytes: homeward.BlockSize, disk: min(o.size, filled), seed: o.r.seed})
	if err == nil {
		_, err = o.st.Home.Side.Agent.Cut(ctx, homeward.CutRequest{Item: o.st.Item.ID(), Kind: homeward.MarkCrash})
	}
	return err
}

// bare reads a file as fast as all processors can, a MiB at a time.
func bare(ctx context.Context, path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	n := min(st.Size(), filled)
	return n, inPieces(ctx, n, func(buf, _ []byte, at int64) error {
		_, err := f.ReadAt(buf, at)
		return err
	})
}
