package delta

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/homeward-dr/homeward"
)

// DefaultMaxManifest is the most bytes of machine manifest written, and read
// unless Limits says otherwise.
const DefaultMaxManifest = 1 << 20

// Limits bound what a decoder takes from a peer. A zero field means its default.
type Limits struct {
	MaxStored   int64 // bytes of the whole delta; homeward.MaxDelta on the network; default: unbounded
	MaxDisks    int   // default homeward.MaxDisks
	MaxManifest int   // bytes of machine manifest; default DefaultMaxManifest
}

func (l Limits) withDefaults() Limits {
	if l.MaxDisks <= 0 || l.MaxDisks > homeward.MaxDisks {
		l.MaxDisks = homeward.MaxDisks
	}
	if l.MaxManifest <= 0 {
		l.MaxManifest = DefaultMaxManifest
	}
	return l
}

// headerBody is the most bytes a header's body can have.
func (l Limits) headerBody() int64 {
	return int64(1+nameMax+2) + int64(l.MaxDisks)*(1+nameMax+8) + 2*positionLen + 4 + int64(l.MaxManifest)
}

// over refuses a delta whose next n bytes would pass MaxStored.
func (l Limits) over(off, n int64) error {
	if l.MaxStored > 0 && n > l.MaxStored-off {
		return homeward.Errorf("decode delta", homeward.Invalid, fmt.Sprintf("byte %d", off),
			"send the changes as several deltas, all but the last closed by mark none",
			"the delta is larger than the %d bytes allowed here", l.MaxStored)
	}
	return nil
}

const refetch = "get the delta again from where it was made, or make it again"

func corrupt(subject, format string, args ...any) error {
	return homeward.Errorf("decode delta", homeward.Corrupt, subject, refetch, format, args...)
}

func unsupported(format string, args ...any) error {
	return homeward.Errorf("decode delta", homeward.Unsupported, "header", "upgrade the role that reads it", format, args...)
}

// readFull fills p; an early end is Corrupt, another error keeps its kind.
func readFull(r io.Reader, p []byte, what string) error {
	_, err := io.ReadFull(r, p)
	return readError(err, what)
}

func readError(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(what, "the delta ends early")
	}
	return mediumError(err, "read delta", what)
}

// mediumError gives an error of the reader or writer below a kind, if it has none.
func mediumError(err error, op, what string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return homeward.Errorf(op, homeward.NoSpace, what, "free some space, then try again", "%w", err)
	case homeward.KindOf(err) == homeward.Internal:
		return homeward.Errorf(op, homeward.IO, what, "", "%w", err)
	}
	return homeward.Wrap(err, op, what)
}
