package measure

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
)

// Contenders take turns, each beginning every other round; one that fails is not
// asked again, and has no values.
func TestAlternate(t *testing.T) {
	var order strings.Builder
	as := func(name string, fail bool) Contender {
		n := 0.0
		return Contender{Name: name, Measure: func(context.Context) (Values, error) {
			order.WriteString(name)
			n++
			if fail {
				return Values{"seconds": 1}, errors.New("the disks differ")
			}
			return Values{"seconds": n}, nil
		}}
	}
	s, err := Alternate(t.Context(), 3, nil, as("A", false), as("B", false), as("C", true), Contender{Name: "D", Missing: "not in Debian"})
	if err != nil {
		t.Fatal(err)
	}
	if got := order.String(); got != "ABCBAAB" {
		t.Errorf("order %s", got)
	}
	if sp := s.Of("A", "seconds"); sp != (Spread{Median: 2, Min: 1, Max: 3, N: 3}) {
		t.Errorf("%+v", sp)
	}
	if s.Of("C", "seconds").N != 0 || s.Missing["D"] == "" {
		t.Errorf("%+v", s)
	}
	if got := strings.Join(s.Contenders(), ""); got != "ABCD" {
		t.Errorf("contenders %s", got)
	}
}

// A run that ctx cuts short is no result.
func TestAlternateStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Alternate(ctx, 2, nil, Contender{Name: "A", Measure: func(context.Context) (Values, error) {
		cancel()
		return Values{"seconds": 1}, nil
	}})
	if !errors.Is(err, context.Canceled) || len(s.Runs) != 0 {
		t.Errorf("%v, %v", s.Runs, err)
	}
}

// Ratios are of neighbours, not of medians.
func TestRatio(t *testing.T) {
	var s Series
	for _, pair := range [][2]float64{{10, 5}, {30, 10}, {8, 8}} {
		for k, name := range []string{"A", "B"} {
			s.Runs = append(s.Runs, Run{Contender: name, Values: Values{"iops": pair[k]}})
		}
	}
	if r := s.Ratio("A", "B", "iops"); r != (Spread{Median: 2, Min: 1, Max: 3, N: 3}) {
		t.Errorf("%+v", r)
	}
}

func TestQuantile(t *testing.T) {
	v := []float64{1, 2, 3, 4}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4} {
		if got := Quantile(v, q); got != want {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
	if !math.IsNaN(Quantile(nil, 0.5)) {
		t.Error("a quantile of nothing")
	}
}

func TestGoal(t *testing.T) {
	for _, c := range []struct {
		g   Goal
		met bool
	}{
		{Goal{Want: 2, Have: 2, Most: true}, true},
		{Goal{Want: 2, Have: 2.01, Most: true}, false},
		{Goal{Want: 1, Have: 1}, true},
		{Goal{Want: 1, Have: 0.99}, false},
		{Goal{Want: 1, Have: 5, Unknown: "no fio"}, false},
	} {
		if c.g.Met() != c.met {
			t.Errorf("%+v", c.g)
		}
	}
}
