package recovery

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
)

// TestRequest is for TestFailOver.
type TestRequest struct {
	Point   homeward.Position `json:"point,omitzero"` // zero: the newest
	Network string            `json:"network"`        // an isolated one of the standby side's site
	Name    string            `json:"name,omitempty"` // of the test machine; empty: the item's id and "-test"
}

// TestReport is a test failover that is open.
type TestReport struct {
	Machine homeward.SiteMachine `json:"machine"`
	Point   homeward.Point       `json:"point"`
	Network string               `json:"network"`
	Opened  time.Time            `json:"opened"`
}

// Test is an open test failover, or one that is being opened or cleaned up: it is
// written down before each thing it makes.
type Test struct {
	ID      homeward.ID      `json:"id"`
	Side    string           `json:"side"` // where it is
	Request TestRequest      `json:"request"`
	View    homeward.View    `json:"view,omitzero"`    // served, or it is being served
	Machine homeward.Machine `json:"machine,omitzero"` // its definition; made perhaps from here on
	Ref     homeward.Ref     `json:"ref,omitzero"`
	Opened  time.Time        `json:"opened"`
}

// testView is the name of the view that a test machine runs on.
const testView = "test"

// networkField is the name of the placement's field that lists networks.
const networkField = "network"

// TestFailOver runs a copy of the machine at the standby side, from a point, on a
// network where nobody mistakes it for the machine: every card is on req.Network,
// which the site's placement must say is isolated. What the copy writes is dropped
// with it, and replication goes on. Called again with the same request it goes on
// where it was cut short; with another one it is refused (Conflict) until CleanUpTest.
func (it *Item) TestFailOver(ctx context.Context, req TestRequest) (TestReport, error) {
	const op = "test failover"
	if err := it.require(op, Protected); err != nil {
		return TestReport{}, err
	}
	if it.List.Op != "" {
		return TestReport{}, homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "finish it first", "%s is unfinished", it.List.Op)
	}
	if req.Name == "" {
		req.Name = string(named(it.Machine, "-test").Item)
	}
	if err := homeward.ItemID(req.Name).Validate(); err != nil {
		return TestReport{}, err
	}
	if req.Name == string(it.ID()) {
		return TestReport{}, homeward.Errorf(op, homeward.Invalid, "name", "give it a name of its own", "the machine itself is called %s", req.Name)
	}
	if it.Test == nil {
		way := homeward.Direction{From: it.Running.Name, To: it.Standby.Name}
		if err := Isolated(ctx, it.Standby.Site, way, it.Machine, req.Network); err != nil {
			return TestReport{}, err
		}
		it.Test = &Test{ID: homeward.NewID(), Side: it.Standby.Name, Request: req, Opened: time.Now().UTC()}
		if err := it.save(); err != nil {
			it.Test = nil
			return TestReport{}, err
		}
	}
	if it.Test.Request != req {
		return TestReport{}, homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "clean it up first", "a test failover of another request is open")
	}
	if err := it.raiseTest(ctx, it.Test); err != nil {
		return TestReport{}, err
	}
	m, err := it.side(it.Test.Side).Site.Machine(ctx, it.Test.Ref)
	return TestReport{Machine: m, Point: it.Test.View.Point, Network: req.Network, Opened: it.Test.Opened}, err
}

// Isolated refuses a network (Invalid) that a site does not say is isolated, for a
// test failover of a machine there.
func Isolated(ctx context.Context, site homeward.Site, d homeward.Direction, m homeward.Machine, network string) error {
	bad := func(fix, format string, args ...any) error {
		return homeward.Errorf("test failover", homeward.Invalid, networkField, fix, format, args...)
	}
	fields, err := site.Options(ctx, d, m)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(fields, func(f homeward.Field) bool { return f.Name == networkField })
	if i < 0 {
		return bad("test at a site that tells its networks", "site %s does not tell which networks are isolated", d.To)
	}
	var good []string
	for _, o := range fields[i].Options {
		switch {
		case o.Value == network && o.Eligible:
			return nil
		case o.Value == network:
			return bad("choose an isolated network", "%s: %s", network, o.Why)
		case o.Eligible:
			good = append(good, o.Value)
		}
	}
	return bad("choose one of: "+strings.Join(good, ", "), "site %s has no network %q", d.To, network)
}

func (it *Item) raiseTest(ctx context.Context, t *Test) error {
	side := it.side(t.Side)
	err := it.step(ctx, "serve point", func(func(homeward.Progress)) (err error) {
		at := t.Request.Point
		if at.IsZero() {
			at = t.View.Point.Position // of an attempt before
		}
		t.View, err = side.Target.OpenView(ctx, homeward.ViewRequest{Item: it.ID(), Name: testView, Point: at, Kind: homeward.ViewScratch})
		return err
	})
	if err != nil {
		return err
	}
	m := t.View.Machine
	m.Item, m.Name = homeward.ItemID(t.Request.Name), t.Request.Name
	m.NICs = slices.Clone(m.NICs)
	for i := range m.NICs {
		m.NICs[i].Network = t.Request.Network
	}
	t.Machine = m
	if err := it.save(); err != nil {
		return err
	}
	err = it.step(ctx, "create test machine", func(func(homeward.Progress)) (err error) {
		t.Ref, err = it.createTest(ctx, t)
		return err
	})
	if err == nil {
		err = it.save()
	}
	if err != nil {
		return err
	}
	return it.step(ctx, "boot test machine", func(func(homeward.Progress)) error {
		_, err := finish(ctx, side.Site)(side.Site.PowerOn(ctx, "on-test-"+t.ID.String(), t.Ref))
		return err
	})
}

func (it *Item) createTest(ctx context.Context, t *Test) (homeward.Ref, error) {
	site := it.side(t.Side).Site
	var disks []homeward.Attachment
	for i, d := range t.View.Disks {
		disks = append(disks, homeward.Attachment{Disk: d.Disk, Ref: d.URI, Slot: i, Temporary: true})
	}
	op, err := finish(ctx, site)(site.Create(ctx, "create-test-"+t.ID.String(), t.Machine, disks))
	return op.Result, err
}

// CleanUpTest removes the test machine, and drops what it wrote. It cleans up after
// a TestFailOver that was cut short anywhere as well; without one there is nothing
// to do, in any state of the item.
func (it *Item) CleanUpTest(ctx context.Context) error {
	t := it.Test
	if t == nil {
		return nil
	}
	side := it.side(t.Side)
	err := it.step(ctx, "remove test machine", func(func(homeward.Progress)) error {
		ref, err := it.testMachine(ctx, t)
		if err != nil || ref == (homeward.Ref{}) {
			return err
		}
		return it.remove(ctx, side.Site, ref)
	})
	if err == nil {
		err = it.step(ctx, "drop what it wrote", func(func(homeward.Progress)) error {
			_, err := side.Target.CloseView(ctx, homeward.ViewRequest{Item: it.ID(), Name: testView, Kind: homeward.ViewScratch})
			if homeward.KindOf(err) == homeward.NotFound { // the target does not know the item any more
				return nil
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	it.Test = nil
	return it.save()
}

// testMachine finds the test machine, or none. The answer to its creation may have
// been lost while the site went on with it: the same key again waits for that.
func (it *Item) testMachine(ctx context.Context, t *Test) (homeward.Ref, error) {
	if t.Ref != (homeward.Ref{}) || t.Machine.Item == "" {
		return t.Ref, nil
	}
	ref, err := it.createTest(ctx, t)
	if err == nil || homeward.Retryable(err) || ctx.Err() != nil {
		return ref, err
	}
	return homeward.Ref{}, nil // the site cannot make it, and so has not
}
