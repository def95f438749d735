package history

import (
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// Candidate is a recovery point as far as retention looks at it.
type Candidate struct {
	Boundary uint64
	At       time.Time // never before the one before it
	Kind     homeward.MarkKind
	Pinned   bool
}

// Expire says which of the points (oldest first) go, by boundary.
//
// A tier with Every keeps one point of each bucket of that length, counted from
// the epoch: the members of a replication group, whose group marks carry the same
// instant, then keep and drop the same ones. A bucket is thinned only when all of
// it has left the tier before, so that its segments are merged once. The point
// that stays is the strongest mark, and of those the earliest: asked again, the
// answer is the same.
//
// The newest point always stays, pinned ones too, and the oldest that the last
// tier still covers. At most `most` stay, pinned ones aside; 0: no such bound.
func Expire(points []Candidate, tiers []homeward.Tier, now time.Time, most int) map[uint64]bool {
	drop := map[uint64]bool{}
	if len(points) == 0 {
		return drop
	}
	best := map[bucket]Candidate{}
	var covered []Candidate // young enough for the last tier, or staying anyway
	oldest := uint64(0)     // of the young enough
	for i, p := range points {
		old := len(tiers) > 0 && now.Sub(p.At) > tiers[len(tiers)-1].For
		if old && !p.Pinned && i < len(points)-1 {
			drop[p.Boundary] = true
			continue
		}
		covered = append(covered, p)
		if !old && oldest == 0 {
			oldest = p.Boundary
		}
		if b, thinned := bucketOf(p, tiers, now); thinned {
			if c, taken := best[b]; !taken || stronger(p, c) {
				best[b] = p
			}
		}
	}
	stays := func(i int, p Candidate) bool { return p.Boundary == oldest || i == len(covered)-1 || p.Pinned }
	for i, p := range covered {
		b, thinned := bucketOf(p, tiers, now)
		if thinned && best[b].Boundary != p.Boundary && !stays(i, p) {
			drop[p.Boundary] = true
		}
	}
	covered = slices.DeleteFunc(covered, func(p Candidate) bool { return drop[p.Boundary] })
	coarsen(covered, most, drop)
	return drop
}

// bucket is a stretch of time of which one point is kept.
type bucket struct {
	every time.Duration
	n     int64
}

// bucketOf is the bucket that thins a point; false: it is not thinned (yet).
func bucketOf(p Candidate, tiers []homeward.Tier, now time.Time) (b bucket, thinned bool) {
	from := time.Duration(0) // age at which the tier begins
	for _, t := range tiers {
		if t.Every > 0 {
			n := p.At.UnixNano() / int64(t.Every)
			end := time.Unix(0, (n+1)*int64(t.Every))
			if now.Sub(end) >= from {
				b, thinned = bucket{t.Every, n}, true
			}
		}
		from = t.For
	}
	return b, thinned
}

var strength = map[homeward.MarkKind]int{homeward.MarkCrash: 1, homeward.MarkApp: 2, homeward.MarkGroup: 3}

// stronger prefers group marks, for their points must be kept by all members or
// by none, then application marks; among equals the earlier.
func stronger(a, b Candidate) bool {
	if strength[a.Kind] != strength[b.Kind] {
		return strength[a.Kind] > strength[b.Kind]
	}
	return a.Boundary < b.Boundary
}

// coarsen drops points, ever wider apart, until at most `most` are left.
func coarsen(points []Candidate, most int, drop map[uint64]bool) {
	for every := int64(time.Second); most > 0 && len(points) > most && every < int64(10_000*time.Hour); every *= 2 {
		last := int64(-1)
		var left []Candidate
		for i, p := range points {
			n := p.At.UnixNano() / every
			if n == last && !p.Pinned && i > 0 && i < len(points)-1 {
				drop[p.Boundary] = true
				continue
			}
			last = n
			left = append(left, p)
		}
		points = left
	}
}
