package agent

import (
	"context"
	"errors"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/capture"
)

// maxRounds is how often in a row a large set is put on the backlog though it has
// not halved since; then it is cut and marked whole, whatever that takes.
const maxRounds = 3

// pace is what the loop remembers from one cut to the next.
type pace struct {
	last    time.Time // cut
	changed time.Time // last cut with blocks in it
	marked  time.Time // last bootable mark sent
	app     time.Time // last application-consistent one tried
	hurry   bool      // go on at once
	rounds  int       // shelvings in a row of a set that had not halved
	before  int64     // bytes of the set shelved last
}

// cutLoop cuts, lets the cut be shipped, and cuts again: not sooner than the
// policy's interval, and not before the earlier cut is spooled (see turn), with
// at most maxCuts unapplied. Under a slow link cuts so become longer; the guest
// does not.
func (s *session) cutLoop(ctx context.Context) error {
	p := pace{changed: time.Now(), app: time.Now()}
	for {
		if err := s.leg.awaitCut(ctx, p); err != nil {
			return err
		}
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		lease, err := s.leg.turn.take(ctx, time.Time{})
		kept := false
		if err == nil {
			kept, err = s.cutNow(ctx, &p, lease)
		}
		if !kept {
			s.leg.turn.give(lease)
			<-s.slots
		}
		if err != nil {
			return err
		}
	}
}

