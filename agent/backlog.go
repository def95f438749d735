package agent

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// backlog is the part of the map that is too large to be cut at once: the initial
// sync, and what gathers while the link is out. It travels in rounds without a
// mark, a bounded part at a time, each part being moved into the capture's map
// when its turn comes. So a round never needs more saved copies than there is
// room for, and a restart goes on where it was.
//
// Blocks are durable here before they leave the capture's map, and there before
// they leave here; a crash between leaves them in both (I-0). One goroutine
// changes it, others may read.
type backlog struct {
	fs  durable.FS
	dir string

	mu    sync.Mutex
	disks []homeward.Disk
	maps  []*block.Map // by disk; nil: empty
}

func backlogName(disk int) string { return fmt.Sprintf("backlog-%d", disk) }

// createBacklog makes an empty one for a new leg.
func createBacklog(fsys durable.FS, dir string, disks []homeward.Disk) error {
	b := &backlog{fs: fsys, dir: dir, disks: disks, maps: make([]*block.Map, len(disks))}
	for i := range disks {
		if err := b.store(i); err != nil {
			return err
		}
	}
	return nil
}

// openBacklog reads it. Disks whose file is missing or damaged are in lost: every
// block of them may be missing at the replica.
func openBacklog(fsys durable.FS, dir string, disks []homeward.Disk) (b *backlog, lost map[int]error, err error) {
	b = &backlog{fs: fsys, dir: dir, disks: disks}
	lost = map[int]error{}
	for i, d := range disks {
		path := filepath.Join(dir, backlogName(i))
		data, err := durable.ReadFile(fsys, path)
		var m *block.Map
		if err == nil {
			m, err = mapOf(path, data, d)
		}
		switch homeward.KindOf(err) {
		case "":
		case homeward.NotFound, homeward.Corrupt, homeward.Invalid:
			lost[i], m = err, nil
		default:
			return nil, nil, err
		}
		if m != nil && m.Count() == 0 {
			m = nil
		}
		b.maps = append(b.maps, m)
	}
	return b, lost, nil
}

// store, with mu held or before anybody else knows b, makes one disk's map durable.
func (b *backlog) store(disk int) error {
	m := b.maps[disk]
	if m == nil {
		m = block.NewMap(b.disks[disk].Blocks())
	}
	data, err := m.MarshalBinary()
	if err == nil {
		err = durable.WriteFile(b.fs, filepath.Join(b.dir, backlogName(disk)), data, 0o600)
	}
	return homeward.Wrap(err, "store backlog", fmt.Sprintf("disk %d", disk))
}

// add puts blocks on it, durably.
func (b *backlog) add(disk int, m *block.Map) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Count() == 0 {
		return nil
	}
	if b.maps[disk] == nil {
		b.maps[disk] = block.NewMap(m.Blocks())
	}
	b.maps[disk].Or(m)
	return b.store(disk)
}

// bytes is how much is on it.
func (b *backlog) bytes() (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.maps {
		if m != nil {
			n += m.Count() * block.Size
		}
	}
	return n
}

// first is a part of it, by disk, of at most limit bytes; nil when it is empty.
func (b *backlog) first(limit int64) map[int]*block.Map {
	b.mu.Lock()
	defer b.mu.Unlock()
	var part map[int]*block.Map
	left := limit / block.Size
	for disk, m := range b.maps {
		if m == nil {
			continue
		}
		for run := range m.Runs(0) {
			if left <= 0 {
				return part
			}
			if part == nil {
				part = map[int]*block.Map{}
			}
			if part[disk] == nil {
				part[disk] = block.NewMap(m.Blocks())
			}
			n := min(run.Count, left)
			part[disk].Set(run.Start, n)
			left -= n
		}
	}
	return part
}

// remove takes a part off it, durably.
func (b *backlog) remove(part map[int]*block.Map) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for disk, m := range part {
		b.maps[disk].AndNot(m)
		if b.maps[disk].Count() == 0 {
			b.maps[disk] = nil
		}
		if err := b.store(disk); err != nil {
			return err
		}
	}
	return nil
}

// addTo ORs a disk's part into m.
func (b *backlog) addTo(disk int, m *block.Map) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.maps[disk] != nil {
		m.Or(b.maps[disk])
	}
}

// has reports whether there is anything of a disk on it.
func (b *backlog) has(disk int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.maps[disk] != nil
}
