package shiptest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTwin(t *testing.T) {
	Run(t, func(t *testing.T, leg Leg) Subject {
		w := NewTwin()
		w.Patience = time.Second
		if err := w.Prepare(leg.Machine.Item, leg.Generation, leg.Base); err != nil {
			t.Fatal(err)
		}
		return TwinSubject(w, leg)
	})
}

func TestContent_Diff(t *testing.T) {
	zero := Content{{0, 1}: make([]byte, homeward.BlockSize)}
	if d := zero.Diff(Content{}); d != "" {
		t.Errorf("zero differs from absent: %s", d)
	}
	if (Content{}).Diff(Content{{0, 1}: {1}}) == "" {
		t.Error("a difference is not seen")
	}
}
