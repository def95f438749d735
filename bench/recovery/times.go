package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/sites"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/test/stage"
)

// recoveries measures failing over to the newest point and to one of the past, and
// reading a point.
func recoveries(ctx context.Context, b *measure.Bench) (all []measure.Series, err error) {
	rounds, histories := 3, []int{200}
	if b.Smoke {
		rounds, histories = 1, []int{20}
	}
	if b.Full {
		rounds, histories = b.Rounds, []int{200, 3600}
	}
	for _, points := range histories {
		b.Say("RTO with %d points", points)
		labels := []measure.Label{label("figure", "rto"), label("points", "%d", points), label("history", "%v at a point a second", time.Duration(points)*time.Second)}
		n := rounds
		if points > 1000 {
			n = 1 // each takes minutes of history; the shorter one shows how runs differ
		}
		s, err := measure.Alternate(ctx, n, labels, measure.Contender{Name: ours, Measure: func(ctx context.Context) (measure.Values, error) {
			return rescue(ctx, b, points)
		}})
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	return all, nil
}

// rescue lets history grow, reads its oldest and its newest point, loses the site,
// fails over to the newest point, and changes to the oldest.
func rescue(ctx context.Context, b *measure.Bench, points int) (v measure.Values, err error) {
	const pace = 50 * time.Millisecond
	t, err := sites.Raise(ctx, b, stage.Options{}, homeward.Policy{MinInterval: pace, Retention: []homeward.Tier{{For: 24 * time.Hour}}}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Strike()) }()
	if err := grow(ctx, t, points); err != nil {
		return nil, err
	}
	v = measure.Values{}
	began := time.Now()
	list, err := t.Away.Side.Target.Points(ctx, t.Request())
	if err != nil {
		return nil, err
	}
	v["list"] = time.Since(began).Seconds()
	if len(list.Points) < points {
		return nil, fmt.Errorf("%d points; there were %d", len(list.Points), points)
	}
	oldest, newest := older(list.Points)
	if v["view_newest"], err = view(ctx, t, "newest", newest); err != nil {
		return nil, err
	}
	if v["view_oldest"], err = view(ctx, t, "oldest", oldest); err != nil {
		return nil, err
	}
	if err := t.Lose(ctx, t.Home); err != nil {
		return nil, err
	}
	began = time.Now()
	if err := t.Item.FailOver(ctx, homeward.Position{}); err != nil {
		return nil, err
	}
	v["work_latest"] = time.Since(began).Seconds()
	last, err := t.Running(ctx, t.Away, 0)
	if err != nil {
		return nil, err
	}
	v["runs_latest"] = time.Since(began).Seconds()
	said := t.Said(ctx, t.Away)
	began = time.Now()
	if err := t.Item.ChangePoint(ctx, oldest.Position); err != nil {
		return nil, err
	}
	v["work_past"] = time.Since(began).Seconds()
	past, err := t.Running(ctx, t.Away, said)
	if err != nil {
		return nil, err
	}
	if past >= last {
		return nil, fmt.Errorf("the oldest point holds record %d, the newest one %d", past, last)
	}
	v["runs_past"] = time.Since(began).Seconds()
	return v, nil
}

// older are the oldest bootable point and the newest one.
func older(all []homeward.Point) (oldest, newest homeward.Point) {
	oldest, newest = all[0], all[0]
	for _, p := range all {
		if p.At.Before(oldest.At) {
			oldest = p
		}
		if p.At.After(newest.At) {
			newest = p
		}
	}
	return oldest, newest
}

// grow waits until the item has that many points.
func grow(ctx context.Context, t *sites.Pair, points int) error {
	for {
		rep, err := t.Away.Side.Target.Report(ctx, t.Request())
		if err != nil || rep.Points >= points {
			return err
		}
		if err := sites.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// view opens a point and reads its first MiB: how long that took.
func view(ctx context.Context, t *sites.Pair, name string, p homeward.Point) (seconds float64, err error) {
	req := homeward.ViewRequest{Item: t.Item.ID(), Name: name, Kind: homeward.ViewReadOnly, Point: p.Position}
	began := time.Now()
	view, err := t.Away.Side.Target.OpenView(ctx, req)
	if err != nil {
		return 0, err
	}
	c, err := nbd.Dial(ctx, nbd.ClientOptions{URI: view.Disks[0].URI})
	if err != nil {
		return 0, err
	}
	_, err = c.ReadAt(make([]byte, 1<<20), 0)
	seconds = time.Since(began).Seconds()
	if err = errors.Join(err, c.Close()); err != nil {
		return 0, err
	}
	_, err = t.Away.Side.Target.CloseView(ctx, req)
	return seconds, err
}
