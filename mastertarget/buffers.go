package mastertarget

import (
	"context"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// piece is the buffer of one window.
type piece [windowBlocks * block.Size]byte

// pieces are used while one window is copied.
var pieces = sync.Pool{New: func() any { return new(piece) }}

// slabs hold the deltas on their way in, one each and a byte more to tell one
// that is too large. Their number is the bound; of each only what is ever written
// is resident.
type slabs chan []byte

func newSlabs(bytes int64) slabs {
	s := make(slabs, bytes/homeward.MaxDelta)
	for range cap(s) {
		s <- nil // made when it is first taken
	}
	return s
}

// take waits for a slab; give must follow.
func (s slabs) take(ctx context.Context) ([]byte, error) {
	select {
	case b := <-s:
		if b == nil {
			b = make([]byte, homeward.MaxDelta+1)
		}
		return b, nil
	case <-ctx.Done():
		return nil, homeward.Errorf("apply delta", homeward.KindOf(ctx.Err()), "memory for deltas", "send it again", "other deltas fill it: %w", ctx.Err())
	}
}

func (s slabs) give(b []byte) { s <- b }
