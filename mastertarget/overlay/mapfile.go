package overlay

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

const (
	sectorSize   = 512
	sectorHead   = 8
	sectorWords  = (sectorSize - sectorHead) / 8
	sectorBlocks = sectorWords * 64
	sectorMagic  = "HWo\x01"
	batch        = 1 << 20 // bytes read or written at once
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mapFile is a map as a file holds it.
type mapFile struct {
	file durable.File
	bits *block.Map // what the file says once the last write is durable
	base int64      // of sector 0 in the file
}

func sectorsOf(blocks int64) int64 { return (blocks + sectorBlocks - 1) / sectorBlocks }

// openMap opens and reads the map of a disk of so many blocks.
func openMap(fsys durable.FS, path string, blocks int64) (*mapFile, error) {
	f, err := fsys.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, homeward.Wrap(err, "open overlay", path)
	}
	m := &mapFile{file: f, bits: block.NewMap(blocks)}
	info, err := f.Stat()
	if err == nil && info.Size() != sectorsOf(blocks)*sectorSize {
		err = m.corrupt("it has %d bytes, that of a disk of %d blocks has %d", info.Size(), blocks, sectorsOf(blocks)*sectorSize)
	}
	if err == nil {
		err = m.load()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// load reads the whole file. Corrupt names the blocks whose fate is unknown.
func (m *mapFile) load() error {
	sectors := sectorsOf(m.bits.Blocks())
	buf := make([]byte, batch)
	for s := int64(0); s < sectors; {
		n := min(batch, (sectors-s)*sectorSize)
		if got, err := m.file.ReadAt(buf[:n], m.base+s*sectorSize); int64(got) < n {
			if errors.Is(err, io.EOF) {
				return m.corrupt("it ends after sector %d of %d", s+int64(got)/sectorSize, sectors)
			}
			return err
		}
		for b := buf[:n]; len(b) > 0; b = b[sectorSize:] {
			if err := m.parse(s, b[:sectorSize]); err != nil {
				return err
			}
			s++
		}
	}
	return nil
}

func (m *mapFile) corrupt(format string, args ...any) error {
	return homeward.Errorf("read overlay map", homeward.Corrupt, m.file.Name(),
		"cancel the failover and begin another one: what was written to this view cannot be told from what was not", format, args...)
}

func (m *mapFile) parse(sector int64, b []byte) error {
	if block.IsZero(b) {
		return nil
	}
	if string(b[4:sectorHead]) != sectorMagic || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return m.corrupt("sector %d (blocks from %d on) does not match its checksum", sector, sector*sectorBlocks)
	}
	words := m.bits.Words()
	for i := range int64(sectorWords) {
		w := binary.LittleEndian.Uint64(b[sectorHead+8*i:])
		at := sector*sectorWords + i
		inside := at < int64(len(words))
		if tail := m.bits.Blocks() % 64; inside && at == int64(len(words))-1 && tail != 0 {
			inside = w>>tail == 0
		}
		if w != 0 && !inside {
			return m.corrupt("sector %d has bits beyond the disk's end", sector)
		}
		if w != 0 {
			words[at] |= w
		}
	}
	return nil
}

// add sets runs and writes the sectors that changed; Sync makes them durable.
func (m *mapFile) add(runs []block.Run) error {
	dirty := map[int64]struct{}{}
	for _, r := range runs {
		m.bits.Set(r.Start, r.Count)
		for s := r.Start / sectorBlocks; s <= (r.Start+r.Count-1)/sectorBlocks; s++ {
			dirty[s] = struct{}{}
		}
	}
	order := slices.Sorted(maps.Keys(dirty))
	for len(order) > 0 {
		n := 1
		for n < len(order) && order[n] == order[0]+int64(n) && n < batch/sectorSize {
			n++
		}
		buf := make([]byte, 0, n*sectorSize)
		for i := range n {
			buf = m.appendSector(buf, order[i])
		}
		if _, err := m.file.WriteAt(buf, m.base+order[0]*sectorSize); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

func (m *mapFile) appendSector(buf []byte, sector int64) []byte {
	start := len(buf)
	buf = append(append(buf, 0, 0, 0, 0), sectorMagic...)
	words := m.bits.Words()
	for at := sector * sectorWords; at < (sector+1)*sectorWords; at++ {
		w := uint64(0)
		if at < int64(len(words)) {
			w = words[at] // only add sets bits, one caller at a time
		}
		buf = binary.LittleEndian.AppendUint64(buf, w)
	}
	binary.LittleEndian.PutUint32(buf[start:], crc32.Checksum(buf[start+4:], castagnoli))
	return buf
}
