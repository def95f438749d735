package local

import (
	"context"
	"slices"

	"github.com/homeward-dr/homeward"
)

// Guard puts a guard on a machine. The same guard again is no error.
func (s *Site) Guard(_ context.Context, g homeward.Guard) error {
	if g.Kind == homeward.GuardReadOnly {
		return homeward.Errorf("guard", homeward.Unsupported, g.Ref.Native, "use "+string(homeward.GuardNoPowerOn), "files here cannot be locked read-only for others")
	}
	if g.Owner == "" {
		return homeward.Errorf("guard", homeward.Invalid, "owner", "name the job that owns the guard", "no owner")
	}
	return s.changeGuards("guard", g.Ref, func(gs []homeward.Guard) []homeward.Guard {
		return append(without(gs, g), g)
	})
}

// GuardsOf lists the guards of a machine.
func (s *Site) GuardsOf(_ context.Context, ref homeward.Ref) ([]homeward.Guard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find("list guards", ref)
	if err != nil {
		return nil, err
	}
	return slices.Clone(m.Guards), nil
}

// Unguard releases an owner's guard; one that is not there is released.
func (s *Site) Unguard(_ context.Context, g homeward.Guard) error {
	return s.changeGuards("release guard", g.Ref, func(gs []homeward.Guard) []homeward.Guard { return without(gs, g) })
}

func without(gs []homeward.Guard, g homeward.Guard) []homeward.Guard {
	return slices.DeleteFunc(slices.Clone(gs), func(o homeward.Guard) bool { return o.Kind == g.Kind && o.Owner == g.Owner })
}

func (s *Site) changeGuards(op string, ref homeward.Ref, edit func([]homeward.Guard) []homeward.Guard) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(op, ref)
	if err != nil {
		return err
	}
	next := *m
	next.Guards = edit(m.Guards)
	if err := s.save(&next); err != nil {
		return err
	}
	*m = next
	return nil
}
