package recovery

import (
	"testing"

	"github.com/homeward-dr/homeward"
)

func TestOnward(t *testing.T) {
	p := func(done, total int64) homeward.Progress { return homeward.Progress{Done: done, Total: total} }
	for _, c := range []struct{ before, now, want homeward.Progress }{
		{p(0, 0), p(5, 10), p(5, 10)},
		{p(5, 10), p(7, 10), p(7, 10)},
		{p(5, 10), p(3, 10), p(5, 10)},
		{p(5, 10), p(10, 100), p(50, 100)}, // more became changed
		{p(10, 10), p(0, 3), p(3, 3)},      // it turned to another part
		{p(9, 10), p(0, 0), p(0, 0)},       // not known: nothing is said
	} {
		if got := onward(c.before, c.now); got != c.want {
			t.Errorf("%v after %v: told %v, want %v", c.now, c.before, got, c.want)
		}
	}
}
