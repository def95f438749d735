package service

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

func TestChoice(t *testing.T) {
	now := time.Unix(10_000, 0)
	point := func(n uint64, age time.Duration, k homeward.MarkKind) homeward.Point {
		return homeward.Point{Position: homeward.Position{Generation: homeward.Generation{Number: 1, ID: homeward.ID{1}}, Sequence: n, Cut: homeward.ID{byte(n)}, Checksum: homeward.Checksum{byte(n)}},
			Mark: homeward.Mark{Kind: k}, At: now.Add(-age)}
	}
	points := []homeward.Point{point(1, 5*time.Minute, homeward.MarkCrash), point(2, 2*time.Minute, homeward.MarkApp), point(3, time.Minute, homeward.MarkCrash), point(4, time.Second, homeward.MarkNone)}
	for want, sequence := range map[string]uint64{
		"": 3, "latest": 3, "latest-app-consistent": 2, "-30s": 3, "-90s": 2, "-3m": 1, points[3].Position.String(): 4,
	} {
		c, err := parsePoint(want)
		must(t, err)
		if p, err := c.of(points, now); err != nil || p.Position.Sequence != sequence {
			t.Errorf("%q: point %d, %v", want, p.Position.Sequence, err)
		}
	}
	for _, missing := range []string{"-1h", point(9, 0, homeward.MarkCrash).Position.String()} {
		c, err := parsePoint(missing)
		must(t, err)
		if _, err := c.of(points, now); homeward.KindOf(err) != homeward.NotFound {
			t.Errorf("%q: %v", missing, err)
		}
	}
	for _, bad := range []string{"newest", "-", "--3s", "-0s", "-x", "00"} {
		if _, err := parsePoint(bad); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
