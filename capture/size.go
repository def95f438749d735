package capture

import (
	"math/bits"

	"github.com/homeward-dr/homeward/block"
)

// Bytes is the size of the blocks of a cut while it is frozen, else 0. It needs no
// memory, unlike Map.
func (c *Cut) Bytes() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != cutFrozen {
		return 0
	}
	for _, b := range c.frozen {
		n += b.count() * block.Size
	}
	return n
}

// DirtyBytes is the size of Dirty, without making the map.
func (m *Machine) DirtyBytes(disk int) (n int64) {
	d := m.disks[disk]
	for p := range pagesFor(d.blocks) {
		if d.hasPage(changedMap, p) {
			for _, w := range d.snapshot(changedMap, p) {
				n += int64(bits.OnesCount64(w)) * block.Size
			}
		}
	}
	return n
}

// SuspectBytes is the size of Suspect, without making the map.
func (m *Machine) SuspectBytes(disk int) int64 { return m.disks[disk].suspect.count() * block.Size }