// awaitCut returns when the next cut is due or wished for.
func (l *leg) awaitCut(ctx context.Context, p pace) error {
	for {
		due := l.policy.MinInterval - time.Since(p.last)
		if p.hurry || l.wished() != nil || due <= 0 {
			return ctx.Err()
		}
		t := time.NewTimer(due)
		select {
		case <-t.C:
		case <-l.wake:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		t.Stop()
	}
}

// cutNow makes a cut and starts it on its way. It reports whether the lease and
// the slot went with it.
func (s *session) cutNow(ctx context.Context, p *pace, lease *lease) (kept bool, err error) {
	l := s.leg
	if err := l.freezer.rethaw(ctx); err != nil {
		l.alarms.raiseError(alarmThaw, err)
	}
	fed, err := l.feed(p)
	if err != nil {
		return false, err
	}
	w := l.wished()
	whole := l.complete() // what makes the set whole is marked before that is said, so asked before the cut
	cut, mark, err := l.make(ctx, p, w)
	p.last, p.hurry = time.Now(), fed
	switch {
	case errors.Is(err, capture.ErrHeld), errors.Is(err, capture.ErrCutOpen):
		p.hurry = false // it will pass
		return false, nil
	case err != nil:
		return false, err
	}
	c, frozen := newCutting(cut, lease, mark, l.generation)
	l.fault("cut")
	if !frozen {
		l.demoted(c)
		return false, nil
	}
	if c.bytes > 0 {
		p.changed = p.last
	}
	if l.tooLarge(p, c) {
		p.hurry = true
		return false, s.shelve(ctx, p, c)
	}
	if !whole || !l.complete() || l.backlog.bytes() > 0 {
		c.mark.Kind, w = homeward.MarkNone, nil // a wish waits for a cut with a mark
	}
	if w != nil && !l.forget(w) {
		w = nil // nobody waits any more
	}
	if w == nil && l.idle(p, c) {
		return false, l.pass(s, c)
	}
	if w != nil {
		c.whole, c.mark.Label = w.whole, w.label
	}
	if c.mark.Kind.Bootable() {
		p.marked = p.last
	}
	l.cutMade(c)
	err = s.enqueue(c)
	if w != nil {
		w.grant(c)
	}
	return true, err
}

// tooLarge reports whether the guest would overwrite more of c than can be kept
// while it travels, so that it better goes by way of the backlog.
func (l *leg) tooLarge(p *pace, c *cutting) bool {
	left := l.backlog.bytes()
	if p.rounds >= maxRounds {
		p.rounds, p.before = 0, 0
		return false // feed has put everything into this cut
	}
	if c.bytes <= l.tuning.PrecopyBytes || left > 0 && c.bytes <= 2*l.tuning.PrecopyBytes {
		if left == 0 {
			p.rounds, p.before = 0, 0
		}
		return false
	}
	if total := left + c.bytes; p.before > 0 && total > p.before/2 {
		p.rounds++
	}
	p.before = left + c.bytes
	return true
}

// feed moves a part of the backlog into the next cut; all of it when putting it
// off has not helped. It reports whether there was any.
func (l *leg) feed(p *pace) (bool, error) {
	limit := l.tuning.PrecopyBytes
	if p.rounds >= maxRounds {
		limit = l.backlog.bytes()
	}
	part := l.backlog.first(limit)
	for disk, m := range part {
		if err := l.capture.Mark(disk, m); err != nil { // durable there before it leaves here (I-0)
			return false, homeward.Wrap(err, "mark blocks", string(l.id))
		}
	}
	return part != nil, l.backlog.remove(part)
}

// shelve puts the blocks of c on the backlog instead of shipping it. That is only
// possible when nothing older is unapplied; else c is given up, and made again.
func (s *session) shelve(ctx context.Context, p *pace, c *cutting) error {
	if older := s.drained(); older != nil {
		err := c.cut.Demote()
		select {
		case <-older:
		case <-ctx.Done():
			err = errors.Join(err, ctx.Err())
		}
		return err
	}
	l := s.leg
	maps := make([]*block.Map, len(l.disks))
	for disk := range maps {
		maps[disk] = c.cut.Map(disk)
	}
	if c.cut.Err() != nil {
		return nil //nolint:nilerr // it was given up meanwhile: its blocks come with the next cut
	}
	for disk, m := range maps {
		if err := l.backlog.add(disk, m); err != nil {
			return errors.Join(err, c.cut.Demote())
		}
	}
	l.fault("shelved")
	l.meter.aim(l.backlog.bytes())
	if !l.release(c) { // its blocks stay in both maps: shelving does not help
		p.rounds = maxRounds
	}
	return nil
}

// idle reports whether c need not be sent. A mark without blocks costs a few
// hundred bytes, so one is sent for every cut while the machine works, and then
// one every Tuning.IdleAfter.
func (l *leg) idle(p *pace, c *cutting) bool {
	if c.bytes > 0 {
		return false
	}
	if !c.mark.Kind.Bootable() {
		return true
	}
	return c.mark.Kind == homeward.MarkCrash && p.last.Sub(p.changed) > l.tuning.IdleAfter && p.last.Sub(p.marked) < l.tuning.IdleAfter
}

// pass ends an empty cut that is not sent. If nothing else is unapplied, it proves
// that the replica held at its instant what the machine holds.
func (l *leg) pass(s *session, c *cutting) error {
	if err := c.cut.Demote(); err != nil {
		return homeward.Wrap(err, "release cut", c.cut.ID.String())
	}
	if s.drained() == nil && c.mark.Kind.Bootable() {
		l.mu.Lock()
		l.appliedAt = c.mark.At
		l.mu.Unlock()
	}
	return nil
}

// make cuts, with the guest frozen if that is due or wished for.
func (l *leg) make(ctx context.Context, p *pace, w *wish) (*capture.Cut, homeward.Mark, error) {
	mark := homeward.Mark{Kind: homeward.MarkCrash}
	app := w != nil && w.kind == homeward.MarkApp
	if every := l.policy.AppEvery; w == nil && every > 0 && time.Since(p.app) >= every && l.complete() {
		app = true
	}
	o := capture.CutOptions{Whole: w != nil && w.whole}
	var cut *capture.Cut
	var err error
	if app {
		p.app = time.Now()
		cut, mark.Kind, err = l.cutFrozen(ctx, o)
	} else {
		cut, err = l.capture.Cut(ctx, o)
	}
	if err == nil {
		mark.At = cut.At.UTC()
	}
	return cut, mark, err
}

// cutFrozen cuts between freeze and thaw. The mark is application-consistent only
// if the guest was frozen before the cut and still is after it; otherwise it is
// the cut of a running machine, and an alarm says why.
func (l *leg) cutFrozen(ctx context.Context, o capture.CutOptions) (*capture.Cut, homeward.MarkKind, error) {
	kind := homeward.MarkCrash
	frozen := l.freezer.freeze(ctx)
	l.fault("frozen")
	cut, err := l.capture.Cut(ctx, o)
	if frozen == nil && err == nil {
		frozen = l.freezer.still(ctx)
	}
	if e := l.freezer.thaw(ctx); e != nil {
		l.alarms.raiseError(alarmThaw, e)
	} else {
		l.alarms.clear(alarmThaw)
	}
	if frozen != nil {
		l.alarms.raiseError(alarmFreeze, frozen)
	} else if err == nil {
		l.alarms.clear(alarmFreeze)
		kind = homeward.MarkApp
	}
	return cut, kind, err
}
