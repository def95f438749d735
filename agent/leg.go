package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/capture"
	"github.com/homeward-dr/homeward/delta"
)

// Tuning are the times and sizes a deployment may change; zero means the default.
type Tuning struct {
	PutTimeout    time.Duration // of one attempt to put a delta; default 1 min
	AskTimeout    time.Duration // of one question for the standing; default 10 s
	RestartWait   time.Duration // for the generation in force, after a restart of the agent; default 300 ms
	RebootWait    time.Duration // the same after a reboot; default 3 s
	PrecopyBytes  int64         // a larger set travels in markless rounds first; default 256 MiB
	IdleAfter     time.Duration // without changes, marks are only sent this often; default 10 s
	RetryInterval time.Duration // between attempts to resume an item; default 1 s
	ReopenWait    time.Duration // for disks that are still in use when the agent starts; default 2 s
}

func (t Tuning) withDefaults() Tuning {
	for _, d := range []struct {
		is  *time.Duration
		def time.Duration
	}{{&t.PutTimeout, time.Minute}, {&t.AskTimeout, 10 * time.Second}, {&t.RestartWait, 300 * time.Millisecond},
		{&t.RebootWait, 3 * time.Second}, {&t.IdleAfter, 10 * time.Second}, {&t.RetryInterval, time.Second},
		{&t.ReopenWait, 2 * time.Second}} {
		if *d.is <= 0 {
			*d.is = d.def
		}
	}
	if t.PrecopyBytes <= 0 {
		t.PrecopyBytes = 256 << 20
	}
	return t
}

// leg is the replication of one item to one sink under one generation. Its
// methods may be called concurrently with run.
type leg struct {
	id         homeward.ItemID
	generation homeward.Generation
	machine    *homeward.Machine
	disks      []delta.DiskInfo
	capture    *capture.Machine
	sink       homeward.Sink
	policy     homeward.Policy
	tuning     Tuning
	chain      *chain
	backlog    *backlog
	freezer    *freezer
	alarms     *alarms
	meter      *meter
	turn       *turn
	holds      holds
	log        *slog.Logger
	now        func() time.Time
	fault      func(point string)
	complete   func() bool // whether the set to ship is whole: else no mark is bootable

	wake chan struct{} // one in it when a wish was added or the set became whole

	mu        sync.Mutex
	wishes    []*wish
	session   *session
	stopped   error // why none will be
	newest    homeward.CutReport
	spooled   homeward.Position
	appliedAt time.Time
	demotions int64
	streak    int // demotions in a row
}

// run replicates until ctx ends (nil) or the sink says that it must not (Fenced,
// or Conflict for a replica in a state that is not known here).
func (l *leg) run(ctx context.Context) error {
	var retry backoff
	for {
		progressed, err := l.runSession(ctx)
		if ctx.Err() != nil {
			l.stop(homeward.Errorf("cut", homeward.Unavailable, string(l.id), "ask again when it replicates", "replication ended"))
			return nil //nolint:nilerr // it was told to end: whatever broke off then is no failure
		}
		if kind := homeward.KindOf(err); kind == homeward.Fenced || errors.Is(err, errElsewhere) {
			l.stop(err)
			return err
		}
		l.log.Warn("replication interrupted", "item", l.id, "error", err)
		if !errors.Is(err, errSpoolLost) && homeward.KindOf(err) != homeward.Conflict {
			l.alarms.raiseError(alarmAway, err)
		}
		if progressed {
			retry.reset()
		}
		retry.wait(ctx)
	}
}

// runSession finds where the sink stands and ships from there.
func (l *leg) runSession(ctx context.Context) (progressed bool, err error) {
	tip, incarnation, err := l.align(ctx)
	if err != nil {
		return false, err
	}
	if err := errors.Join(l.chain.mend(), l.capture.Reship()); err != nil {
		return false, err
	}
	l.chain.resume(tip)
	s := l.newSession(tip, incarnation)
	l.mu.Lock()
	l.session = s
	l.mu.Unlock()
	err = s.run(ctx)
	l.mu.Lock()
	l.session = nil
	l.mu.Unlock()
	return s.progressed, err
}

// demotedOften is how many demotions in a row raise an alarm.
const demotedOften = 3

// errElsewhere: the replica is in a state that this side did not make.
var errElsewhere = errors.New("the replica is in a state that this agent does not know: its map cannot be trusted against it")

// align asks until the sink says where it stands, and checks that this is a
// position the map can be trusted against.
func (l *leg) align(ctx context.Context) (tip homeward.Position, incarnation homeward.ID, err error) {
	for retry := (&backoff{}); ; {
		st, err := l.standing(ctx, homeward.Position{}, 0)
		if err == nil {
			err = l.inForce(st)
		}
		if err == nil {
			l.hear(st)
			if at := l.whereabouts(st); !at.IsZero() && st.Generation == l.generation {
				l.alarms.clear(alarmAway, alarmUnknown)
				return at, st.Incarnation, l.follow(st, at)
			}
			err = homeward.Errorf("ask where the replica stands", homeward.Unavailable, string(l.id),
				"prepare the master target and the route for this generation", "not known there yet")
		}
		if ctx.Err() != nil {
			return tip, incarnation, ctx.Err()
		}
		if homeward.KindOf(err) == homeward.Fenced {
			return tip, incarnation, err
		}
		l.alarms.raiseError(alarmAway, err)
		retry.wait(ctx)
	}
}

