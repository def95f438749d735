package processserver

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// addressOf is a target's URL without the name of who is there: a cap is for a link.
func addressOf(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.User == nil {
		return target
	}
	u.User = nil
	return u.String()
}

// rateAt is the cap in force at t, in bytes a second; 0: none. The first window
// that t lies in counts.
func rateAt(schedule []homeward.Window, t time.Time) int64 {
	for _, w := range schedule {
		if within(w, t) {
			return w.BytesPerSecond
		}
	}
	return 0
}

// within: a window that passes midnight belongs to the day on which it begins.
func within(w homeward.Window, t time.Time) bool {
	from, _ := minuteOf(w.From, 0)
	to, _ := minuteOf(w.To, 24*60)
	now := t.Hour()*60 + t.Minute()
	on := func(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, d) }
	if from < to {
		return on(t.Weekday()) && now >= from && now < to
	}
	yesterday := (t.Weekday() + 6) % 7
	return on(t.Weekday()) && now >= from || on(yesterday) && now < to
}

// minuteOf is the minute of the day that s ("08:30") names.
func minuteOf(s string, empty int) (int, error) {
	if s == "" {
		return empty, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, err
	}
	return t.Hour()*60 + t.Minute(), nil
}

const maxWindows = 100

func validateSchedule(schedule []homeward.Window) error {
	bad := func(i int, field, fix, format string, args ...any) error {
		return homeward.Errorf("limit link", homeward.Invalid, fmt.Sprintf("schedule[%d].%s", i, field), fix, format, args...)
	}
	if len(schedule) > maxWindows {
		return bad(maxWindows, "", fmt.Sprintf("give at most %d windows", maxWindows), "%d windows", len(schedule))
	}
	for i, w := range schedule {
		from, err := minuteOf(w.From, 0)
		if err != nil {
			return bad(i, "from", `give a time such as "08:00"`, "%q", w.From)
		}
		to, err := minuteOf(w.To, 24*60)
		if err != nil {
			return bad(i, "to", `give a time such as "18:00"`, "%q", w.To)
		}
		if from == to {
			return bad(i, "to", "leave both from and to empty for the whole day", "the window is empty")
		}
		if w.BytesPerSecond < 0 {
			return bad(i, "bytes_per_second", "give 0 for no cap, or more", "%d", w.BytesPerSecond)
		}
		for _, d := range w.Days {
			if d < time.Sunday || d > time.Saturday {
				return bad(i, "days", "give 0 (Sunday) to 6 (Saturday)", "%d", d)
			}
		}
	}
	return nil
}
