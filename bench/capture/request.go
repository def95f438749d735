package capture

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward/bench/measure"
)

// rival is who answers requests, and how it is started.
type rival struct {
	name    string
	program string // that it takes; empty: ours, without which there is nothing to say
	serve   func(context.Context, *place) (target, error)
}

func rivals() []rival {
	return []rival{
		{nameOn, "", func(ctx context.Context, p *place) (target, error) { return p.serveHeld(ctx, "on") }},
		{nameNbdkit, "nbdkit", func(ctx context.Context, p *place) (target, error) { return p.serveNbdkit(ctx, "nbdkit") }},
		{nameQEMU, "qemu-nbd", func(ctx context.Context, p *place) (target, error) { return p.serveQEMU(ctx, "qemu-nbd") }},
		{nameOff, "", func(ctx context.Context, p *place) (target, error) { return p.serveBare(ctx, "off") }},
		{nameFile, "fio", func(ctx context.Context, p *place) (target, error) {
			path, err := p.image(ctx, "bare")
			return target{file: path}, err
		}},
	}
}

// requests measures requests without replication. Who cannot be started, or does
// not read back what was written, is missing with the reason; ours are an error then.
func requests(ctx context.Context, b *measure.Bench, plan plan, p *place, f *measure.Figure) error {
	targets, why := map[string]target{}, map[string]string{}
	for _, r := range rivals() {
		if why[r.name] = missing(ctx, r.program); why[r.name] != "" {
			continue
		}
		t, err := r.serve(ctx, p)
		if err == nil {
			err = verify(ctx, t, min(p.size, 16<<20), b.Seed)
		}
		if err != nil && (r.program == "" || ctx.Err() != nil) {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		if err != nil {
			why[r.name] = err.Error()
		}
		targets[r.name] = t
	}
	for _, w := range plan.requests {
		b.Say("capture: %s, %s", p.name, w)
		var turn []measure.Contender
		for _, r := range rivals() {
			runs := uint64(0)
			turn = append(turn, measure.Contender{Name: r.name, Missing: why[r.name], Measure: func(ctx context.Context) (measure.Values, error) {
				runs++
				return fio(ctx, targets[r.name], w, p.size, plan.run, b.Seed+runs, nil)
			}})
		}
		s, err := measure.Alternate(ctx, b.Rounds, w.labels(partRequests, p.name), turn...)
		f.Series = append(f.Series, s)
		if err != nil {
			return err
		}
	}
	return nil
}
