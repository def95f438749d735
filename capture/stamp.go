package capture

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"

	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// States of a stamp.
const (
	stampCreating   = "creating" // files are being made; nothing was written to the disks yet
	stampRunning    = "running"
	stampClean      = "clean"
	stampHandedOver = "handed-over"
)

// stamp is the record that says how far the other files may be believed.
type stamp struct {
	State    string      `json:"state"`
	Instance homeward.ID `json:"instance"` // of the set of files
	Disks    []diskStamp `json:"disks"`
}

type diskStamp struct {
	Size int64 `json:"size"`
	// Sample is a digest of parts of the disk at the clean detach: somebody who
	// wrote to it since has probably changed one (superblocks are among them).
	Sample  string   `json:"sample,omitempty"`
	Reasons []string `json:"reasons,omitempty"` // why blocks are suspect
}

func (m *Machine) stampPath() string { return filepath.Join(m.cfg.Dir, "stamp.json") }

// readStamp returns nil without an error when there is none.
func (m *Machine) readStamp() (*stamp, error) {
	s := &stamp{}
	err := durable.ReadJSON(m.cfg.FS, m.stampPath(), s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (m *Machine) writeStamp(state string) error {
	s := stamp{State: state, Instance: m.instance}
	for _, d := range m.disks {
		ds := diskStamp{Size: d.size, Reasons: m.notes.suspect(d.index)}
		if state == stampClean {
			sum, err := sample(d.dev, d.size)
			if err != nil {
				return homeward.Wrap(err, "stamp", d.name())
			}
			ds.Sample = sum
		}
		s.Disks = append(s.Disks, ds)
	}
	return durable.WriteJSON(m.cfg.FS, m.stampPath(), s)
}

// sample digests the parts of a disk that everybody who mounts it writes to
// (partition tables, superblocks), and some others, within its first size bytes:
// about 500 KiB.
func sample(d block.Disk, size int64) (string, error) {
	const part, spots = 64 << 10, 64
	ranges := [][2]int64{{0, part}, {1 << 20, part}, {size - part, part}}
	rng := rand.New(rand.NewPCG(uint64(size), spots)) // the same places each time
	for range spots {
		ranges = append(ranges, [2]int64{rng.Int64N(size), block.Size})
	}
	h := blake3.New()
	buf := make([]byte, part)
	for _, r := range ranges {
		off := max(r[0], 0)
		n := min(r[1], size-off)
		if n <= 0 {
			continue
		}
		if _, err := d.ReadAt(buf[:n], off); err != nil {
			return "", err
		}
		_, _ = h.Write(buf[:n]) // a hash never fails
	}
	var sum homeward.Checksum
	copy(sum[:], h.Sum(nil))
	return sum.String(), nil
}
