package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/sites"
	"github.com/homeward-dr/homeward/test/stage"
)

// ages measures the RPO in each setting of load and minimum interval.
func ages(ctx context.Context, b *measure.Bench) (all []measure.Series, err error) {
	loads, intervals, rounds := []int{10}, []time.Duration{100 * time.Millisecond, time.Second}, 1
	if b.Smoke {
		intervals = intervals[:1]
	}
	if b.Full {
		loads, intervals, rounds = []int{1, 10, 50}, []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second}, 1
	}
	for _, interval := range intervals {
		for _, load := range loads {
			b.Say("RPO at %d MB/s, minimum interval %v", load, interval)
			s, err := measure.Alternate(ctx, rounds, []measure.Label{label("figure", "rpo"), label("interval", "%v", interval), label("load", "%d MB/s", load)},
				measure.Contender{Name: ours, Measure: func(ctx context.Context) (measure.Values, error) {
					return age(ctx, b, load, interval)
				}})
			if err != nil {
				return all, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// age writes at a rate for a while, and asks how old the newest point is.
func age(ctx context.Context, b *measure.Bench, load int, interval time.Duration) (v measure.Values, err error) {
	t, err := sites.Raise(ctx, b, stage.Options{DiskSize: 1 << 30, Churn: -1}, homeward.Policy{MinInterval: interval}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Strike()) }()
	if err := t.Vacate(ctx, t.Home); err != nil {
		return nil, err
	}
	uri, err := t.URI(ctx, t.Home)
	if err != nil {
		return nil, err
	}
	length := max(6*time.Second, 6*interval)
	if b.Smoke {
		length = time.Second
	}
	if b.Full {
		length = max(10*time.Second, 4*interval)
	}
	load4k := startLoad(ctx, uri, load, length+interval, b.Seed)
	if err := sites.Pause(ctx, interval); err != nil { // the first cut under load
		return nil, errors.Join(err, load4k.wait())
	}
	samples, err := sample(ctx, t, length)
	if e := load4k.wait(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	rep, err := t.Home.Side.Agent.Report(ctx, t.Request())
	if err != nil {
		return nil, err
	}
	slices.Sort(samples)
	at := func(q float64) float64 { return measure.Quantile(samples, q) }
	v = measure.Values{"rpo_p50": at(0.5), "rpo_p99": at(0.99), "rpo_max": at(1), "samples": float64(len(samples)),
		"intervals_p99": at(0.99) / interval.Seconds(), "hold_p99": rep.HoldP99.Seconds(), "bytes_per_second": load4k.rate}
	return v, t.Proved(ctx)
}

// sample asks for the age of the newest point every 10 ms.
func sample(ctx context.Context, t *sites.Pair, length time.Duration) (ages []float64, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		rep, err := t.Home.Side.Agent.Report(ctx, t.Request())
		if err != nil {
			return nil, err
		}
		if !rep.AppliedAt.IsZero() {
			ages = append(ages, time.Since(rep.AppliedAt).Seconds())
		}
	}
	if len(ages) == 0 {
		return nil, fmt.Errorf("no point was applied in %v", length)
	}
	return ages, nil
}

// writing is fio at work.
type writing struct {
	cmd  *exec.Cmd
	out  strings.Builder
	rate float64 // bytes a second, once it ended
}

// startLoad writes 4 KiB blocks at random places at a rate. That it could not be
// started is told by wait.
func startLoad(ctx context.Context, uri string, megabytes int, length time.Duration, seed uint64) *writing {
	w := &writing{cmd: exec.CommandContext(ctx, "fio", "--name=load", "--ioengine=nbd", "--uri="+uri, "--rw=randwrite", "--bs=4k", "--iodepth=16",
		"--size=1g", "--norandommap", "--refill_buffers", "--time_based", fmt.Sprintf("--runtime=%dms", length.Milliseconds()),
		fmt.Sprintf("--rate=%d", megabytes*1_000_000), fmt.Sprintf("--randseed=%d", seed), "--output-format=json")}
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.out
	if err := w.cmd.Start(); err != nil {
		w.cmd.Err = err
	}
	return w
}

func (w *writing) wait() error {
	if w.cmd.Err != nil {
		return w.cmd.Err
	}
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("fio: %w: %s", err, w.out.String())
	}
	var report struct {
		Jobs []struct {
			Write struct {
				Rate float64 `json:"bw_bytes"`
			}
		}
	}
	text := w.out.String()
	if err := json.Unmarshal([]byte(text[max(0, strings.IndexByte(text, '{')):]), &report); err != nil {
		return fmt.Errorf("fio's report: %w", err)
	}
	if len(report.Jobs) == 0 {
		return fmt.Errorf("fio's report has no job: %s", text)
	}
	w.rate = report.Jobs[0].Write.Rate
	return nil
}
