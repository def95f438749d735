package world

import (
	"encoding/binary"
	"fmt"
)

// SectorSize is what a guest's disk writes at least, and never tears.
const SectorSize = 512

// A sector that was written holds a magic number, the number of the write, where
// it belongs, and bytes that follow from these. A sector of zeroes is of write 0,
// or of any write that made zeroes.
const sectorMagic = 0x68_6f_6d_65_77_61_72_64 // "homeward"

// fillSector writes the content of one sector of a write.
func fillSector(p []byte, write uint64, disk, sector int64) {
	place := uint64(disk)<<48 | uint64(sector)
	binary.LittleEndian.PutUint64(p, sectorMagic)
	binary.LittleEndian.PutUint64(p[8:], write)
	binary.LittleEndian.PutUint64(p[16:], place)
	x := write*0x9e3779b97f4a7c15 ^ place | 1
	for i := 24; i < SectorSize; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(p[i:], x)
	}
}

// readSector tells which write made a sector.
func readSector(p []byte, disk, sector int64) (write uint64, err error) {
	if binary.LittleEndian.Uint64(p) == sectorMagic {
		write = binary.LittleEndian.Uint64(p[8:])
		var want [SectorSize]byte
		fillSector(want[:], write, disk, sector)
		if string(want[:]) == string(p[:SectorSize]) {
			return write, nil
		}
		return 0, fmt.Errorf("disk %d sector %d is damaged: of write %d, at place %#x", disk, sector, write, binary.LittleEndian.Uint64(p[16:]))
	}
	for _, b := range p[:SectorSize] {
		if b != 0 {
			return 0, fmt.Errorf("disk %d sector %d holds what no guest wrote: % x…", disk, sector, p[:16])
		}
	}
	return 0, nil
}

// readDisk tells which write made each sector of a disk.
func readDisk(content []byte, disk int64) ([]uint64, error) {
	writes := make([]uint64, len(content)/SectorSize)
	for s := range writes {
		w, err := readSector(content[s*SectorSize:], disk, int64(s))
		if err != nil {
			return nil, err
		}
		writes[s] = w
	}
	return writes, nil
}

// WriteOf tells which write a sector says it is of, whole or not; for people.
func WriteOf(sector []byte) uint64 {
	if binary.LittleEndian.Uint64(sector) != sectorMagic {
		return 0
	}
	return binary.LittleEndian.Uint64(sector[8:])
}
