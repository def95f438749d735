package mastertarget_test

import (
	"testing"

	"github.com/homeward-dr/homeward"
)

// A leg may be bound to one process server; it stays so over a restart.
func TestMaySend(t *testing.T) {
	r := newRig(t)
	r.open()
	if err := r.target.MaySend("nobody", "ps-a"); err != nil {
		t.Errorf("an item that is not known: %v", err)
	}
	r.prepare()
	if err := r.target.MaySend(id, "ps-a"); err != nil {
		t.Errorf("a leg that is not bound: %v", err)
	}
	req := r.request()
	req.From = "ps-a"
	must(r.target.Prepare(ctx, req))(t)
	check := func() {
		t.Helper()
		if err := r.target.MaySend(id, "ps-a"); err != nil {
			t.Error(err)
		}
		if err := r.target.MaySend(id, "ps-b"); homeward.KindOf(err) != homeward.Forbidden || homeward.RemedyOf(err) == "" {
			t.Errorf("another process server: %v", err)
		}
	}
	check()
	r.crash(false)
	check()
}
