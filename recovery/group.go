package recovery

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
)

// CutGroup makes one group-consistent point of several items: every machine is
// held, then every machine is cut, then every machine is released. The point
// exists when all members have applied it; the reports are in the items' order.
func CutGroup(ctx context.Context, items []*Item) ([]homeward.CutReport, error) {
	token := homeward.NewID()
	request := func(it *Item) homeward.HoldRequest {
		return homeward.HoldRequest{Item: it.ID(), Token: token, Deadline: 2 * time.Second}
	}
	defer func() {
		for _, it := range items {
			// A hold that is not released ends by itself at its deadline.
			_, err := it.Running.Agent.ReleaseHold(context.WithoutCancel(ctx), request(it))
			if err != nil && it.Log != nil {
				it.Log.Warn("hold not released", "item", it.ID(), "error", err)
			}
		}
	}()
	hold, holdCtx := errgroup.WithContext(ctx)
	for _, it := range items {
		hold.Go(func() error { _, err := it.Running.Agent.Hold(holdCtx, request(it)); return err })
	}
	if err := hold.Wait(); err != nil {
		return nil, err
	}
	cuts := make([]homeward.CutReport, len(items))
	cut, cutCtx := errgroup.WithContext(ctx)
	for i, it := range items {
		cut.Go(func() (err error) { cuts[i], err = it.Running.Agent.CutHeld(cutCtx, request(it)); return err })
	}
	return cuts, cut.Wait()
}
