package world

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/recovery"
)

// snapshot is what a point was when it was first seen.
type snapshot struct {
	content [32]byte
	seen    Observed
}

// Hash is a fingerprint of the contents of a machine's disks.
func Hash(contents [][]byte) [32]byte {
	h := blake3.New()
	for _, c := range contents {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(c)))) // a hash takes everything
		_, _ = h.Write(c)
	}
	return [32]byte(h.Sum(nil))
}

// ReadPoint reads a point through a read-only view of a master target.
func (w *World) ReadPoint(ctx context.Context, side *recovery.Side, item homeward.ItemID, at homeward.Position) (contents [][]byte, err error) {
	req := homeward.ViewRequest{Item: item, Name: "model", Point: at, Kind: homeward.ViewReadOnly}
	v, err := side.Target.OpenView(ctx, req)
	if err != nil {
		return nil, err
	}
	defer func() {
		_, e := side.Target.CloseView(context.WithoutCancel(ctx), req)
		err = errors.Join(err, e)
	}()
	for _, d := range v.Disks {
		c, err := nbd.Dial(ctx, nbd.ClientOptions{URI: d.URI, ReadOnly: true})
		if err != nil {
			return nil, err
		}
		p := make([]byte, c.Size())
		_, err = c.ReadAt(p, 0)
		if err = errors.Join(err, c.Close()); err != nil {
			return nil, err
		}
		contents = append(contents, p)
	}
	return contents, nil
}

// Media reads what the disks of a machine at a site hold.
func (w *World) Media(s *Site, m homeward.Machine) (contents [][]byte) {
	for _, d := range m.Disks {
		contents = append(contents, s.Medium(m.Item, d).Content())
	}
	return contents
}

// CheckPoint holds a point against the life it is of: it is the state at one
// instant, and the same whenever it is looked at.
func (w *World) CheckPoint(ctx context.Context, side *recovery.Side, item homeward.ItemID, p homeward.Point) (Observed, error) {
	contents, err := w.ReadPoint(ctx, side, item, p.Position)
	if err != nil {
		return Observed{}, fmt.Errorf("read point: %w", err)
	}
	hash := Hash(contents)
	w.mu.Lock()
	before, known := w.points[p.Position]
	w.mu.Unlock()
	if known && before.content == hash {
		return before.seen, nil
	}
	if known {
		return Observed{}, fmt.Errorf("point %v is not what it was", p.Position)
	}
	var seen Observed
	if p.Position.Sequence > 0 { // else it is a base: what the disks held when a leg began
		t := w.Timeline(item, p.Position.Generation)
		if t == nil {
			return Observed{}, fmt.Errorf("point %v is of a life that was never lived", p.Position)
		}
		seen = t.Observe(contents)
		if err := Between(always, w.Clock.Tick(), seen); err != nil {
			return seen, fmt.Errorf("point %v: %w", p.Position, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.points[p.Position] = snapshot{hash, seen}
	return seen, nil
}

// Known is the fingerprint of a point that was checked before.
func (w *World) Known(p homeward.Position) (hash [32]byte, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.points[p]
	return s.content, ok
}
