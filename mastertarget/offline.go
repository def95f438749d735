package mastertarget

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// OpenOffline opens a retention volume with nothing else alive: no vault, no
// process server, no agent. It is Open without the work that nobody asked for:
// no thinning, no promotion goes on. Items, Points, Verify and OpenView then tell
// and serve what is there; Recover boots it.
func OpenOffline(ctx context.Context, c Config) (*Target, error) { return open(ctx, c, true) }

// Recover breaks the glass: it fails an item over to a point (zero: the newest
// bootable one) under a generation raised from what this target alone knows, and
// returns the view to boot. Asked again for the same point it finds the view;
// for another one it changes the point, which drops what was written to the view.
// The vault, when it comes back, learns the generation from Report and adopts it.
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
		return takeover{it}.servedFailOver(ctx, "recover")
	}
	g := it.fence.generation().Next()
	return t.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: g, Point: point})
}
