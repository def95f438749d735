package capture

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
)

// MaxHold is the longest a group may hold the writes of a machine.
const MaxHold = 10 * time.Second

const (
	defaultHold = 2 * time.Second
	maxSpent    = 64 // tokens remembered after their end
)

// hold is a closed gate in the name of a group. It is guarded by m.cutting.
type hold struct {
	token  homeward.ID
	began  time.Time
	expiry *time.Timer
}

// Hold holds the writes of all disks until CutHeld, ReleaseHold or the deadline
// (default 2 s, at most MaxHold), and returns when those in flight are through or
// the hold deadline of a cut has passed. The same token again is no error while
// its hold is in force. A token that expired or was used cannot be held again: its
// group is not at one instant any more.
func (m *Machine) Hold(ctx context.Context, token homeward.ID, deadline time.Duration) error {
	if deadline == 0 {
		deadline = defaultHold
	}
	if token.IsZero() || deadline < 0 || deadline > MaxHold {
		return homeward.Errorf("hold", homeward.Invalid, token.String(), "give a token and at most 10 s", "cannot hold for %v", deadline)
	}
	m.cutting.Lock()
	defer m.cutting.Unlock()
	if m.hold != nil && m.hold.token == token {
		return nil
	}
	if m.hold != nil {
		return homeward.Errorf("hold", homeward.Busy, token.String(), "wait for the other group", "%w", ErrHeld)
	}
	for _, old := range m.spent {
		if old == token {
			return homeward.Errorf("hold", homeward.Conflict, token.String(), "hold the group anew with a fresh token", "%w", ErrNoHold)
		}
	}
	if err := m.canCut(); err != nil {
		return err
	}
	h := &hold{token: token, began: time.Now()}
	m.gate.close()
	drain := time.NewTimer(m.cfg.HoldDeadline)
	defer drain.Stop()
	m.gate.drain(ctx, drain.C)
	if err := ctx.Err(); err != nil {
		m.gate.open(nil)
		return homeward.Wrap(err, "hold", token.String())
	}
	h.expiry = time.AfterFunc(deadline, func() { m.endHold(h) })
	m.hold = h
	return nil
}

// CutHeld cuts under a hold and ends it: writes go on when it returns, which is
// safe as all members of the group were held before the first was cut. ErrNoHold
// (Conflict) when the hold is not in force, because it expired for one.
func (m *Machine) CutHeld(ctx context.Context, token homeward.ID) (*Cut, error) {
	m.cutting.Lock()
	defer m.cutting.Unlock()
	h := m.hold
	if h == nil || h.token != token {
		return nil, homeward.Errorf("cut", homeward.Conflict, token.String(), "hold the group anew with a fresh token", "%w", ErrNoHold)
	}
	defer m.unhold(h)
	if err := ctx.Err(); err != nil {
		return nil, homeward.Wrap(err, "cut", token.String())
	}
	if err := m.canCut(); err != nil {
		return nil, err
	}
	c := m.newCut(CutOptions{})
	m.freeze(c)
	c.Hold = time.Since(h.began)
	m.holds.add(c.Hold)
	return c, nil
}

// ReleaseHold ends a hold without a cut. That it is not in force is no error.
func (m *Machine) ReleaseHold(token homeward.ID) {
	m.cutting.Lock()
	defer m.cutting.Unlock()
	if m.hold != nil && m.hold.token == token {
		m.unhold(m.hold)
	}
}

// endHold is the expiry of h.
func (m *Machine) endHold(h *hold) {
	m.cutting.Lock()
	defer m.cutting.Unlock()
	if m.hold == h {
		m.unhold(h)
	}
}

// unhold lets writes go on and spends the token. The caller holds m.cutting.
func (m *Machine) unhold(h *hold) {
	h.expiry.Stop()
	m.hold = nil
	m.spent = append(m.spent, h.token)
	if len(m.spent) > maxSpent {
		m.spent = m.spent[1:]
	}
	m.gate.open(nil)
}
