// Package block has disks, maps of their blocks, and their digests.
//
// A [Disk] is opened by reference ([Openers]): a raw image file, sparse where its
// file system can, or a block device. A [Map] says which blocks of a disk matter.
// A [Tree] digests a disk so that two sides find the blocks in which they differ
// ([Compare]) without telling each other about the rest.
//
// # Persisted map, version 1
//
// Integers are little-endian.
//
//	 0  8  magic "HWMAP\x00\x00\x01", the last byte is the version
//	 8  8  blocks of the disk
//	16  8  number of pages that follow
//	24     the pages, ascending; a page of 32768 blocks without any is left out
//	    4  CRC32C of everything before
//
// A page:
//
//	0  4  page number: its first block divided by 32768
//	4  1  kind: 0 raw, 1 runs
//	5  2  length of the content
//	7     raw: a bit per block, in words of 8 bytes, as long as the disk goes;
//	      runs: pairs of uvarints, the blocks skipped and then the blocks in the
//	      map. The smaller form is written.
//
// # Digest tree
//
// The hash is BLAKE3 with 256 bits. Level 0 has a hash per 4 KiB block, of its
// bytes; the last block has as many as the disk. Level 1 has a hash per 256
// blocks (1 MiB), of their bytes too, and not of their hashes: BLAKE3 is two to
// three times as fast on a MiB as on 4 KiB, and leaves are only wanted where a MiB
// differs. From level 2 on, a level has a hash per 256 hashes of the level below
// (or what is left of them), of those hashes in order. The root is the only hash
// of its level. A tree says nothing about the size of its disk, so sizes are
// compared first.
package block
