package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/homeward-dr/homeward/bench/measure"
)

// write gives a value with three digits in its unit.
func write(v float64, u measure.Unit) string {
	switch u {
	case measure.Times:
		return digits(v)
	case measure.Seconds:
		return scaled(v, []step{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}})
	case measure.Bytes:
		return scaled(v, []step{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, "B"}})
	case measure.Rate:
		return scaled(v, []step{{1e9, "GB/s"}, {1e6, "MB/s"}, {1e3, "kB/s"}, {1, "B/s"}})
	case measure.Percent:
		return digits(v*100) + " %"
	}
	return digits(v)
}

// step is a unit that a value may be written in.
type step struct {
	one  float64
	name string
}

func scaled(v float64, steps []step) string {
	for _, s := range steps {
		if math.Abs(v) >= s.one {
			return digits(v/s.one) + " " + s.name
		}
	}
	last := steps[len(steps)-1]
	return digits(v/last.one) + " " + last.name
}

// digits writes at least three of them, and thousands in groups.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "?"
	case v == math.Trunc(v) && a < 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a < 0.01:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case a < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	s := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	var b strings.Builder
	if v < 0 {
		b.WriteByte('-')
	}
	for i, d := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// spread writes the median, and what the runs lie between where asked for.
func spread(s measure.Spread, u measure.Unit, between bool) string {
	switch {
	case s.N == 0:
		return ""
	case between && s.N > 1:
		return fmt.Sprintf("%s (%s to %s)", write(s.Median, u), write(s.Min, u), write(s.Max, u))
	}
	return write(s.Median, u)
}
