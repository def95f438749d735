package mastertarget

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// fence holds the generation in force for an item, durably: it outlives Forget.
type fence struct {
	fsys durable.FS
	path string
	item homeward.ItemID

	mu      sync.Mutex
	current homeward.Generation
}

type fenceRecord struct {
	Generation homeward.Generation `json:"generation"`
}

func openFence(fsys durable.FS, path string, item homeward.ItemID) (*fence, error) {
	f := &fence{fsys: fsys, path: path, item: item}
	var rec fenceRecord
	if err := durable.ReadJSON(fsys, path, &rec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f.current = rec.Generation
	return f, nil
}

// generation is the one in force; zero: none was ever set.
func (f *fence) generation() homeward.Generation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

// check refuses a holder of an older generation.
func (f *fence) check(op string, g homeward.Generation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refuse(op, g)
}

func (f *fence) refuse(op string, g homeward.Generation) error {
	if !f.current.Fences(g) {
		return nil
	}
	return homeward.Errorf(op, homeward.Fenced, "item "+string(f.item),
		"stop: the item has moved on without this side", "generation %d is not in force: %w",
		g.Number, &homeward.FencedError{InForce: f.current})
}

// raise makes g the generation in force, durably before it returns.
func (f *fence) raise(op string, g homeward.Generation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g.IsZero() {
		return homeward.Errorf(op, homeward.Invalid, "generation", "give the generation to act for", "missing")
	}
	if err := f.refuse(op, g); err != nil || g == f.current {
		return err
	}
	if err := durable.WriteJSON(f.fsys, f.path, fenceRecord{g}); err != nil {
		return homeward.Wrap(err, op, "item "+string(f.item))
	}
	f.current = g
	return nil
}
