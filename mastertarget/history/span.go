package history

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const suffix = ".undo"

// Span is what a segment's file name says.
type Span struct {
	Newer, Older uint64    // boundaries; Newer > Older
	At           time.Time // of the older boundary, clamped so that it never goes back
}

// Name is the file name of the span; ParseSpan reads it back.
func (s Span) Name() string {
	return fmt.Sprintf("%016x-%016x-%016x%s", s.Newer, s.Older, uint64(nanos(s.At)), suffix)
}

// ParseSpan reads exactly what Name writes; ok is false for any other name.
func ParseSpan(name string) (s Span, ok bool) {
	f := strings.Split(strings.TrimSuffix(name, suffix), "-")
	if len(f) != 3 {
		return Span{}, false
	}
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(f[i], 16, 64); err != nil {
			return Span{}, false
		}
	}
	s = Span{Newer: n[0], Older: n[1]}
	if n[2] != 0 {
		s.At = time.Unix(0, int64(n[2])).UTC()
	}
	return s, s.Newer > s.Older && s.Name() == name
}

// covers reports whether o lies within s.
func (s Span) covers(o Span) bool { return s.Older <= o.Older && o.Newer <= s.Newer }

// nanos is the time as the name has it; no time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
