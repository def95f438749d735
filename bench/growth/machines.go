package growth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/leg"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/meter"
	"github.com/homeward-dr/homeward/nbd"
)

// machines measures what each further machine costs one process server and one
// master target.
func machines(ctx context.Context, b *measure.Bench) (all []measure.Series, err error) {
	counts, length := []int{1, 8}, 5*time.Second
	if b.Smoke {
		counts, length = []int{2}, time.Second
	}
	if b.Full {
		counts, length = []int{1, 4, 16, 64}, 20*time.Second
	}
	for _, n := range counts {
		b.Say("%d machines on one process server and master target", n)
		rounds := 1
		if b.Full {
			rounds = 3
		}
		s, err := measure.Alternate(ctx, rounds, []measure.Label{label("figure", "machines"), label("machines", "%d", n)},
			measure.Contender{Name: ours, Measure: func(ctx context.Context) (measure.Values, error) { return fleet(ctx, b, n, length) }})
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	return all, nil
}

const (
	machineDisk = 64 << 20
	machinePace = 25 // blocks a second that each machine writes: 100 KiB/s
)

// crowd is machines that replicate.
type crowd struct {
	leg   *leg.Leg
	dir   string
	items []*leg.Item
}

// fleet replicates n machines that all write, and takes account of the roles.
func fleet(ctx context.Context, b *measure.Bench, n int, length time.Duration) (v measure.Values, err error) {
	c := &crowd{}
	if c.dir, err = os.MkdirTemp(b.Dir, "machines-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	if c.leg, err = leg.Start(ctx, leg.Options{Binary: b.Binary, Dir: filepath.Join(c.dir, "roles")}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.leg.Close()) }()
	if err := c.gather(ctx, n); err != nil {
		return nil, err
	}
	if v, err = c.work(ctx, length); err != nil {
		return nil, err
	}
	for i, it := range c.items {
		if err := it.Drain(ctx); err != nil {
			return nil, err
		}
		if err := same(c.image(i), c.replica(i)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (c *crowd) image(i int) string   { return filepath.Join(c.dir, fmt.Sprintf("disk%d.img", i)) }
func (c *crowd) replica(i int) string { return filepath.Join(c.dir, fmt.Sprintf("replica%d.img", i)) }

// gather protects n machines, a few at a time.
func (c *crowd) gather(ctx context.Context, n int) error {
	c.items = make([]*leg.Item, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range n {
		g.Go(func() error {
			f, err := os.OpenFile(c.image(i), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			if err := errors.Join(f.Truncate(machineDisk), f.Close()); err != nil {
				return err
			}
			c.items[i], err = c.leg.Replicate(ctx, homeward.ItemID(fmt.Sprintf("machine%02d", i)), c.image(i), c.replica(i), homeward.Policy{MinInterval: time.Second})
			return err
		})
	}
	return g.Wait()
}

// work has all machines write for a while.
func (c *crowd) work(ctx context.Context, length time.Duration) (measure.Values, error) {
	var meters [3]*meter.Meter
	for i, pid := range c.leg.PIDs() {
		var err error
		if meters[i], err = meter.New(pid); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for _, it := range c.items {
		g.Go(func() error { return write(gctx, it.URI, length) })
	}
	var ages []float64
	g.Go(func() (err error) {
		ages, err = c.ages(gctx, length)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	v := measure.Values{"rpo_p99": measure.Quantile(slices.Sorted(slices.Values(ages)), 0.99)}
	for i, role := range []string{"agent", "process_server", "master_target"} {
		used, err := meters[i].End()
		if err != nil {
			return nil, err
		}
		v["cpu."+role] = used.CPU / seconds
		v["cpu_each."+role] = used.CPU / seconds / float64(len(c.items))
		v["peak_bytes."+role] = float64(used.Peak)
	}
	return v, nil
}

// write is a machine at work.
func write(ctx context.Context, uri string, length time.Duration) (err error) {
	c, err := nbd.Dial(ctx, nbd.ClientOptions{URI: uri})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	rng := newContent(uri)
	buf := make([]byte, homeward.BlockSize)
	tick := time.NewTicker(time.Second / machinePace)
	defer tick.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, _ = rng.Read(buf) // never fails
		at := int64(buf[0])<<8 | int64(buf[1])
		if _, err := c.WriteAt(buf, at%(machineDisk/homeward.BlockSize)*homeward.BlockSize); err != nil {
			return err
		}
	}
	return c.Flush()
}

// ages asks machine after machine how old its newest point is, a hundred times a second.
func (c *crowd) ages(ctx context.Context, length time.Duration) (ages []float64, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(length)
	for i := 0; time.Now().Before(end); i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		rep, err := c.items[i%len(c.items)].Report(ctx)
		if err != nil {
			return nil, err
		}
		if !rep.AppliedAt.IsZero() {
			ages = append(ages, time.Since(rep.AppliedAt).Seconds())
		}
	}
	if len(ages) == 0 {
		return nil, fmt.Errorf("no machine had a point within %v", length)
	}
	return ages, nil
}
