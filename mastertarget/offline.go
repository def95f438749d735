package mastertarget

import (
	"context"
	"path/filepath"

	"github.com/homeward-dr/homeward"
)

// OpenOffline opens a retention volume with nothing else alive: no vault, no
// process server, no agent. It is Open without the work that nobody asked for:
// no thinning, no promotion goes on. Items, Points, Verify and OpenView then tell
// and serve what is there; Recover boots it. A directory that holds no item is
// NotFound, and nothing is created there.
func OpenOffline(ctx context.Context, c Config) (*Target, error) {
	const op = "open volume"
	if err := c.Validate(); err != nil {
		return nil, err
	}
	found, err := holdsItems(c.withDefaults())
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		return nil, homeward.Wrap(err, op, c.Dir)
	}
	if !found {
		return nil, homeward.Errorf(op, homeward.NotFound, c.Dir, "give the directory of a master target, such as DIR/mt-away", "no replica here")
	}
	return open(ctx, c, true)
}

// holdsItems looks for a directory with a record of an item, whole or damaged. The
// lock file tells nothing: other roles have one too, and a copy of a volume may
// lack it.
func holdsItems(c Config) (bool, error) {
	entries, err := c.FS.ReadDir(c.Dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !e.IsDir() || homeward.ItemID(e.Name()).Validate() != nil {
			continue
		}
		for _, record := range []string{"fence", volumeFile, "item", "position"} {
			info, err := c.FS.Stat(filepath.Join(c.Dir, e.Name(), record))
			if err == nil && info.Mode().IsRegular() {
				return true, nil
			}
			if err != nil && homeward.KindOf(err) != homeward.NotFound {
				return false, err
			}
		}
	}
	return false, nil
}

// Recover breaks the glass: it fails an item over to a point (zero: the newest
// bootable one) under a generation raised from what this target alone knows, and
// returns the view to boot. Asked again for the same point it finds the view;
// for another one it changes the point, which drops what was written to the view.
// The vault, when it comes back, learns the generation from Report and adopts it. That
// the view was given out by hand is recorded before it is served (View.ByHand).
func Recover(ctx context.Context, t *Target, id homeward.ItemID, point homeward.Position) (homeward.View, error) {
	it, err := t.item("recover", id, false)
	if err != nil {
		return homeward.View{}, err
	}
	if f := it.state().FailOver; f != nil && (point.IsZero() || point == f.Tip.Position) {
		if err := it.take(ctx, "recover"); err != nil {
			return homeward.View{}, err
		}
		defer it.give()
		err := it.update("recover", func(r *record) {
			given := *r.FailOver
			given.ByHand = true
			r.FailOver = &given
		})
		if err != nil {
			return homeward.View{}, err
		}
		return takeover{it}.servedFailOver(ctx, "recover")
	}
	g := it.fence.generation().Next()
	return takeover{it}.failOver(ctx, homeward.FailOverRequest{Item: id, Generation: g, Point: point}, true)
}
