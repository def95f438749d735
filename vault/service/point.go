package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// choice is which point an operator wants.
type choice struct {
	app bool              // the newest app-consistent one
	age time.Duration     // the newest that is so old; 0: not asked for
	at  homeward.Position // exactly this one; zero: not asked for
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
			`give "latest", "latest-app-consistent", an age such as "-30s", or a position as 'homeward point list' prints it`, "%q", s)
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
	case c.age > 0:
		return fmt.Sprintf("none of the item's %d recovery points is %v old", len(points), c.age)
	}
	return "the item has no recovery point"
}

// choosePoint finds the position of a choice at the master target that holds the
// item's points. The newest state is left to the master target: the zero position.
func choosePoint(ctx context.Context, target homeward.Replica, item homeward.ItemID, want string, now time.Time) (homeward.Position, error) {
	c, err := parsePoint(want)
	if err != nil || c.newest() {
		return homeward.Position{}, err
	}
	list, err := target.Points(ctx, homeward.ItemRequest{Item: item})
	if err != nil {
		return homeward.Position{}, err
	}
	p, err := c.of(list.Points, now)
	return p.Position, err
}
