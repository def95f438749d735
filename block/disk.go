package block

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
)

// Size is the unit of tracking in bytes.
const Size = homeward.BlockSize

// Disk is a disk as bytes. Any byte range within its size may be read or
// written; a range outside is Invalid and nothing is done. All methods may be
// called concurrently; where writes overlap, either may win, per sector.
type Disk interface {
	// ReadAt reads len(p) bytes; fewer only with an error. Never io.EOF.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes len(p) bytes; durable after the next Flush.
	WriteAt(p []byte, off int64) (int, error)
	// Zero makes n bytes at off read as zero. With punch their room is given back
	// where the disk can, without it the room stays reserved. Durable after Flush.
	Zero(off, n int64, punch bool) error
	// Flush makes durable every write that returned before Flush was called. Once
	// it has failed it fails for ever on this Disk (I-10).
	Flush() error
	// Size in bytes, a multiple of 512, as it was when the disk was opened.
	Size() int64
	// Close gives the disk and its lock back; it does not flush. It waits for
	// requests in flight; later ones fail.
	Close() error
}

// FUAWriter is a Disk that can make one write durable without a whole Flush.
type FUAWriter interface {
	// WriteAtFUA is WriteAt, and the bytes are durable when it returns nil. A
	// failure counts as a failed Flush.
	WriteAtFUA(p []byte, off int64) (int, error)
}

// Resizer is a Disk that can tell that its medium changed size under it.
type Resizer interface {
	// Resized is nil while the medium has the size it was opened with, else Conflict
	// naming both sizes.
	Resized() error
}

// Resized asks d whether its medium changed size; disks that cannot tell have not.
func Resized(d Disk) error {
	if r, ok := d.(Resizer); ok {
		return r.Resized()
	}
	return nil
}

// Extent is a range of bytes of one nature.
type Extent struct {
	Off, Len int64
	Hole     bool // no room is reserved for it
	Zero     bool // it reads as zero; a hole always does here
}

// Extenter is a Disk that knows where it holds data.
type Extenter interface {
	// Extents yields what [off, off+n) consists of: adjacent, ascending, covering it
	// all unless an error ends it. Data may be zero all the same; zero is never
	// data, as of some instant during the call.
	Extents(off, n int64) iter.Seq2[Extent, error]
}

// Extents asks d; a disk that does not know is data all over.
func Extents(d Disk, off, n int64) iter.Seq2[Extent, error] {
	if e, ok := d.(Extenter); ok {
		return e.Extents(off, n)
	}
	return func(yield func(Extent, error) bool) {
		if err := checkRange("list extents", "disk", d.Size(), off, n); err != nil {
			yield(Extent{}, err)
		} else if n > 0 {
			yield(Extent{Off: off, Len: n}, nil)
		}
	}
}

// Mode says how to open a disk.
type Mode struct {
	ReadOnly bool
	Size     int64 // the size it must have, in bytes; 0: any. Another one is Invalid.
	Create   bool  // make a sparse one of Size bytes where there is none
	NoLock   bool  // do not lock it against a second user
}

// Opener opens the disk named by ref. Errors: NotFound, Forbidden, InUse,
// Invalid (not a disk, wrong size), Unsupported.
type Opener func(ctx context.Context, ref string, m Mode) (Disk, error)

// Openers are openers by the scheme of the references they understand.
type Openers map[string]Opener

// Open opens ref ("file:/path", "device:/dev/disk/by-id/...") with the opener of
// its scheme. Unsupported names the known schemes.
func (o Openers) Open(ctx context.Context, ref string, m Mode) (Disk, error) {
	scheme, _, found := strings.Cut(ref, ":")
	open, known := o[scheme]
	if !found || !known {
		return nil, homeward.Errorf("open disk", homeward.Unsupported, ref,
			"begin the reference with one of: "+strings.Join(slices.Sorted(maps.Keys(o)), ":, ")+":",
			"no opener for its scheme")
	}
	return open(ctx, ref, m)
}

// zeroes is never written to.
var zeroes [1 << 20]byte

// IsZero reports whether p holds nothing but zero bytes.
func IsZero(p []byte) bool {
	for len(p) > len(zeroes) {
		if !bytes.Equal(p[:len(zeroes)], zeroes[:]) {
			return false
		}
		p = p[len(zeroes):]
	}
	return bytes.Equal(p, zeroes[:len(p)])
}

// checkRange refuses a range that is not within a disk of size bytes.
func checkRange(op, subject string, size, off, n int64) error {
	if off >= 0 && n >= 0 && off <= size && n <= size-off {
		return nil
	}
	return homeward.Errorf(op, homeward.Invalid, subject, "stay within the disk",
		"%d bytes at %d are not within its %d bytes", n, off, size)
}

// checkSize refuses a medium that cannot be a disk, or not the expected one.
func checkSize(subject string, size, want int64) error {
	if want != 0 && size != want {
		return homeward.Errorf("open disk", homeward.Invalid, subject,
			"check the reference, or resize it to what is expected",
			"it has %d bytes, expected are %d", size, want)
	}
	if size <= 0 || size%512 != 0 {
		return homeward.Errorf("open disk", homeward.Invalid, subject,
			"a raw disk has a multiple of 512 bytes: check that it is one, or extend it (truncate -s %512)",
			"it has %d bytes", size)
	}
	return nil
}
