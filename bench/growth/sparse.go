package growth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/block"
)

// sparse measures maps and digests of disks that are large and mostly empty.
func sparse(ctx context.Context, b *measure.Bench) (all []measure.Series, err error) {
	sizes, filled := []int64{256 << 30}, int64(128<<20)
	if b.Smoke {
		sizes, filled = []int64{8 << 30}, 16<<20
	}
	if b.Full {
		sizes, filled = []int64{1 << 40, 4 << 40}, 1<<30
	}
	for _, size := range sizes {
		b.Say("map and digest of %d GiB, sparse", size>>30)
		s, err := measure.Alternate(ctx, b.Rounds, []measure.Label{label("figure", "sparse"), label("disk", "%d GiB", size>>30), label("filled", "%d MiB", filled>>20)},
			measure.Contender{Name: ours, Measure: func(ctx context.Context) (measure.Values, error) { return twins(ctx, b, size, filled) }})
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	return all, nil
}

const changed = 1000 // about so many blocks differ

// twins makes two sparse images that differ in some blocks, and finds these by digest.
func twins(ctx context.Context, b *measure.Bench, size, filled int64) (v measure.Values, err error) {
	dir, err := os.MkdirTemp(b.Dir, "sparse-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var twin [2]block.Disk
	for i := range twin {
		name := "file:" + filepath.Join(dir, fmt.Sprintf("twin%d.img", i))
		if twin[i], err = block.OpenFile(ctx, name, block.Mode{Create: true, Size: size}); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, twin[i].Close()) }()
	}
	want, err := differ(twin, size, filled, b.Seed)
	if err != nil {
		return nil, err
	}
	o, err := startOwn()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	found, _, err := block.Compare(ctx, block.NewTree(twin[0]), block.NewTree(twin[1]), nil)
	seconds := time.Since(began).Seconds()
	cpu, peak, e := o.end()
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	if !found.Equal(want) {
		return nil, fmt.Errorf("%d blocks differ, %d were found", want.Count(), found.Count())
	}
	began = time.Now()
	packed, err := found.MarshalBinary()
	if err != nil {
		return nil, err
	}
	pack := time.Since(began).Seconds()
	return measure.Values{"digest_seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, "map_bytes": float64(8 * len(found.Words())),
		"packed_bytes": float64(len(packed)), "pack_seconds": pack}, nil
}

// differ writes the same content to both in places all over them, and other content
// into some blocks of it in one of them.
func differ(twin [2]block.Disk, size, filled int64, seed uint64) (*block.Map, error) {
	rng := rand.New(rand.NewPCG(seed, uint64(size)))
	content := rand.NewChaCha8([32]byte{byte(seed)})
	const piece = 1 << 20
	data, other := make([]byte, piece), make([]byte, block.Size)
	differ := block.NewMap(block.BlocksOf(size))
	pieces := filled / piece
	stride := size / pieces
	for i := range pieces {
		_, _ = content.Read(data) // never fails
		at := i*stride + rng.Int64N(stride/piece)*piece
		for _, d := range twin {
			if _, err := d.WriteAt(data, at); err != nil {
				return nil, err
			}
		}
		for range (changed + pieces - 1) / pieces {
			_, _ = content.Read(other)
			off := at + rng.Int64N(piece/block.Size)*block.Size
			if _, err := twin[1].WriteAt(other, off); err != nil {
				return nil, err
			}
			differ.SetBytes(off, block.Size)
		}
	}
	return differ, errors.Join(twin[0].Flush(), twin[1].Flush())
}
