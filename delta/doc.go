// Package delta is the format in which changed blocks travel and are kept.
//
// A delta holds the blocks that differ between two states of all disks of an
// item, in one of two directions: a forward delta holds the newer content, an
// undo delta the older. It is a message (the body of a PUT between roles) and a
// file (undo on a retention volume), and it is immutable. Encoder and Decoder
// stream it in one pass; Reader finds blocks in it through an index; Merge makes
// one of several adjacent ones; Recode changes its compression; Verify and
// Inspect look at it.
//
// # Layout
//
// All integers are little endian. CRC is CRC-32C (Castagnoli) of all bytes of the
// same record before it. Reserved bytes and bits are zero; a reader refuses
// others. There is nothing between records and nothing after the trailer.
//
//	header | record ... record | trailer        record = frame or index chunk
//
// Header, 16+n+4 bytes; n is at most 5 KiB and the machine manifest:
//
//	offset  size  field
//	     0     8  magic F5 "HWDLT" 0D 0A
//	     8     2  version, 1
//	    10     2  flags: bit 0 undo
//	    12     4  n, length of the body
//	    16     n  body
//	  16+n     4  CRC
//
// Body of the header, one field after the other:
//
//	1+k     length of the item id, item id (1 to 64 bytes)
//	2       number of disks, 1 to 60; then for each:
//	  1+k     length of the disk id, disk id (1 to 64 bytes)
//	  8       size in bytes
//	80      position it follows
//	80      position it leads to; its checksum is zero in a forward delta as captured
//	4       length m of the machine manifest; 0: none
//	m       machine manifest, JSON of homeward.Machine; unknown fields are refused
//
// Position: generation number (8), generation id (16), sequence (8), cut id (16),
// checksum (32).
//
// Frame, 60+12r bytes and the stored bytes. Every block of a frame comes before
// every block of the next frame in the order (disk, block):
//
//	offset  size  field
//	     0     1  'F'
//	     1     1  codec: 0 none, 1 s2 block, 2 zstd frame
//	     2     2  reserved
//	     4     4  stored length; at most the plain length, and equal to it for codec none
//	     8     4  CRC of the stored bytes
//	    12     2  disk: index into the header's list
//	    14     2  flags: bit 0 zero frame
//	    16     4  plain length
//	    20     4  r, number of runs, 1 to 256
//	    24    32  BLAKE3-256 of the plain bytes
//	    56   12r  runs: first block (8), number of blocks (4); ascending, apart by a block or more
//	56+12r     4  CRC of the head up to here
//	60+12r        stored bytes
//
// A data frame has at most 256 blocks. Its plain bytes are its runs one after the
// other, whole blocks all, but for the last block of a disk whose size is no
// multiple of 4096: that one is as long as the disk has bytes for it. A zero frame
// says that its blocks are zero; it has no stored bytes, any number of blocks, and
// zero in every field that describes a payload. The content checksum is not
// truncated: 32 bytes are 0.05 % of the smallest frames in use, and what vouches
// for content across a trust boundary should resist collisions.
//
// Index chunk, 8+32e bytes:
//
//	offset  size  field
//	     0     1  'I'
//	     1     1  level: 0 points at frames, l at chunks of level l-1
//	     2     2  e, number of entries, 1 to 256
//	     4   32e  entries, ascending
//	 4+32e     4  CRC
//
// Entry, 32 bytes; the blocks below it lie in [(disk, first), (end disk, end)):
//
//	offset  size  field
//	     0     8  first block
//	     8     8  block after the last one
//	    16     8  offset of the record from the start of the file
//	    24     4  length of the record, all of it
//	    28     2  disk of the first block
//	    30     2  disk of the last block
//
// The index is a tree built bottom up as frames go by. The chunk of a level is
// written at once when it has 256 entries, and enters the level above. After the
// last frame every level writes what it has left, lowest first; a topmost level
// with a single entry is not written: the chunk that entry points at is the root.
// So the bytes of the index follow from the frames, and a Decoder checks them by
// building its own.
//
// Trailer, 348 bytes:
//
//	offset  size  field
//	     0     1  'T'
//	     1     1  levels of the index; 0: no frames
//	     2     1  kind of mark: 0 none, 1 crash-, 2 app-, 3 group-consistent
//	     3     1  length of the label, 0 to 200
//	     4     4  time of the mark: nanoseconds of its second
//	     8     8  time of the mark: seconds since 1970, UTC
//	    16    16  group of the mark
//	    32   200  label, zeros behind it
//	   232     8  reserved
//	   240     8  blocks, zero ones too
//	   248     8  zero blocks
//	   256     8  frames
//	   264     8  plain bytes of all data frames
//	   272     8  stored bytes of all data frames
//	   280     8  offset of the root chunk; 0 without frames
//	   288     8  length of the root chunk; 0 without frames
//	   296     8  length of the file
//	   304    32  chained checksum
//	   336     8  magic F5 "HWEND" 0D 0A
//	   344     4  CRC
//
// # Chained checksum
//
// BLAKE3-256 in key derivation mode, context string
// "homeward-dr delta 2026-11 chained checksum v1", over
//
//   - the checksum of the position it follows (32 bytes),
//   - the header up to its CRC,
//   - of each frame the bytes 12 to 56+12r: disk, flags, plain length, runs,
//     content checksum,
//   - 'T' and the trailer's bytes 2 to 231: the mark.
//
// Codec, stored lengths and the index do not enter, so Recode keeps the checksum;
// frame boundaries do, so Recode keeps them.
//
// # What a reader may rely on
//
// Every prefix of a delta and every delta with one bit flipped is refused: by
// Decoder with Frame.Plain on every frame, by Verify, and by Open with a walk
// over all blocks. Nothing is allocated for a length before it was held against
// a limit: 1 MiB for a frame, stored or plain, 8 KiB for an index chunk, Limits
// for the header.
package delta
