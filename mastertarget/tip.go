package mastertarget

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	maxTip    = 2 << 20 // bytes of the position record: delta.DefaultMaxManifest, escaped, and the rest
	maxRecent = 32      // positions remembered to know a delta that comes again
)

// tip is the position record: where the replica stands, all disks of it. To store
// it is the commit of a step; whatever the undo directory has beyond it is hot.
type tip struct {
	Boundary uint64            `json:"boundary"` // in the chain; 0: nothing yet
	Position homeward.Position `json:"position"`
	Mark     homeward.Mark     `json:"mark"`
	At       time.Time         `json:"at"` // Mark.At, clamped
	Machine  homeward.Machine  `json:"machine"`
	// Recent are positions the replica came through lately, newest last, some of
	// which no segment names any more.
	Recent       []homeward.Position `json:"recent,omitempty"`
	AppliedBytes int64               `json:"applied_bytes"` // plain bytes since Prepare
}

func loadTip(c *durable.Cell) (tip, error) {
	var t tip
	data, err := c.Load()
	if err != nil || data == nil {
		return t, err
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, homeward.Errorf("read position", homeward.Corrupt, "", "verify the item", "%w", err)
	}
	return t, nil
}

func (t tip) store(c *durable.Cell) error {
	data, err := json.Marshal(t)
	if err != nil {
		return homeward.Errorf("store position", homeward.Internal, "", "", "%w", err)
	}
	return c.Store(data)
}

// next is the tip one step further.
func (t tip) next(p homeward.Position, mark homeward.Mark, machine homeward.Machine) tip {
	n := tip{Boundary: t.Boundary + 1, Position: p, Mark: mark, Machine: machine, AppliedBytes: t.AppliedBytes}
	n.At = clamp(mark.At, t.At)
	n.Recent = append(slices.Clone(t.Recent), t.Position)
	if over := len(n.Recent) - maxRecent; over > 0 {
		n.Recent = n.Recent[over:]
	}
	return n
}

// clamp keeps times of points from going back when a clock does.
func clamp(at, floor time.Time) time.Time {
	if at.Before(floor) {
		return floor
	}
	return at.UTC()
}
