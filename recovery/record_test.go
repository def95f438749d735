package recovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

var errDied = errors.New("the controller died")

// controllers are processes that hold an item one after the other; what one leaves
// to the next is what it saved.
type controllers struct {
	t     *testing.T
	sides [2]*recovery.Side
	saved []byte
	left  int // saves until the one that lives now dies; negative: it lives on
}

func (c *controllers) save(it *recovery.Item) error {
	if c.left == 0 {
		return errDied
	}
	c.left--
	data, err := json.Marshal(it.Snapshot())
	if err == nil {
		c.saved = data
	}
	return err
}

// next is the item in the hands of a new controller that dies at its save number n.
func (c *controllers) next(n int) *recovery.Item {
	c.t.Helper()
	var r recovery.Record
	must(c.t, json.Unmarshal(c.saved, &r))
	it, err := recovery.Load(r, c.sides[0], c.sides[1], slog.New(slog.DiscardHandler))
	must(c.t, err)
	it.Save = c.save
	c.left = n
	return it
}

// run has a list called by controllers each of which lives one save longer than the
// one before, until one comes to its end.
func (c *controllers) run(name string, list func(it *recovery.Item) error) *recovery.Item {
	c.t.Helper()
	return c.runLong(name, 2, list)
}

// runLong is run of a list that writes its record down so often at least.
func (c *controllers) runLong(name string, saves int, list func(it *recovery.Item) error) *recovery.Item {
	c.t.Helper()
	var next homeward.Generation
	for n := 0; n < 100; n++ {
		it := c.next(n)
		err := list(it)
		if err == nil {
			if n < saves {
				c.t.Fatalf("%s ended after %d saves", name, n)
			}
			return it
		}
		if !errors.Is(err, errDied) {
			c.t.Fatalf("%s, by the controller that dies at save %d: %v", name, n, err)
		}
		if n > 0 && it.List.Op == name {
			if n > 1 && it.List.Next != next {
				c.t.Fatalf("%s goes on under generation %v, it was begun under %v", name, it.List.Next, next)
			}
			next = it.List.Next
		}
	}
	c.t.Fatalf("%s does not end", name)
	return nil
}

// Every list is begun by one controller and ended by another, whatever the first
// had not yet written down when it died.
func TestRecord_ControllersDieInEveryList(t *testing.T) {
	w := world.New(t, powerloss.Rand(t), world.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	must(t, w.AwaitAll(ctx))
	first := w.Items[0]
	c := &controllers{t: t, sides: [2]*recovery.Side{first.Standby, first.Running}, left: -1}
	must(t, c.save(first))
	var it *recovery.Item
	run := func(name string, list func(it *recovery.Item) error) {
		t.Helper()
		it = c.run(name, list)
	}
	run("protect", func(it *recovery.Item) error { return it.Protect(ctx) })
	replicates(ctx, t, w, it)
	run("fail over", func(it *recovery.Item) error { return it.FailOver(ctx, homeward.Position{}) })
	at := it.Point.Position
	run("change point", func(it *recovery.Item) error { return it.ChangePoint(ctx, at) })
	run("cancel failover", func(it *recovery.Item) error { return it.Cancel(ctx) })
	replicates(ctx, t, w, it)
	for range 2 { // there and back
		run("fail back", func(it *recovery.Item) error { return it.FailOverPlanned(ctx, homeward.Position{}) })
		run("commit", func(it *recovery.Item) error { return it.Commit(ctx) })
		run("reprotect", func(it *recovery.Item) error { _, err := it.Reprotect(ctx); return err })
		replicates(ctx, t, w, it)
	}
}

// A controller whose record is not the newest is told so, and stops.
func TestRecord_AnotherControllerMovedTheItem(t *testing.T) {
	w, it, ctx := protected(t)
	c := &controllers{t: t, sides: [2]*recovery.Side{it.Running, it.Standby}, left: -1}
	must(t, c.save(it))
	stale := c.next(-1)
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	_, err := it.Reprotect(ctx)
	must(t, err)
	err = stale.FailOverPlanned(ctx, homeward.Position{})
	if homeward.KindOf(err) != homeward.Fenced || !strings.Contains(homeward.RemedyOf(err), "newest record") {
		t.Fatalf("with an old record: %v", err)
	}
	replicates(ctx, t, w, it)
}

func TestLoad_OtherSides(t *testing.T) {
	r := recovery.Record{RunsAt: "home", StandsAt: "away"}
	home, away, other := &recovery.Side{Name: "home"}, &recovery.Side{Name: "away"}, &recovery.Side{Name: "other"}
	it, err := recovery.Load(r, away, home, nil)
	if err != nil || it.Running != home || it.Standby != away {
		t.Fatalf("%v", err)
	}
	for _, pair := range [][2]*recovery.Side{{home, other}, {other, away}, {home, home}} {
		if _, err := recovery.Load(r, pair[0], pair[1], nil); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("sides %q and %q: %v", pair[0].Name, pair[1].Name, err)
		}
	}
}
