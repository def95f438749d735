package world

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProtectAndPoints(t *testing.T) {
	w := New(t, powerloss.Rand(t), Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	it := w.Items[0]
	if err := w.AwaitAll(ctx); err != nil {
		t.Fatal(err)
	}
	if err := it.Protect(ctx); err != nil {
		t.Fatal(err)
	}
	g := w.Home.Hyper.Guest(it.ID())
	for range 5 {
		from := w.Clock.Tick()
		cut, err := it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash})
		if err != nil {
			t.Fatal(err)
		}
		to := w.Clock.Tick()
		list, err := it.Standby.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, p := range list.Points[max(0, len(list.Points)-20):] { // where reading is slower than points come, all would never end
			seen, err := w.CheckPoint(ctx, it.Standby, it.ID(), p)
			if err != nil {
				t.Fatal(err)
			}
			if p.Position == cut.Position {
				found = true
				if err := Between(from, to, seen); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !found {
			t.Fatalf("cut %v is no point of %v", cut.Position, list.Points)
		}
	}
	t.Logf("%d writes", g.Done())
}
