package measure

import (
	"context"
	"math"
	"slices"
)

// Values are what one run found, by metric: "seconds", "iops", "wire_bytes",
// "cpu_seconds" ... A metric that could not be had is absent, never zero.
type Values map[string]float64

// Run is one measurement of one contender.
type Run struct {
	Contender string `json:"contender"`
	Values    Values `json:"values,omitempty"`
	// Error says why there are no values. A run whose disks differ afterwards is an
	// error, however fast it was.
	Error string `json:"error,omitempty"`
}

// Contender is one way to do what a series compares.
type Contender struct {
	Name string
	// Missing says why it cannot be had here; it is listed as such and not run.
	Missing string
	// Measure does it once, verifies the outcome (an error: it is wrong), and tells
	// what it took. What must be as before is put back by it, outside the time taken.
	Measure func(ctx context.Context) (Values, error)
}

// Label names one setting of a series: {"queue depth", "16"}.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Series is what contenders were measured at in one setting.
type Series struct {
	Labels  []Label           `json:"labels"`
	Missing map[string]string `json:"missing,omitempty"` // contender: why
	Runs    []Run             `json:"runs"`              // in the order in which they were done
}

// Label is the setting's value of that name; empty: none.
func (s Series) Label(name string) string {
	for _, l := range s.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// Alternate measures each contender rounds times, in turns, so that whatever else
// the machine does hits all alike: A B C, C B A, A B C ... A contender that fails
// is not tried again in this series. It stops when ctx ends.
func Alternate(ctx context.Context, rounds int, labels []Label, contenders ...Contender) (Series, error) {
	s := Series{Labels: labels, Missing: map[string]string{}}
	failed := map[string]bool{}
	for _, c := range contenders {
		if c.Missing != "" {
			s.Missing[c.Name], failed[c.Name] = c.Missing, true
		}
	}
	turn := slices.Clone(contenders)
	for range rounds {
		for _, c := range turn {
			if failed[c.Name] {
				continue
			}
			v, err := c.Measure(ctx)
			if ctx.Err() != nil {
				return s, ctx.Err()
			}
			run := Run{Contender: c.Name, Values: v}
			if err != nil {
				run.Values, run.Error, failed[c.Name] = nil, err.Error(), true
			}
			s.Runs = append(s.Runs, run)
		}
		slices.Reverse(turn)
	}
	return s, nil
}

// Contenders are those that were measured or missing, in the order of their first run,
// those missing last.
func (s Series) Contenders() (names []string) {
	for _, r := range s.Runs {
		if !slices.Contains(names, r.Contender) {
			names = append(names, r.Contender)
		}
	}
	var missing []string
	for name := range s.Missing {
		missing = append(missing, name)
	}
	slices.Sort(missing)
	return append(names, missing...)
}

// of are a contender's values of a metric, in the order of its runs.
func (s Series) of(contender, metric string) (v []float64) {
	for _, r := range s.Runs {
		if x, ok := r.Values[metric]; ok && r.Contender == contender {
			v = append(v, x)
		}
	}
	return v
}

// Spread is what several runs found.
type Spread struct {
	Median, Min, Max float64
	N                int // runs; 0: nothing is known
}

// Of is the spread of a metric over a contender's runs.
func (s Series) Of(contender, metric string) Spread { return SpreadOf(s.of(contender, metric)) }

// Ratio is the spread of a's value divided by b's, pair by pair: the n-th run of
// one with the n-th of the other, which are neighbours in time.
func (s Series) Ratio(a, b, metric string) Spread {
	x, y := s.of(a, metric), s.of(b, metric)
	var r []float64
	for i := range min(len(x), len(y)) {
		if y[i] != 0 {
			r = append(r, x[i]/y[i])
		}
	}
	return SpreadOf(r)
}

// SpreadOf is the spread of values; of none, the zero Spread.
func SpreadOf(v []float64) Spread {
	if len(v) == 0 {
		return Spread{}
	}
	v = slices.Sorted(slices.Values(v))
	return Spread{Median: Quantile(v, 0.5), Min: v[0], Max: v[len(v)-1], N: len(v)}
}

// Quantile is the value below which the share q of sorted values lies, between
// neighbours in proportion. NaN for no values.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
