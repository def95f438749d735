package history

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Loaded is what a directory holds.
type Loaded struct {
	Chain *Chain
	// Hot are the segments beyond the tip, oldest first: journals of steps that did
	// not finish. They are part of the chain, so that content as of the tip and
	// everything older is right although the replica is not at the tip.
	Hot []*Segment
	// Lost tells of files that no longer connect to the tip, because one between is
	// missing or cannot be read, and what that costs. They are kept.
	Lost []string
}

// Load opens the chain in dir whose newest finished boundary is tip, and removes
// what a crash left over: unfinished files and segments that a merge covers.
// An absent directory is made. held says whether somebody holds a boundary; it is
// asked when a merge or a drop is about to end one, and must not call the chain.
func Load(fsys durable.FS, dir string, tip uint64, files *Files, held func(boundary uint64) bool) (Loaded, error) {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return Loaded{}, err
	}
	if err := durable.SweepTemps(fsys, dir); err != nil {
		return Loaded{}, err
	}
	spans, err := spansIn(fsys, dir)
	if err != nil {
		return Loaded{}, err
	}
	l := Loaded{Chain: &Chain{fsys: fsys, dir: dir, files: files, held: held, newest: tip, highest: tip}}
	for _, s := range spans {
		l.Chain.highest = max(l.Chain.highest, s.Newer)
	}
	var chain []*Segment // newest first
	var bad Span
	for at, more := tip, true; more; {
		var s Span
		if s, more = widest(spans, at); !more {
			break
		}
		seg, err := l.Chain.segment(s)
		if err != nil {
			if !damaged(err) {
				return Loaded{}, err
			}
			l.Lost = append(l.Lost, damage(filepath.Join(dir, s.Name()), err))
			bad = s
			break
		}
		chain = append(chain, seg)
		at = s.Older
	}
	slices.Reverse(chain)
	l.Chain.segments = chain
	return l, l.sortOut(spans, bad, tip)
}

// sortOut deals with the files that are not in the chain; bad is in Lost already.
func (l *Loaded) sortOut(spans []Span, bad Span, tip uint64) error {
	c := l.Chain
	for _, s := range spans {
		if s == bad || slices.ContainsFunc(c.segments, func(seg *Segment) bool { return seg.Span == s }) {
			continue
		}
		path := filepath.Join(c.dir, s.Name())
		switch {
		case slices.ContainsFunc(c.segments, func(seg *Segment) bool { return seg.covers(s) }):
			if err := durable.Remove(c.fsys, path); err != nil {
				return err
			}
		case s.Older >= tip:
			seg, err := c.segment(s)
			if err != nil {
				return err
			}
			l.Hot = append(l.Hot, seg)
		default:
			l.Lost = append(l.Lost, damage(path, errors.New("the segment that leads to it is missing or damaged")))
		}
	}
	return l.joinHot(tip)
}

// joinHot adopts the hot segments that follow the tip one after the other; of two
// that do, the one with the highest number is of the step that did not finish, for
// numbers are not given twice. The others are what a drop of newer segments left
// over, which is begun only when the replica is at the tip: they go.
func (l *Loaded) joinHot(tip uint64) error {
	c := l.Chain
	slices.SortFunc(l.Hot, func(a, b *Segment) int { return cmp.Compare(b.Newer, a.Newer) })
	var hot, gone []*Segment
	for c.newest = tip; ; c.newest = hot[len(hot)-1].Newer {
		i := slices.IndexFunc(l.Hot, func(s *Segment) bool { return s.Older == c.newest })
		if i < 0 {
			break
		}
		hot = append(hot, l.Hot[i])
	}
	for _, s := range l.Hot {
		if !slices.Contains(hot, s) {
			gone = append(gone, s)
		}
	}
	l.Hot = hot
	c.segments = append(c.segments, hot...)
	return c.remove(gone)
}

func damage(path string, err error) string {
	return path + ": " + err.Error() + "; points at or before the older end of this file cannot be served (newer ones can)"
}

// damaged reports whether err says that the bytes are wrong; anything else may
// pass, and must not be taken for a loss.
func damaged(err error) bool {
	k := homeward.KindOf(err)
	return k == homeward.Corrupt || k == homeward.Unsupported || k == homeward.Invalid
}

func spansIn(fsys durable.FS, dir string) ([]Span, error) {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var spans []Span
	for _, e := range entries {
		if s, ok := ParseSpan(e.Name()); ok {
			spans = append(spans, s)
		}
	}
	return spans, nil
}

// widest is the widest span that begins at a boundary.
func widest(spans []Span, newer uint64) (best Span, found bool) {
	for _, s := range spans {
		if s.Newer == newer && (!found || s.Older < best.Older) {
			best, found = s, true
		}
	}
	return best, found
}

// segment reads what a file says of itself and holds it against its name.
func (c *Chain) segment(s Span) (*Segment, error) {
	path := filepath.Join(c.dir, s.Name())
	h, err := c.files.open(path)
	if err != nil {
		return nil, err
	}
	defer c.files.done(h)
	return &Segment{
		Span: s, path: path, files: c.files,
		Follows:  h.reader.Header().Follows,
		Position: h.reader.Header().To,
		Mark:     h.reader.Trailer().Mark,
		Bytes:    h.reader.Size(),
	}, nil
}
