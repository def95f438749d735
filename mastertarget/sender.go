package mastertarget

import "github.com/homeward-dr/homeward"

// MaySend reports whether a process server of this name may send deltas of an item:
// Forbidden when the leg is bound to another one. An item that is not known is
// refused by Put itself.
func (t *Target) MaySend(id homeward.ItemID, name string) error {
	it, err := t.item("authorize", id, false)
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if from := it.state().Leg.From; from != "" && from != name {
		return homeward.Errorf("authorize", homeward.Forbidden, it.subject(),
			"send by way of "+from+", or prepare the replica to take them from "+name, "its deltas come from %s, not from %s", from, name)
	}
	return nil
}
