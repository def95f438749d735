package mastertarget

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// forget gives an item up. The record goes first: from then on there is no item,
// whatever a crash leaves of its files. The generation in force is remembered.
func (it preparer) forget(ctx context.Context, g homeward.Generation) error {
	const op = "forget item"
	if err := it.take(ctx, op); err != nil {
		return err
	}
	defer it.give()
	if err := it.fence.raise(op, g); err != nil {
		return err
	}
	if err := (promoter{it.item}).stopPromotion(); err != nil {
		return err
	}
	it.quiet()
	defer it.thinning.Unlock()
	if err := it.shut(ctx); err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	if err := durable.Remove(it.FS, it.path("item")); err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	it.change(func() { it.rec, it.tip, it.fault, it.paused = record{}, tip{}, nil, nil })
	return homeward.Wrap(it.wipe(), op, it.subject())
}

// wipe removes everything of an item that has no record, but for its fence and the
// note where it is.
func (it preparer) wipe() error {
	entries, err := it.FS.ReadDir(it.dir)
	for _, e := range entries {
		switch {
		case err != nil:
		case e.IsDir():
			err = removeDir(it.FS, it.path(e.Name()))
		case e.Name() != "fence" && e.Name() != volumeFile:
			err = durable.Remove(it.FS, it.path(e.Name()))
		}
	}
	if err == nil {
		it.pins, err = openPins(it.FS, it.path("pins"))
	}
	return err
}
