package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// choice is which point an operator wants.
type choice struct {
	app    bool              // the newest app-consistent one
	branch bool              // what the side had when the machine ran there last
	age    time.Duration     // the newest that is so old; 0: not asked for
	at     homeward.Position // exactly this one; zero: not asked for
}

// newest reports that the newest state is wanted, whichever that is then.
func (c choice) newest() bool { return c == choice{} }

// parsePoint reads Input.Point.
func parsePoint(s string) (choice, error) {
	switch {
	case s == "" || s == vault.Latest:
		return choice{}, nil
	case s == vault.LatestApp:
		return choice{app: true}, nil
	case s == vault.LostWrites:
		return choice{branch: true}, nil
	case strings.HasPrefix(s, "-"):
		age, err := time.ParseDuration(s[1:])
		if err != nil || age <= 0 {
			return choice{}, homeward.Errorf("choose point", homeward.Invalid, "point", `give an age such as "-30s" or "-2h"`, "%q", s)
		}
		return choice{age: age}, nil
	}
	at, err := homeward.ParsePosition(s)
	if err != nil {
		return choice{}, homeward.Errorf("choose point", homeward.Invalid, "point",
			`give "latest", "latest-app-consistent", "lost-writes", an age such as "-30s", or a position as 'homeward point list' prints it`, "%q", s)
	}
	return choice{at: at}, nil
}

// of finds the chosen one among points, oldest first. Only points of machines that
// could boot are chosen by themselves.
func (c choice) of(points []homeward.Point, now time.Time) (homeward.Point, error) {
	for i := len(points) - 1; i >= 0; i-- {
		p := points[i]
		switch {
		case !c.at.IsZero():
			if p.Position == c.at {
				return p, nil
			}
		case !p.Mark.Kind.Bootable():
		case c.app:
			if p.Mark.Kind == homeward.MarkApp {
				return p, nil
			}
		case c.branch:
			if slices.Contains(p.Pins, "branch:"+vault.LostWrites) {
				return p, nil
			}
		case now.Sub(p.At) >= c.age:
			return p, nil
		}
	}
	return homeward.Point{}, homeward.Errorf("choose point", homeward.NotFound, "point", "choose one that 'homeward point list' shows", "%s", c.missing(points))
}

func (c choice) missing(points []homeward.Point) string {
	switch {
	case !c.at.IsZero():
		return fmt.Sprintf("position %s is none of the item's %d recovery points", c.at, len(points))
	case c.app:
		return fmt.Sprintf("none of the item's %d recovery points is app-consistent", len(points))
	case c.branch:
		return "the side that stands by keeps no " + vault.LostWrites + ": the machine did not run there since replication turned round"
	case c.age > 0:
		return fmt.Sprintf("none of the item's %d recovery points is %v old", len(points), c.age)
	}
	return "the item has no recovery point"
}

// choosePoint finds the position of a choice at the master target that holds the
// item's points. The newest state is left to the master target: the zero position.
func (s *workshop) choosePoint(ctx context.Context, it vault.Item, want string) (homeward.Position, error) {
	c, err := parsePoint(want)
	if err != nil || c.newest() {
		return homeward.Position{}, err
	}
	return s.certainPoint(ctx, it, c)
}

// certainPoint is choosePoint where the newest state, too, is a certain point. Points
// are told by the clock of the agent that cut them, so ages count by that clock.
func (s *workshop) certainPoint(ctx context.Context, it vault.Item, c choice) (homeward.Position, error) {
	list, err := s.holder(it).Points(ctx, homeward.ItemRequest{Item: it.ID})
	if err != nil {
		return homeward.Position{}, err
	}
	source := it.ActiveSite
	if it.Record != nil {
		source = it.Record.RunsAt // also while the machine is failed over
	}
	p, err := c.of(list.Points, s.now().Add(s.monitor.skew(ctx, it, source)))
	return p.Position, err
}

// unfinished is the point of a failover that was begun and not ended, for a request that
// goes on with it: an age, or "the newest app-consistent one", means what it meant when
// it was asked for first. Once that point is served no other one can be asked for.
func (s *workshop) unfinished(ctx context.Context, it vault.Item, action vault.Action, want string) (at homeward.Position, goesOn bool, err error) {
	lists := map[vault.Action][]string{vault.Failover: {listFailOver}, vault.FailbackAction: {listFailBack, listFailOver}}
	if it.Record == nil || !slices.Contains(lists[action], it.Record.List.Op) {
		return at, false, nil
	}
	begun := it.Record.List.Point
	for j, err := range s.store.Jobs.All(ctx, vault.Query{Item: string(it.ID)}) { // newest first
		if err != nil {
			return at, false, err
		}
		if j.Action != action {
			continue
		}
		a, err := assignmentOf(j)
		if err != nil {
			return at, false, err
		}
		if a.Chosen == begun && sameWord(a.Input.Point, want) {
			return begun, true, nil
		}
		break
	}
	c, err := parsePoint(want)
	if err != nil || it.Record.State != recovery.FailedOver || c.at == begun && (c.newest() || !begun.IsZero()) {
		return at, false, err
	}
	serves := begun.String()
	if begun.IsZero() {
		serves = vault.Latest
	}
	return at, false, homeward.Errorf(string(action), homeward.Conflict, "point",
		"go on with '--point "+serves+"', then choose another one with 'homeward item change-point "+string(it.ID)+"'; or call it off with 'homeward item cancel "+string(it.ID)+"'",
		"a %s that has not ended serves another point than %q already", action, want)
}

// sameWord reports whether two texts ask for the same point.
func sameWord(a, b string) bool { return cmp.Or(a, vault.Latest) == cmp.Or(b, vault.Latest) }

// The names of recovery's lists that serve a point.
const (
	listFailOver = "fail over"
	listFailBack = "fail back"
)
