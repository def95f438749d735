package capture

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

func TestHold(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 1<<20)
	token := homeward.NewID()
	r.fill(0, 1, 1, 'a')
	r.must(r.Hold(ctx, token, MaxHold))
	r.must(r.Hold(ctx, token, MaxHold))
	if err := r.Hold(ctx, homeward.NewID(), MaxHold); !errors.Is(err, ErrHeld) {
		t.Errorf("second group: %v", err)
	}
	if _, err := r.Cut(ctx, CutOptions{}); !errors.Is(err, ErrHeld) {
		t.Errorf("cut under a hold: %v", err)
	}
	var guest sync.WaitGroup
	guest.Go(func() {
		if _, err := r.Disk(0).WriteAt(pattern(1, 'b'), 2*block.Size); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.CutHeld(ctx, homeward.NewID()); !errors.Is(err, ErrNoHold) {
		t.Errorf("cut with another token: %v", err)
	}
	c, err := r.CutHeld(ctx, token)
	r.must(err)
	guest.Wait()
	wantRuns(t, "held writes are of the next epoch", c.Map(0), block.Run{Start: 1, Count: 1})
	if _, err := r.CutHeld(ctx, token); !errors.Is(err, ErrNoHold) {
		t.Errorf("second cut with a token: %v", err)
	}
	r.ReleaseHold(token)
	if err := r.Hold(ctx, homeward.NewID(), time.Second); !errors.Is(err, ErrCutOpen) {
		t.Errorf("hold while a cut is open: %v", err)
	}
	r.must(c.Demote())
	if err := r.Hold(ctx, token, time.Second); !errors.Is(err, ErrNoHold) {
		t.Errorf("a used token holds again: %v", err)
	}
	if err := r.Hold(ctx, homeward.NewID(), MaxHold+1); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("a hold without end: %v", err)
	}
}

func TestHoldExpires(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 1<<20)
	token := homeward.NewID()
	r.must(r.Hold(ctx, token, time.Millisecond))
	r.fill(0, 0, 1, 'a') // goes on when the hold has expired
	if _, err := r.CutHeld(ctx, token); !errors.Is(err, ErrNoHold) {
		t.Errorf("cut with an expired token: %v", err)
	}
	if err := r.Hold(ctx, token, time.Second); !errors.Is(err, ErrNoHold) {
		t.Errorf("an expired token holds again: %v", err)
	}
	other := homeward.NewID()
	r.must(r.Hold(ctx, other, MaxHold))
	r.ReleaseHold(other)
	r.fill(0, 0, 1, 'a')
	r.must(r.Hold(ctx, homeward.NewID(), MaxHold))
	r.must(r.Close(ctx)) // ends a hold
}

func TestCutGivesUpWithItsCaller(t *testing.T) {
	r := newRig(t, 1<<20)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Cut(ctx, CutOptions{}); homeward.KindOf(err) != homeward.Canceled {
		t.Errorf("cancelled cut: %v", err)
	}
	r.fill(0, 0, 1, 'a')
	wantRuns(t, "cut", r.cut(CutOptions{}).Map(0), block.Run{Start: 0, Count: 1})
}