// whereabouts is where the next delta must follow; zero: not known. A hop with an
// empty spool that cannot ask onward takes what comes first: only where the chain
// has one end there is no doubt about it.
func (l *leg) whereabouts(st homeward.Standing) homeward.Position {
	applied, pending := l.chain.stands()
	switch {
	case !st.Spooled.IsZero():
		return st.Spooled
	case st.Known:
		return st.Applied
	case len(pending) == 0:
		return applied
	}
	return homeward.Position{}
}

// follow checks that the chain leads to where the sink stands.
func (l *leg) follow(st homeward.Standing, at homeward.Position) error {
	if st.Known && !st.Applied.IsZero() && st.Applied != at {
		l.chain.advance(st.Applied)
	}
	if !l.chain.knows(at) {
		return homeward.Errorf("follow replica", homeward.Conflict, string(l.id),
			"hand the item over and prepare it under a new generation; its blocks are compared by digest then",
			"%w: %w", errElsewhere, &homeward.PositionError{True: at})
	}
	if st.Known && st.Applied == at {
		l.chain.advance(at)
	}
	return nil
}

// standing asks the sink; with a position it waits until that is applied.
func (l *leg) standing(ctx context.Context, applied homeward.Position, wait time.Duration) (homeward.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+l.tuning.AskTimeout)
	defer cancel()
	st, err := l.sink.Standing(ctx, homeward.StandingRequest{Item: l.id, Applied: applied, Wait: wait})
	st.Applied, st.Spooled = l.named(st.Applied), l.named(st.Spooled)
	return st, err
}

// named is a position as this leg names it. A replica that takes deltas again
// after a cancelled failover stands where it stood under an older generation: the
// base of this leg is the same state.
func (l *leg) named(p homeward.Position) homeward.Position {
	if base := p.Base(l.generation); !p.IsZero() && p.Generation != l.generation && l.chain.knows(base) {
		return base
	}
	return p
}

// inForce is Fenced when the sink knows a generation that fences this leg's.
func (l *leg) inForce(st homeward.Standing) error {
	if !st.Generation.Fences(l.generation) {
		return nil
	}
	return fencedBy(l.id, st.Generation)
}

func fencedBy(id homeward.ItemID, g homeward.Generation) error {
	return homeward.Errorf("replicate", homeward.Fenced, string(id), "do not write here: the machine belongs to another side now",
		"%w", &homeward.FencedError{InForce: g})
}

// hear takes over what a standing tells about the other side.
func (l *leg) hear(st homeward.Standing) {
	if st.Fault == "" {
		l.alarms.clear(alarmFault)
	} else {
		l.alarms.raise(alarmFault, st.Fault, st.Remedy)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spooled = st.Spooled
	if st.AppliedAt.After(l.appliedAt) {
		l.appliedAt = st.AppliedAt
	}
}

// applied notes that a cut is applied.
func (l *leg) applied(c *cutting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.mark.Kind.Bootable() {
		l.streak = 0
		l.alarms.clear(alarmDemotions)
		if c.mark.At.After(l.appliedAt) {
			l.appliedAt = c.mark.At
		}
	}
}

// cutMade is for the report.
func (l *leg) cutMade(c *cutting) {
	l.meter.cut(c.bytes, c.cut.Hold)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = c.report()
}

// ended completes the report of a cut that got a position.
func (l *leg) ended(c *cutting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest.Position.Cut == c.cut.ID {
		l.newest = c.report()
	}
}

// demoted counts a cut that was given up because its saved copies did not fit.
func (l *leg) demoted(c *cutting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.demotions++
	if !c.mark.Kind.Bootable() {
		return
	}
	l.streak++
	if l.streak < demotedOften {
		return
	}
	lasted := max(time.Since(c.cut.At), time.Millisecond)
	budget := l.policy.CacheBytes + l.policy.SpillBytes
	l.alarms.raise(alarmDemotions,
		fmt.Sprintf("%d cuts in a row were given up: the guest overwrites more than the %d MiB of saved copies allowed before a cut of %d MiB is shipped",
			l.streak, budget>>20, c.bytes>>20),
		fmt.Sprintf("set spill_bytes to %d MiB or more, or give the link %.1f MiB/s",
			c.bytes>>20+1, float64(c.bytes)/lasted.Seconds()/(1<<20)))
}

// stop refuses all who wait for a cut, now and later.
func (l *leg) stop(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = err
	for _, w := range l.wishes {
		w.refuse(err)
	}
	l.wishes = nil
}
