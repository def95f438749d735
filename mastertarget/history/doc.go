// Package history keeps the past of one replica: a chain of undo deltas, each
// holding the old content of the blocks that a step forward overwrote.
//
// A boundary is a state the replica has been in. Boundaries are numbered upwards
// for the life of an item, whatever its generations do, and a number is not given
// twice while a file may name it: after a roll-back from 7 to 5 the next boundary
// is 8. The replica itself stands at the newest, the tip. A segment is an undo
// delta between two boundaries, and its file says all there is to know about the
// older one:
//
//	<newer>-<older>-<at>.undo   16 hex digits each; at: the older boundary's time, Unix nanoseconds
//	  header   Follows: position of newer   To: position of older   Machine: as it was at older
//	  trailer  Mark: the mark of older
//
// So the directory is the manifest: from the tip down, the widest segment that
// begins where the last one ended is the next of the chain. A merge of adjacent
// segments appears by one rename, and from then on it is the wider one; what it
// covers is left over and swept. A segment beyond the tip is a hot journal: the
// step it belongs to did not finish. Of several that begin at one boundary the
// highest number is that journal; the others were dropped while somebody read them.
//
// Where to look: span.go names, segment.go one file, files.go the bounded set of
// open ones, load.go opening, chain.go the living chain, read.go content as of a
// boundary, write.go a new segment, merge.go joining adjacent ones, retention.go
// which points to keep and plan.go which segments to merge (both pure).
package history
