package agent

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	maxPending   = 256     // deltas that may be on their way, not yet applied
	keepSiblings = 64      // of abandoned attempts that are remembered when there are very many
	chainBytes   = 1 << 17 // holds maxPending+keepSiblings positions, as text, and the traffic
)

// chain is what this side knows about where the replica stands: the last position
// it is known to have applied, and every one it may have reached since without
// our learning it. A position is durable here before its delta is sent, so that
// after any crash the replica's position is either found in the chain, and the
// map can be trusted against it, or it is not, and that is said (I-0, 4.1).
// Safe for concurrent use.
type chain struct {
	fs   durable.FS
	path string

	mu      sync.Mutex
	cell    *durable.Cell
	failed  bool // the last store did
	applied homeward.Position
	pending []homeward.Position // in the order sent; abandoned attempts stay in
	sent    homeward.Traffic
	changed chan struct{} // closed and replaced when pending got shorter
}

// chainRecord is chain as stored.
type chainRecord struct {
	Applied homeward.Position   `json:"applied"`
	Pending []homeward.Position `json:"pending"`
	Sent    homeward.Traffic    `json:"sent"`
}

// openChain reads the chain at path; one that was never stored begins at base.
func openChain(fsys durable.FS, path string, base homeward.Position) (*chain, error) {
	cell, err := durable.OpenCell(fsys, path, chainBytes)
	if err != nil {
		return nil, err
	}
	c := &chain{fs: fsys, path: path, cell: cell, applied: base, changed: make(chan struct{})}
	data, err := cell.Load()
	if err == nil && data != nil {
		var r chainRecord
		if err = json.Unmarshal(data, &r); err == nil {
			c.applied, c.pending, c.sent = r.Applied, r.Pending, r.Sent
		}
	} else if err == nil {
		err = c.store()
	}
	if err != nil {
		_ = cell.Close()
		return nil, homeward.Wrap(err, "read positions", path)
	}
	return c, nil
}

// store, with mu held or before anybody else knows c, makes the chain durable.
func (c *chain) store() error {
	data, err := json.Marshal(chainRecord{Applied: c.applied, Pending: c.pending, Sent: c.sent})
	if err != nil {
		return err
	}
	err = c.cell.Store(data)
	c.failed = err != nil
	return err
}

// mend opens the file anew after a store failed: a file whose sync failed is
// never written again (I-10).
func (c *chain) mend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.failed {
		return nil
	}
	cell, err := durable.OpenCell(c.fs, c.path, chainBytes)
	if err != nil {
		return err
	}
	_ = c.cell.Close() // it holds nothing that is not in memory
	c.cell = cell
	return c.store()
}

// admit makes p durable as one the replica may reach from now on.
func (c *chain) admit(p homeward.Position, sent homeward.Traffic) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, p)
	c.sent = sent
	if err := c.store(); err != nil {
		c.pending = c.pending[:len(c.pending)-1]
		return homeward.Wrap(err, "record position", p.String())
	}
	return nil
}

// room is nil while another delta may be sent; else it is closed when that may have changed.
func (c *chain) room() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) < maxPending {
		return nil
	}
	return c.changed
}

// advance notes that p is applied. It reports whether that is news; a position
// that is neither in the chain nor behind it is not known.
//
// It is made durable with the next admit only: until then the chain names more
// positions than it must, which is harmless.
func (c *chain) advance(p homeward.Position) (news, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p == c.applied {
		return false, true
	}
	if !slices.Contains(c.pending, p) {
		return false, p.Generation == c.applied.Generation && p.Sequence <= c.applied.Sequence
	}
	c.applied = p
	c.pending = slices.DeleteFunc(c.pending, func(q homeward.Position) bool { return q.Sequence <= p.Sequence })
	close(c.changed)
	c.changed = make(chan struct{})
	return true, true
}

// knows reports whether the replica may stand at p as far as this side knows.
func (c *chain) knows(p homeward.Position) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p == c.applied || slices.Contains(c.pending, p)
}

// resume prepares to go on from tip. Attempts that were abandoned stay known, for
// one may still arrive; when there are very many, the oldest are forgotten: should
// the replica turn up there after all, that is found out and said.
func (c *chain) resume(tip homeward.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead := func(q homeward.Position) bool { return q.Sequence > tip.Sequence }
	surplus := -keepSiblings
	for _, q := range c.pending {
		if ahead(q) {
			surplus++
		}
	}
	c.pending = slices.DeleteFunc(c.pending, func(q homeward.Position) bool {
		if !ahead(q) || surplus <= 0 {
			return false
		}
		surplus--
		return true
	})
}

// stands is the last applied position and those after it.
func (c *chain) stands() (applied homeward.Position, pending []homeward.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applied, slices.Clone(c.pending)
}

// traffic is what was counted when a delta was last admitted.
func (c *chain) traffic() homeward.Traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// replace makes c what next is, which nobody else knows yet, and returns the path of
// the file it had.
func (c *chain) replace(next *chain) (was string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.cell.Close() // what it holds is of a leg that is over
	was, c.path = c.path, next.path
	c.cell, c.failed, c.applied, c.pending, c.sent = next.cell, next.failed, next.applied, next.pending, next.sent
	close(c.changed)
	c.changed = make(chan struct{})
	return was
}

func (c *chain) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cell.Close()
}
