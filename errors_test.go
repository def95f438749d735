package homeward_test

import (
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
)

func TestWrap_SaysNothingTwice(t *testing.T) {
	cause := homeward.Errorf("lock", homeward.InUse, "/spool/lock", "stop the other process", "somebody has it")
	if got := homeward.Wrap(cause, "lock", "/spool/lock"); got.Error() != cause.Error() || homeward.KindOf(got) != homeward.InUse {
		t.Errorf("the same again: %v", got)
	}
	for _, err := range []error{homeward.Wrap(cause, "open", "/spool/lock"), homeward.Wrap(cause, "lock", "item web01")} {
		if !strings.HasSuffix(err.Error(), cause.Error()) || err.Error() == cause.Error() || homeward.RemedyOf(err) == "" {
			t.Errorf("something new: %v", err)
		}
	}
	if homeward.Wrap(nil, "lock", "") != nil {
		t.Error("nil does not stay nil")
	}
}
