package mastertarget

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	smallTip  = 64 << 10 // bytes of the position record at first; it grows with a large manifest
	maxRecent = 32       // positions remembered to know a delta that comes again
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
	AppliedBytes int64               `json:"applied_bytes"` // of blocks applied since Prepare
}

// tipCell is the file of the position record.
type tipCell struct {
	fsys durable.FS
	path string
	cell *durable.Cell
	max  int
}

// openTip opens the file and reads the record; a zero tip if none was stored yet.
func openTip(fsys durable.FS, path string) (*tipCell, tip, error) {
	c := &tipCell{fsys: fsys, path: path, max: smallTip}
	var err error
	if c.cell, err = durable.OpenCell(fsys, path, c.max); err != nil {
		return nil, tip{}, err
	}
	t, err := c.load()
	if err != nil {
		return nil, tip{}, errors.Join(err, c.cell.Close())
	}
	return c, t, nil
}

func (c *tipCell) load() (t tip, err error) {
	data, err := c.cell.Load()
	if err != nil || data == nil {
		return t, err
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, homeward.Errorf("read position", homeward.Corrupt, c.path, "forget the item and prepare it again", "%w", err)
	}
	return t, nil
}

// store commits a tip. One caller at a time. After an error only openTip can tell
// which one is stored.
func (c *tipCell) store(t tip) error {
	data, err := json.Marshal(t)
	if err != nil {
		return homeward.Errorf("store position", homeward.Internal, c.path, "", "%w", err)
	}
	if len(data) > c.max { // a larger machine manifest than any before
		larger, err := durable.OpenCell(c.fsys, c.path, 2*len(data))
		if err != nil {
			return err
		}
		old := c.cell
		c.cell, c.max = larger, 2*len(data)
		if err := old.Close(); err != nil {
			return err
		}
	}
	return c.cell.Store(data)
}

func (c *tipCell) close() error { return c.cell.Close() }

// next is the tip one step further, at a boundary that the chain has numbered.
func (t tip) next(boundary uint64, p homeward.Position, mark homeward.Mark, machine homeward.Machine) tip {
	n := tip{Boundary: boundary, Position: p, Mark: mark, Machine: machine, AppliedBytes: t.AppliedBytes}
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
