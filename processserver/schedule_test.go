package processserver

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

func TestRateAt(t *testing.T) {
	schedule := []homeward.Window{
		{Days: []time.Weekday{time.Saturday}, BytesPerSecond: 1},
		{From: "22:00", To: "06:00", Days: []time.Weekday{time.Sunday, time.Monday}, BytesPerSecond: 2},
		{From: "08:00", To: "18:00", BytesPerSecond: 3},
		{From: "20:00", BytesPerSecond: 4},
	}
	if err := validateSchedule(schedule); err != nil {
		t.Fatal(err)
	}
	for when, want := range map[string]int64{
		"2026-01-03 12:00": 1, // Saturday
		"2026-01-04 05:59": 0, // Sunday: the night window begins on Sunday evening
		"2026-01-04 21:59": 4,
		"2026-01-04 22:00": 2,
		"2026-01-05 05:59": 2, // Monday morning still belongs to Sunday's window
		"2026-01-05 06:00": 0,
		"2026-01-05 08:00": 3,
		"2026-01-05 17:59": 3,
		"2026-01-05 18:00": 0,
		"2026-01-06 05:59": 2, // Tuesday morning, to Monday's
		"2026-01-06 22:30": 4, // Tuesday evening has no night window
		"2026-01-07 05:00": 0,
	} {
		at, err := time.Parse("2006-01-02 15:04", when)
		if err != nil {
			t.Fatal(err)
		}
		if got := rateAt(schedule, at); got != want {
			t.Errorf("%s: %d, want %d", when, got, want)
		}
	}
}

func TestValidateSchedule(t *testing.T) {
	for _, w := range []homeward.Window{
		{From: "8"}, {To: "24:00"}, {From: "08:00", To: "08:00"}, {BytesPerSecond: -1}, {Days: []time.Weekday{7}},
	} {
		if err := validateSchedule([]homeward.Window{w}); homeward.KindOf(err) != homeward.Invalid || homeward.RemedyOf(err) == "" {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

// Over a fake clock: whoever sleeps as told sends at the rate, however many share.
func TestBucket_Rate(t *testing.T) {
	var b bucket
	start := time.Unix(1000, 0)
	now := start
	const rate, chunk = 1 << 20, 64 << 10
	for range 160 { // 10 MiB
		now = now.Add(b.take(now, chunk, rate))
	}
	if took := now.Sub(start); took < 10*time.Second-burst || took > 10*time.Second+burst {
		t.Errorf("10 MiB at 1 MiB/s took %v", took)
	}
	if wait := b.take(now, chunk, 0); wait != 0 {
		t.Errorf("no cap, and yet a wait of %v", wait)
	}
	later := now.Add(time.Hour)
	if wait := b.take(later, rate, rate); wait < time.Second-burst {
		t.Errorf("an idle hour is saved up: %v for a second's worth", wait)
	}
}

func TestBucket_RateChange(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	b.take(now, 1<<20, 1<<10) // a long debt at night
	b.take(now, 1, 0)         // the cap is lifted
	if wait := b.take(now, 1<<10, 1<<20); wait > 2*burst {
		t.Errorf("an old debt survives the lifting of the cap: %v", wait)
	}
}
