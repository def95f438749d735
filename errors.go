package homeward

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind classes an error by what a caller can do about it. Kinds are few and
// append-only: they travel on the wire.
type Kind string

// The kinds; Table maps each to HTTP and to an exit code.
const (
	Invalid     Kind = "invalid"     // the request is wrong: correct it
	NotFound    Kind = "not-found"   // no such thing
	Exists      Kind = "exists"      // it is there already, and different
	InUse       Kind = "in-use"      // somebody else holds it
	Conflict    Kind = "conflict"    // not in this state; a PositionError tells the true position
	Fenced      Kind = "fenced"      // an older generation: stop, never retry
	Unauthentic Kind = "unauthentic" // certificate or token not accepted
	Forbidden   Kind = "forbidden"   // known, but not allowed
	NoSpace     Kind = "no-space"    // a disk or a budget is full: free some, then retry
	Busy        Kind = "busy"        // too much at once: retry after a while
	Unavailable Kind = "unavailable" // a peer cannot be reached: retry
	Timeout     Kind = "timeout"     // a deadline passed: retry
	Canceled    Kind = "canceled"    // the caller gave up
	Corrupt     Kind = "corrupt"     // bytes are not what was written
	IO          Kind = "io"          // the medium failed
	Unsupported Kind = "unsupported" // this build, disk or site cannot do it
	Internal    Kind = "internal"    // a defect of ours
)

// Outcome is how a kind shows outside the process.
type Outcome struct {
	HTTP int // status code
	Exit int // process exit code
}

// Table is the one mapping of kinds to the outside.
var Table = map[Kind]Outcome{
	Invalid:     {400, 2},
	NotFound:    {404, 3},
	Exists:      {409, 4},
	InUse:       {423, 5},
	Conflict:    {409, 6},
	Fenced:      {412, 7},
	Unauthentic: {401, 8},
	Forbidden:   {403, 9},
	NoSpace:     {507, 10},
	Busy:        {429, 11},
	Unavailable: {503, 12},
	Timeout:     {504, 13},
	Canceled:    {499, 14},
	Corrupt:     {422, 15},
	IO:          {500, 16},
	Unsupported: {501, 17},
	Internal:    {500, 1},
}

// Error says which operation failed, how, on what, why, and what to do about it.
type Error struct {
	Op      string // "apply delta"
	Kind    Kind
	Subject string // "item web01 disk 2"
	Remedy  string // an imperative sentence for the operator; may be empty where there is nothing to do
	Err     error  // the cause
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Subject != "" {
		b.WriteString(" " + e.Subject)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	} else {
		b.WriteString(": " + string(e.Kind))
	}
	if e.Remedy != "" {
		b.WriteString(" (" + e.Remedy + ")")
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error whose cause is formatted; %w wraps.
func Errorf(op string, kind Kind, subject, remedy, format string, args ...any) error {
	return &Error{Op: op, Kind: kind, Subject: subject, Remedy: remedy, Err: fmt.Errorf(format, args...)}
}

// Wrap adds operation and subject to err and keeps its kind; nil stays nil. An
// error that says both already is left as it is.
func Wrap(err error, op, subject string) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok && e.Op == op && e.Subject == subject { //nolint:errorlint // only the outermost would be told twice
		return err
	}
	return &Error{Op: op, Kind: KindOf(err), Subject: subject, Err: err}
}

// KindOf is the kind of the outermost Error in err's chain; contexts' own errors
// are Canceled and Timeout, everything else is Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return Internal
}

// RemedyOf is the first remedy found from the outside in.
func RemedyOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Remedy != "" {
			return e.Remedy
		}
		err = e.Err
	}
	return ""
}

// Retryable reports whether the same call may succeed later without anybody's
// doing: the peer was away, busy, full or slow.
func Retryable(err error) bool {
	switch KindOf(err) {
	case Unavailable, Timeout, Busy, NoSpace:
		return true
	}
	return false
}

// PositionError is the cause of a Conflict about positions: where the refusing
// side really stands.
type PositionError struct {
	True Position
}

func (e *PositionError) Error() string { return "stands at " + e.True.String() }

// FencedError is the cause of a Fenced refusal: the generation in force.
type FencedError struct {
	InForce Generation
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("generation %d is in force", e.InForce.Number)
}
