package nbd

import (
	"fmt"

	"github.com/homeward-dr/homeward"
)

// errno is an error number of the protocol; they are those of Linux.
type errno uint32

const (
	errOK       errno = 0
	errPerm     errno = 1
	errIO       errno = 5
	errNoMem    errno = 12
	errInval    errno = 22
	errNoSpace  errno = 28
	errOverflow errno = 75
	errNotSup   errno = 95
	errShutdown errno = 108
)

// kinds is the one mapping between the wire and Homeward's kinds. A kind that is
// not here travels as errIO; a number that is not here arrives as homeward.IO.
var kinds = []struct {
	no   errno
	kind homeward.Kind
	text string
}{
	{errPerm, homeward.Forbidden, "not permitted"},
	{errIO, homeward.IO, "input/output error"},
	{errNoMem, homeward.Busy, "out of memory"},
	{errInval, homeward.Invalid, "invalid request"},
	{errNoSpace, homeward.NoSpace, "no space left"},
	{errOverflow, homeward.Invalid, "too large"},
	{errNotSup, homeward.Unsupported, "not supported"},
	{errShutdown, homeward.Unavailable, "server is shutting down"},
	// Sent only: a fenced disk must look final to a guest, so not errShutdown.
	{errPerm, homeward.Fenced, ""},
}

// errnoOf is how err travels.
func errnoOf(err error) errno {
	if err == nil {
		return errOK
	}
	kind := homeward.KindOf(err)
	for _, k := range kinds {
		if k.kind == kind {
			return k.no
		}
	}
	return errIO
}

// remote makes the error a client returns for a number the server sent.
func (no errno) remote(op, subject, message string) error {
	kind, text := homeward.IO, fmt.Sprintf("error number %d", uint32(no))
	for _, k := range kinds {
		if k.no == no {
			kind, text = k.kind, k.text
			break
		}
	}
	if message != "" {
		text = message
	}
	return homeward.Errorf(op, kind, subject, remedies[kind], "the NBD server answered: %s", text)
}

// remedies says what to do about what a server refused.
var remedies = map[homeward.Kind]string{
	homeward.Forbidden:   "connect to an export that may be written",
	homeward.IO:          "look at the server's log and its disk",
	homeward.Busy:        "try again with fewer requests at once",
	homeward.NoSpace:     "free space where the server keeps the disk",
	homeward.Unavailable: "connect again when the server is back",
}
