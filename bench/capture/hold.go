package capture

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
)

// holdInterval is how often is cut where holds are measured: many cuts in little time.
const holdInterval = 100 * time.Millisecond

// holds measures how long cuts hold writes, under load.
func holds(ctx context.Context, b *measure.Bench, plan plan, r *replicated, f *measure.Figure) error {
	if err := r.item.SetPolicy(ctx, policy(holdInterval)); err != nil {
		return err
	}
	for i, w := range plan.holds {
		b.Say("capture: %s, %s, holds of cuts", r.place.name, w)
		s, err := measure.Alternate(ctx, 1, w.labels(partHold, r.place.name), measure.Contender{Name: nameReplicating,
			Measure: func(ctx context.Context) (measure.Values, error) {
				return r.holds(ctx, w, plan.held, b.Seed+1000+uint64(i))
			}})
		f.Series = append(f.Series, s)
		if err != nil {
			return err
		}
	}
	return nil
}

// holds runs the workload and asks meanwhile what the newest cut held.
func (r *replicated) holds(ctx context.Context, w workload, length time.Duration, seed uint64) (measure.Values, error) {
	before, err := r.item.Report(ctx)
	if err != nil {
		return nil, err
	}
	watched, stop := context.WithCancel(ctx)
	seen, failed := map[homeward.ID]time.Duration{}, make(chan error, 1)
	go func() {
		tick := time.NewTicker(holdInterval / 5)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-watched.Done():
				failed <- nil
				return
			}
			rep, err := r.item.Report(ctx)
			if err != nil {
				failed <- err
				return
			}
			if rep.Newest.Position.Cut != before.Newest.Position.Cut {
				seen[rep.Newest.Position.Cut] = rep.Newest.Hold
			}
		}
	}()
	_, err = fio(ctx, r.target, w, r.place.size, length, seed, nil)
	stop()
	if err := errors.Join(err, <-failed); err != nil {
		return nil, err
	}
	if err := r.item.Drain(ctx); err != nil {
		return nil, err
	}
	var all []float64
	for _, hold := range seen {
		all = append(all, hold.Seconds())
	}
	slices.Sort(all)
	if len(all) == 0 {
		return nil, errors.New("no cut was made")
	}
	v := measure.Values{"cuts": float64(len(all)), "hold_p50": measure.Quantile(all, 0.5), "hold_p99": measure.Quantile(all, 0.99), "hold_max": all[len(all)-1]}
	return v, r.place.compare(ctx, r.source, r.replica)
}
