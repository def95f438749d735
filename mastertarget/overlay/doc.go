// Package overlay keeps blocks written over a disk apart from it: in a sparse
// file as large as the disk, with a crash-safe map of which blocks are there.
//
// A [Store] is these files. A [Disk] is a writable disk over a base that is
// never written: reads take a block from the store if it is there, from the base
// otherwise. A Disk can be emptied into another disk while it is used, and can
// then become it (see Disk.Mirror, Disk.Cover, Disk.Pause).
//
// # Map file, version 1
//
// Sectors of 512 bytes, of which a power loss leaves each old or new:
//
//	0  4  CRC32C of the rest of the sector
//	4  4  magic "HWo\x01", the last byte is the version
//	8     63 little-endian words: the bits of 4032 blocks, block 4032 n first in sector n
//
// A sector of zero bytes has no bits. Bits are only ever added, and only when the
// data of their blocks is durable: so any mixture of old and new sectors is a
// true map of an earlier or later instant, and every flushed write is in it.
//
// The live map, which tells of writes that are not flushed while the kernel lives,
// is one sector with the boot's name and then the same sectors.
package overlay
