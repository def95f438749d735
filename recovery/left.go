package recovery

import (
	"context"
	"fmt"
	"slices"

	"github.com/homeward-dr/homeward"
)

// Left is what a master target still has of an item that was led to another one.
type Left struct {
	Side   string   `json:"side"`
	Target string   `json:"target"`          // Side.TargetName
	Disks  []string `json:"disks,omitempty"` // of the replica there, that nobody else has
	First  bool     `json:"first,omitempty"` // Disks are those that the item was protected to at first
}

func (it *Item) leave(l Left) {
	it.Left = append(slices.DeleteFunc(it.Left, func(o Left) bool {
		if o.Target != l.Target || o.Side != l.Side {
			return false
		}
		l.Disks, l.First = append(l.Disks, o.Disks...), l.First || o.First
		return true
	}), l)
}

// RemoveLeft has a master target that was left forget the item, under the generation in
// force, and its disks removed. target nil: it is known never to come back, and only the
// disks go. After an error it is Left still, and is called again.
func (it *Item) RemoveLeft(ctx context.Context, l Left, target homeward.MasterTarget) error {
	if l.Target == it.Standby.TargetName || l.Target == it.Running.TargetName || it.Leaving != nil && l.Target == it.Leaving.To {
		target = nil // it has the item again, which is not to be forgotten
	}
	return it.removeLeft(ctx, l, target)
}

func (it *Item) removeLeft(ctx context.Context, l Left, role homeward.MasterTarget) error {
	name := "remove what " + l.Target + " has"
	if len(l.Disks) > 0 {
		name += fmt.Sprintf(", with disks %v", l.Disks)
	}
	return it.step(ctx, name, func(func(homeward.Progress)) error {
		if role != nil {
			if _, err := role.Forget(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.newest()}); err != nil {
				return err
			}
		}
		site := it.side(l.Side).Site
		for _, ref := range l.Disks {
			if it.uses(l.Side, ref) {
				continue
			}
			_, err := finish(ctx, site)(site.DeleteDisk(ctx, fmt.Sprintf("delete-%s-%s", it.ID(), homeward.NewID()), homeward.Ref{Native: ref}))
			if err != nil && homeward.KindOf(err) != homeward.NotFound {
				return err
			}
		}
		it.Left = slices.DeleteFunc(it.Left, func(o Left) bool { return o.Side == l.Side && o.Target == l.Target })
		return it.save()
	})
}

// uses reports whether a disk of a side is one of the item's copies, or will be.
func (it *Item) uses(side, ref string) bool {
	return slices.Contains(it.Copies(it.side(side)), ref) || side == it.Running.Name && slices.Contains(it.RunsOn, ref) ||
		it.Leaving != nil && slices.Contains(it.Leaving.Disks, ref)
}
