package recovery

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// sampleBlocks is how many blocks outside the maps are compared on each disk
// before the maps are trusted: 256 KiB read on each side.
const sampleBlocks = 64

// looksAgain is how often blocks that differ are looked at again before the map
// is held to have missed them.
const looksAgain = 3

// sample compares random blocks outside the maps. A difference there means that
// a map missed a write, so nothing it left out can be believed: the whole disk
// becomes suspect, with the reason.
func (it *Item) sample(ctx context.Context, set *differences) (read int64, err error) {
	for i := range set.disks {
		d := &set.disks[i]
		outside := pick(d)
		if outside.Count() == 0 {
			continue
		}
		differ, n, err := it.compareWithin(ctx, d.disk, outside)
		read += n
		if err != nil {
			return read, err
		}
		if differ, err = it.unexplained(ctx, i, differ); err != nil {
			return read, err
		}
		// What was written, shipped and applied between the two questions looks missed,
		// but only once.
		for again := 0; again < looksAgain && differ.Count() > 0; again++ {
			if differ, n, err = it.compareWithin(ctx, d.disk, differ); err == nil {
				read += n
				differ, err = it.unexplained(ctx, i, differ)
			}
			if err != nil {
				return read, err
			}
		}
		if n := differ.Count(); n > 0 {
			d.suspect.Set(0, d.suspect.Blocks())
			d.reasons = append(d.reasons, fmt.Sprintf("%d of %d sampled blocks outside the map differ", n, outside.Count()))
			it.Log.Warn("map not trusted", "item", it.ID(), "disk", d.disk.ID, "differ", n, "sampled", outside.Count())
		}
	}
	return read, nil
}

// unexplained leaves of differ what the running capture does not know to be
// written: a block written while it was sampled differs rightly.
func (it *Item) unexplained(ctx context.Context, disk int, differ *block.Map) (*block.Map, error) {
	if differ.Count() == 0 {
		return differ, nil
	}
	now, err := it.Running.Agent.Changes(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return nil, err
	}
	written := block.NewMap(differ.Blocks())
	if err := orInto(written, now.Disks[disk].Changed); err != nil {
		return nil, err
	}
	differ.AndNot(written)
	return differ, nil
}

// pick chooses blocks outside the maps of a disk.
func pick(d *diskDifferences) *block.Map {
	in := d.union()
	in.Or(d.suspect)
	out := block.NewMap(in.Blocks())
	for range 4 * sampleBlocks { // a nearly full map may leave few to find
		if b := rand.Int64N(in.Blocks()); !in.Has(b) {
			out.Set(b, 1)
		}
		if out.Count() == sampleBlocks {
			break
		}
	}
	return out
}
