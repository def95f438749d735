// Package capture sees every write to the disks of one machine, cuts them all at
// one instant, keeps what was cut readable while the guest goes on writing, and
// never loses track of a block that the other copy may lack. See DESIGN.md for why.
//
// Follow one write:
//
//	disk.go        Disk(i).WriteAt: in at the gate, save what a cut needs, submit, out
//	gate.go        counts writes in flight and marks their blocks; cuts close it
//	keeper.go      makes the extent of a first write durable before it is submitted
//	copies.go      saves frozen content before it is overwritten; pool.go holds it, spills it
//
// Follow one cut:
//
//	cut.go         Cut, reading frozen content, demotion; hold.go cuts of a group
//	release.go     spooled, then applied: how bits leave the maps
//
// What is kept where:
//
//	bitmap.go      a map in pages
//	live.go        the maps on tmpfs
//	checkpoint.go  the maps on disk, as of a while ago
//	hotlog.go      the extents that may have changed since
//	stamp.go       whether these were left in good order
//	start.go       what Open makes of all that; ending.go Close and Handover
//	baseline.go    disks whose first writes nobody sees
//
// # Files
//
// Integers are little-endian, checksums CRC32C. The instance is the random id of a
// set of files: one of another set is not believed.
//
// Stamp, stamp.json: a record of package durable.
//
// Live map, LiveDir/disk-N.live, version 1:
//
//	   0    8  magic "HWLIVE\x00\x01", the last byte is the version
//	   8    8  size of the disk in bytes
//	  16   16  instance
//	  32  128  boot id of the host, padded with zeroes
//	 160    4  checksum of bytes 0 to 160
//	4088    8  not zero: some bits found no room here and went with the process
//	4096       five bitmaps in pages of 4096 bytes (32768 blocks, 128 MiB of disk),
//	           in host order; bit b%64 of word b/64. The last is the suspect map,
//	           the union of the others the changed map.
//
// Checkpoint, Dir/disk-N.map, version 1:
//
//	   0    8  magic "HWCKPT\x00\x01"
//	   8    8  size of the disk in bytes
//	  16   16  instance
//	  32    4  checksum of bytes 0 to 32
//	4096       a record per page of the changed map, then one per page of the suspect map
//
// A record is 4608 bytes; one that is all zero was never written and has no bits.
// One whose checksum is wrong was torn: its whole range is suspect.
//
//	  0    4  checksum of the rest of the record
//	  4    4  0 changed, 1 suspect
//	  8    8  number of the page
//	 16   16  instance
//	512 4096  the page
//
// Activity log, Dir/disk-N.hot, version 1: four slots of 8192 bytes. A store writes
// the same table to the first two or, every other time, to the last two. The good
// one with the highest sequence counts.
//
//	 0    8  magic "HWHOT\x00\x00\x01"
//	 8    8  sequence, from 1
//	16   16  instance
//	32    4  number of extents, at most 1024
//	36    4  checksum of bytes 0 to 36 and the table
//	40       the table: numbers of extents of 16 MiB, 4 bytes each
//
// Mark of distrust, Dir/disk-N.untrusted: text, why the two files above are not to
// be believed.
//
// Baseline, Dir/baseline-ID-N, version 1. The hash is BLAKE3 with 256 bits.
//
//	   0    8  magic "HWBASE\x00\x01"
//	   8   16  id
//	  24    8  size of the disk in bytes
//	  32   32  hash of the table
//	  64    4  checksum of bytes 0 to 64
//	4096       the table: 32 bytes per MiB of disk, the hash of the hashes of its
//	           blocks; zero where all of them are zero. Padded to 4096.
//	           Then 8192 bytes per MiB: the hashes of its blocks; a hole where the
//	           table has zero.
package capture
