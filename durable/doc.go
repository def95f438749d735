// Package durable is the one seam to the file system and the one way to make
// bytes durable. Everything that must survive a power loss goes through it, so
// that tests can put package powerloss in place of the real file system.
//
// Choose by what is kept:
//
//   - a whole file, replaced as a whole: [WriteFile], or [WriteJSON] for records;
//   - a file that is built over time and then appears at once: [Create];
//   - a small record overwritten many times a second: [Cell];
//   - a right to be alone in a directory: [LockFile].
//
// # Record envelope (WriteJSON), version 1
//
// One line of text, then the JSON document itself, so that a person can read it:
//
//	homeward-record 1 <length of the document in bytes, decimal> <CRC32C, 8 hex digits>\n
//	<document>
//
// The CRC covers the document. The header must be exactly what WriteJSON would
// write for that document, and nothing may follow it: so every prefix and every
// flipped bit is refused.
//
// # Cell file, version 1
//
// Two slots of equal size, each a multiple of 4096 bytes; the file is exactly
// both. Integers are little-endian. A slot:
//
//	 0  8  magic "HWCELL\x00\x01", the last byte is the version
//	 8  8  counter; the higher one of two good slots is the newer; 0: never stored
//	16  4  length of the record
//	20  4  CRC32C over bytes 0 to 20 and the record
//	24     the record; the rest of the slot is not looked at
package durable
