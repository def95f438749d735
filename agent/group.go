package agent

import (
	"context"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

const (
	holdDefault = 2 * time.Second
	holdMost    = 10 * time.Second
)

// holds are the group holds of one leg: the one in force and the cut of the last.
type holds struct {
	mu    sync.Mutex
	token homeward.ID
	lease *lease
	cut   *cutting // made with token; nil: not yet
}

// hold stops the guest's writes for a group cut. It takes the turn first, waiting
// at most as long as the hold may last, so that the cut is possible at once.
func (l *leg) hold(ctx context.Context, req homeward.HoldRequest) error {
	deadline := req.Deadline
	if deadline == 0 {
		deadline = holdDefault
	}
	if deadline < 0 || deadline > holdMost || req.Token.IsZero() {
		return homeward.Errorf("hold", homeward.Invalid, "deadline, token", "give a token and a deadline of at most 10 s", "%v", deadline)
	}
	if err := l.caughtUp(); err != nil {
		return err
	}
	l.holds.mu.Lock()
	defer l.holds.mu.Unlock()
	if l.holds.token == req.Token {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	lease, err := l.turn.take(waiting, time.Now().Add(2*deadline))
	if err != nil {
		return homeward.Errorf("hold", homeward.Busy, string(l.id), "hold again when the earlier cut is spooled", "a cut is being shipped: %w", err)
	}
	// The cut waited for may have gone to the backlog; with the turn no other can.
	if err = l.caughtUp(); err == nil {
		err = homeward.Wrap(l.capture.Hold(ctx, req.Token, deadline), "hold", string(l.id))
	}
	if err != nil {
		l.turn.give(lease)
		return err
	}
	l.holds.token, l.holds.lease, l.holds.cut = req.Token, lease, nil
	return nil
}

// caughtUp tells why a cut would not be a whole state of the machine.
func (l *leg) caughtUp() error {
	if !l.complete() {
		return homeward.Errorf("hold", homeward.Conflict, string(l.id), "wait until the sync is complete", "the replica has not caught up once yet")
	}
	if n := l.backlog.bytes(); n > 0 {
		return homeward.Errorf("hold", homeward.Busy, string(l.id), "hold again when it is shipped", "%d MiB travel in rounds of their own", n>>20)
	}
	return nil
}

// cutHeld cuts under a hold. The same token again finds the cut.
func (l *leg) cutHeld(ctx context.Context, token homeward.ID) (*cutting, error) {
	l.holds.mu.Lock()
	defer l.holds.mu.Unlock()
	if l.holds.token != token {
		return nil, errNoHold(l.id)
	}
	if l.holds.cut != nil {
		return l.holds.cut, nil
	}
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil {
		return nil, homeward.Errorf("cut held", homeward.Unavailable, string(l.id), "see the item's alarms", "it does not replicate now")
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return nil, homeward.Errorf("cut held", homeward.Busy, string(l.id), "try again when the replica has caught up",
			"%d cuts are not applied yet", maxCuts)
	}
	if !l.turn.keep(l.holds.lease) {
		<-s.slots
		return nil, errNoHold(l.id)
	}
	cut, err := l.capture.CutHeld(ctx, token)
	if err != nil {
		l.turn.give(l.holds.lease)
		<-s.slots
		return nil, homeward.Wrap(err, "cut held", string(l.id))
	}
	mark := homeward.Mark{Kind: homeward.MarkGroup, At: cut.At.UTC(), Group: token}
	c, frozen := newCutting(cut, l.holds.lease, mark, l.generation)
	if !frozen {
		l.turn.give(l.holds.lease)
		<-s.slots
		return nil, homeward.Wrap(cut.Err(), "cut held", string(l.id))
	}
	l.cutMade(c)
	if err := s.enqueue(c); err != nil {
		return nil, homeward.Errorf("cut held", homeward.Unavailable, string(l.id), "hold all members again", "replication was interrupted: %w", err)
	}
	l.holds.cut = c
	return c, nil
}

func errNoHold(id homeward.ItemID) error {
	return homeward.Errorf("cut held", homeward.Conflict, string(id), "hold all members again", "no hold is in force under this token")
}

// releaseHold ends a hold that was not cut; the cut itself let the guest write
// again. A hold that is over already is no error.
func (l *leg) releaseHold(token homeward.ID) {
	l.holds.mu.Lock()
	defer l.holds.mu.Unlock()
	l.capture.ReleaseHold(token)
	if l.holds.token == token && l.holds.cut == nil {
		l.turn.give(l.holds.lease)
		l.holds.token = homeward.ID{}
	}
}
