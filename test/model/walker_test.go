package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// stepTimeout bounds one call of a list, deaths and retries included.
const stepTimeout = 20 * time.Second

// walker takes one item through its life and checks it after every step.
type walker struct {
	t   *testing.T
	w   *world.World
	it  *recovery.Item
	rng *rand.Rand

	// since is a time of the world's clock at or after which the newest point must
	// be: the last point that was acknowledged to anybody.
	since int64
	stale []*staleGuest
	steps []string
	apart bool // a site is off the network for a whole step: nothing can be compared
}

// staleGuest is a machine of an older generation that somebody may resume.
type staleGuest struct {
	guest *world.Guest
	side  string
	// fenced is set once the side was handed over: nothing it writes may be answered.
	fenced bool
}

func newWalker(t *testing.T, rng *rand.Rand, o world.Options) *walker {
	t.Helper()
	w := world.New(t, rng, o)
	k := &walker{t: t, w: w, it: w.Items[0], rng: rng}
	k.do("protect", func(ctx context.Context) error {
		if err := w.AwaitAll(ctx); err != nil {
			return err
		}
		for _, it := range w.Items {
			if err := it.Protect(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return k
}

func (k *walker) running() *world.Site { return k.w.Site(k.it.Running) }
func (k *walker) standby() *world.Site { return k.w.Site(k.it.Standby) }

// at is the site where the machine runs now: the standby one before Commit.
func (k *walker) at() *world.Site {
	if k.it.State == recovery.FailedOver {
		return k.standby()
	}
	return k.running()
}

func (k *walker) guest() *world.Guest { return k.at().Hyper.Guest(k.it.ID()) }

func (k *walker) id() homeward.ItemRequest { return homeward.ItemRequest{Item: k.it.ID()} }

// note writes down a step, for whoever reads a failure.
func (k *walker) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	k.steps = append(k.steps, s)
	k.w.Note("%s", s)
	if testing.Verbose() { // told at once, for whoever waits or loses the rest
		k.t.Log(s)
	}
}

func (k *walker) fatal(format string, args ...any) {
	k.t.Helper()
	k.t.Logf("%d steps: %s", len(k.steps), strings.Join(k.steps, "; "))
	k.t.Fatalf(format, args...)
}

func (k *walker) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(k.t.Context(), stepTimeout)
}

// do runs a step, and again when a death cut it short.
func (k *walker) do(name string, step func(ctx context.Context) error) {
	k.t.Helper()
	k.note("%s", name)
	ctx, cancel := k.context()
	defer cancel()
	began := time.Now()
	for {
		before := k.deaths()
		err := step(ctx)
		if err == nil {
			break
		}
		// A connection of a killed process may look alive for a moment: InUse.
		// A power loss leaves suspects: Conflict until they are compared.
		kind := homeward.KindOf(err)
		passing := homeward.Retryable(err) || kind == homeward.InUse || kind == homeward.Conflict && k.incomplete(ctx) || before != k.deaths()
		if ctx.Err() != nil || !passing {
			k.fatal("%s: %v", name, err)
		}
		k.note("… cut short: %v", err)
		k.mend(ctx)
		if err := errors.Join(k.w.AwaitAll(ctx), k.w.Tick(ctx)); err != nil {
			k.fatal("%s: %v", name, err)
		}
	}
	if took := time.Since(began); took > time.Second {
		k.note("… took %.1f s", took.Seconds())
	}
	if err := k.w.Err(); err != nil {
		k.fatal("%s: %v", name, err)
	}
}

// incomplete reports whether an item waits for a resync.
func (k *walker) incomplete(ctx context.Context) bool {
	for _, it := range k.w.Items {
		r, err := it.Running.Agent.Report(ctx, homeward.ItemRequest{Item: it.ID()})
		if it.State == recovery.Protected && err == nil && !r.Complete {
			return true
		}
	}
	return false
}

// mend compares what a power loss left suspect, as far as it can be done now.
func (k *walker) mend(ctx context.Context) {
	if k.apart {
		return
	}
	for _, it := range k.w.Items {
		if it.State != recovery.Protected || k.w.AwaitAll(ctx) != nil {
			continue
		}
		if _, err := it.Resync(ctx); err != nil {
			k.note("… resync cut short: %v", err)
		}
	}
}

// deaths changes whenever a role was killed.
func (k *walker) deaths() [6]any {
	h, a := k.w.Home, k.w.Away
	live := func(p *world.Process) any {
		if p == nil || !p.Alive() {
			return nil
		}
		return p
	}
	return [6]any{live(h.Agent.Process()), live(h.Process.Process()), live(h.Target.Process()),
		live(a.Agent.Process()), live(a.Process.Process()), live(a.Target.Process())}
}

// settle brings a machine that should run back up after what happened to it.
func (k *walker) settle(ctx context.Context) error {
	if err := k.w.AwaitAll(ctx); err != nil {
		return err
	}
	for _, it := range k.w.Items {
		site := k.w.Site(it.Running)
		if it.State == recovery.FailedOver {
			site = k.w.Site(it.Standby)
		}
		g := site.Hyper.Guest(it.ID())
		if g != nil && g.Err() != nil {
			return fmt.Errorf("the guest of %s crashed: %w", it.ID(), g.Err())
		}
		if g == nil {
			if err := site.Hyper.Reboot(ctx, it.ID()); err != nil {
				return err
			}
		}
	}
	return nil
}
