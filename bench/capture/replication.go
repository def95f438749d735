package capture

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/leg"
	"github.com/homeward-dr/homeward/bench/measure"
)

// policy cuts every interval, and keeps few points: what is measured is the way of
// the writes, and the room for their history is bounded.
func policy(interval time.Duration) homeward.Policy {
	return homeward.Policy{MinInterval: interval, Retention: []homeward.Tier{{For: 5 * time.Second}}}
}

// replicated is an item of ours with its two images.
type replicated struct {
	place           *place
	item            *leg.Item
	source, replica string
	target          target
}

func (p *place) openReplicated(ctx context.Context) (_ *replicated, err error) {
	r := &replicated{place: p, replica: p.path("replica")}
	if r.source, err = p.image(ctx, "source"); err != nil {
		return nil, err
	}
	if r.item, err = p.leg.Replicate(ctx, "replicated", r.source, r.replica, policy(time.Second)); err != nil {
		return nil, err
	}
	r.target = target{uri: r.item.URI, pids: p.leg.PIDs()}
	return r, nil
}

// measure runs the workload while cuts are made, shipped and applied, waits until
// the replica holds everything, and compares.
func (r *replicated) measure(ctx context.Context, w workload, length time.Duration, seed uint64) (measure.Values, error) {
	before, err := r.item.Report(ctx)
	if err != nil {
		return nil, err
	}
	v, err := fio(ctx, r.target, w, r.place.size, length, seed, func() error { return r.item.Drain(ctx) })
	if err != nil {
		return nil, err
	}
	after, err := r.item.Report(ctx)
	if err != nil {
		return nil, err
	}
	v["wire_bytes"] = float64(after.Sent.WireBytes - before.Sent.WireBytes)
	v["demotions"] = float64(after.Demotions - before.Demotions)
	return v, r.place.compare(ctx, r.source, r.replica)
}

// replication measures requests while they are replicated: ours and QEMU's mirror,
// beside ours with capture alone. Then what cuts hold.
func replication(ctx context.Context, b *measure.Bench, plan plan, p *place, f *measure.Figure) error {
	held, err := p.serveHeld(ctx, "on")
	if err != nil {
		return err
	}
	ours, err := p.openReplicated(ctx)
	if err != nil {
		return err
	}
	var theirs *mirror
	why := missing(ctx, "qemu-storage-daemon")
	if why == "" {
		why = missing(ctx, "qemu-nbd")
	}
	if why == "" {
		if theirs, err = p.openMirror(ctx); err != nil {
			why = err.Error()
		}
	}
	for _, w := range plan.replication {
		b.Say("capture: %s, %s, replicating", p.name, w)
		contender := func(name, missing string, run func(context.Context, uint64) (measure.Values, error)) measure.Contender {
			seed := b.Seed // another one in each run: what an earlier one wrote must not look like its work
			return measure.Contender{Name: name, Missing: missing, Measure: func(ctx context.Context) (measure.Values, error) {
				seed++
				return run(ctx, seed)
			}}
		}
		mirrored := func(mode string) func(context.Context, uint64) (measure.Values, error) {
			return func(ctx context.Context, seed uint64) (measure.Values, error) {
				return theirs.measure(ctx, mode, w, plan.replicated, seed)
			}
		}
		s, err := measure.Alternate(ctx, plan.rounds, w.labels(partReplication, p.name),
			contender(nameReplicating, "", func(ctx context.Context, seed uint64) (measure.Values, error) {
				return ours.measure(ctx, w, plan.replicated, seed)
			}),
			contender(nameOn, "", func(ctx context.Context, seed uint64) (measure.Values, error) {
				return fio(ctx, held, w, p.size, plan.replicated, seed, nil)
			}),
			contender(nameMirror, why, mirrored("write-blocking")), contender(nameBackground, why, mirrored("background")))
		f.Series = append(f.Series, s)
		if err != nil {
			return err
		}
	}
	return holds(ctx, b, plan, ours, f)
}
