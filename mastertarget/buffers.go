package mastertarget

import (
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// piece is the buffer of one window.
type piece [windowBlocks * block.Size]byte

var (
	// pieces are used while one window is copied.
	pieces = sync.Pool{New: func() any { return new(piece) }}
	// slabs hold a delta each, and a byte more to tell one that is too large;
	// Config.ApplyBytes bounds those in use, and only what is written of one is
	// resident.
	slabs = sync.Pool{New: func() any { b := make([]byte, homeward.MaxDelta+1); return &b }}
)
