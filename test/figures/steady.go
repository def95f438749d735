package main

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/stage"
)

func rpo(ctx context.Context, l *bench) error {
	for _, interval := range []time.Duration{200 * time.Millisecond, time.Second} {
		if err := rpoAt(ctx, l, interval); err != nil {
			return err
		}
	}
	return nil
}

func rpoAt(ctx context.Context, l *bench, interval time.Duration) error {
	st, err := l.build(ctx, stage.Options{}, homeward.Policy{MinInterval: interval}, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	var worst, sum time.Duration
	n := 0
	tick := time.NewTicker(7 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(12 * interval); time.Now().Before(end); {
		<-tick.C
		rep, err := st.Home.Side.Agent.Report(ctx, id(st))
		if err != nil {
			return err
		}
		if rep.AppliedAt.IsZero() {
			continue // the agent has not heard of the first point yet
		}
		age := time.Since(rep.AppliedAt)
		worst, sum, n = max(worst, age), sum+age, n+1
	}
	l.say("  interval %v: newest point at most %v old (%.2f intervals), %v on average\n", interval,
		worst.Round(time.Millisecond), worst.Seconds()/interval.Seconds(), (sum / time.Duration(n)).Round(time.Millisecond))
	return nil
}

func memory(ctx context.Context, l *bench) error {
	began := time.Now()
	st, err := l.build(ctx, stage.Options{DiskSize: 2 << 30}, homeward.Policy{}, func(st *stage.Stage) error {
		err := fill(st)
		began = time.Now()
		return err
	})
	if err != nil {
		return err
	}
	defer st.Close()
	took := time.Since(began)
	l.say("  2 GiB of random data in %v, %.0f MiB/s\n", took.Round(time.Millisecond), 2048/took.Seconds())
	l.peaks(st)
	return nil
}

func points(ctx context.Context, l *bench) error {
	p := homeward.Policy{MinInterval: 50 * time.Millisecond, Retention: []homeward.Tier{{For: 24 * time.Hour}}}
	st, err := l.build(ctx, stage.Options{}, p, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	for {
		rep, err := st.Away.Side.Target.Report(ctx, id(st))
		if err != nil {
			return err
		}
		if rep.Points >= 1000 {
			l.say("  %d points, %d MiB of undo\n", rep.Points, rep.RetentionBytes>>20)
			break
		}
		time.Sleep(200 * time.Millisecond) // the pace of asking
	}
	began := time.Now()
	list, err := st.Away.Side.Target.Points(ctx, id(st))
	if err != nil {
		return err
	}
	listed := time.Since(began)
	began = time.Now()
	oldest := homeward.ViewRequest{Item: st.Item.ID(), Name: "oldest", Kind: homeward.ViewReadOnly, Point: list.Points[1].Position}
	if _, err := st.Away.Side.Target.OpenView(ctx, oldest); err != nil {
		return err
	}
	l.say("  listed in %v, a view of the oldest opened in %v\n", listed.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	l.peaks(st)
	return nil
}
