package recovery_test

import (
	"context"
	"errors"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
)

// disabled is the end of Disable, by controllers that die.
func (c *controllers) disabled(ctx context.Context, force bool) (it *recovery.Item, left []recovery.Leftover) {
	c.t.Helper()
	it = c.runLong("disable", 1, func(it *recovery.Item) (err error) {
		left, err = it.Disable(ctx, force)
		return err
	})
	if it.State != recovery.Unprotected {
		c.t.Fatalf("the item is %s", it.State)
	}
	return it, left
}

func forgotten(ctx context.Context, t *testing.T, it *recovery.Item) {
	t.Helper()
	id := homeward.ItemRequest{Item: it.ID()}
	if r, err := it.Standby.Target.Report(ctx, id); homeward.KindOf(err) != homeward.NotFound {
		t.Fatalf("the standby side's target knows it: %+v %v", r, err)
	}
	if _, err := it.Running.Agent.Changes(ctx, id); err == nil {
		t.Fatal("the running side's agent captures it")
	}
}

// A machine that runs goes on, on its agent's disks; once it is off it gets its own
// back. Then it can be protected again.
func TestDisable_ControllersDie(t *testing.T) {
	for name, prepare := range map[string]func(ctx context.Context, it *recovery.Item) error{
		"on its own disks": func(context.Context, *recovery.Item) error { return nil },
		"on a promoted view": func(ctx context.Context, it *recovery.Item) error {
			if err := it.FailOver(ctx, homeward.Position{}); err != nil {
				return err
			}
			return it.Commit(ctx)
		},
		"with a test open": func(ctx context.Context, it *recovery.Item) error {
			_, err := it.TestFailOver(ctx, recovery.TestRequest{Network: "isolated"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, it, ctx := protected(t)
			must(t, prepare(ctx, it))
			c := begin(t, it)
			it, left := c.disabled(ctx, false)
			g := w.Site(it.Running).Hyper.Guest(it.ID())
			must(t, g.AwaitWrites(ctx, g.Done()+20))
			if len(left) != 1 || !it.Attached || it.Test != nil {
				t.Fatalf("left behind: %+v", left)
			}
			if err := it.Protect(ctx); homeward.KindOf(err) != homeward.Conflict {
				t.Fatalf("protected while attached: %v", err)
			}
			ref := it.Refs[it.Running.Name]
			_, err := it.Running.Site.PowerOff(ctx, "", ref, homeward.Stop{Graceful: true})
			must(t, err)
			it, left = c.disabled(ctx, false)
			if len(left) != 0 || it.Attached {
				t.Fatalf("left behind of a machine that is off: %+v", left)
			}
			forgotten(ctx, t, it)
			m, err := it.Running.Site.Machine(ctx, ref)
			must(t, err)
			for i, d := range m.Disks {
				if d.Ref != it.Copies(it.Running)[i] {
					t.Fatalf("disk %d is %s", i, d.Ref)
				}
			}
			must(t, w.Site(it.Running).Hyper.CheckEnd(it.ID(), w.Media(w.Site(it.Running), it.Machine)))
			it = c.next(-1)
			must(t, it.Protect(ctx)) // to copies that are not empty
			replicates(ctx, t, w, it)
		})
	}
}

// awayTarget cannot be reached.
type awayTarget struct{ homeward.MasterTarget }

func (awayTarget) Forget(context.Context, homeward.GenerationRequest) (homeward.Done, error) {
	return homeward.Done{}, homeward.Errorf("forget item", homeward.Unavailable, "", "", "the site is away")
}

func TestDisable_TargetAway(t *testing.T) {
	_, it, ctx := protected(t)
	it.Standby.Target = awayTarget{it.Standby.Target}
	_, err := it.Running.Site.PowerOff(ctx, "", it.Refs[it.Running.Name], homeward.Stop{})
	must(t, err)
	if _, err := it.Disable(ctx, false); homeward.KindOf(err) != homeward.Unavailable {
		t.Fatalf("without force: %v", err)
	}
	if err := it.Enable(ctx); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("enabled while half disabled: %v", err)
	}
	left, err := it.Disable(ctx, true)
	must(t, err)
	if len(left) != 1 || left[0].Where != it.Standby.Name || left[0].Why == "" {
		t.Fatalf("left behind: %+v", left)
	}
	if left, err := it.Disable(ctx, false); len(left) != 0 || err != nil {
		t.Fatalf("disabled already: %+v %v", left, err)
	}
}

// What an Enable that failed had made goes as well.
func TestDisable_EnableCutShort(t *testing.T) {
	w, it, ctx := protected(t)
	must(t, errors.Join(it.FailOver(ctx, homeward.Position{}), it.Cancel(ctx)))
	_, err := it.Running.Site.PowerOff(ctx, "", it.Refs[it.Running.Name], homeward.Stop{Graceful: true})
	must(t, err)
	_, err = it.Disable(ctx, false)
	must(t, err)
	c := begin(t, it)
	saved := c.saved
	for n := 1; n < 4; n++ {
		c.saved = saved
		if err := c.next(n).Enable(ctx); !errors.Is(err, errDied) {
			break
		}
		it, left := c.disabled(ctx, false)
		if it.Attached { // the machine was booted already
			_, err := it.Running.Site.PowerOff(ctx, "", it.Refs[it.Running.Name], homeward.Stop{Graceful: true})
			must(t, err)
			it, left = c.disabled(ctx, false)
		}
		if len(left) != 0 {
			t.Fatalf("dead at save %d, left behind: %+v", n, left)
		}
		forgotten(ctx, t, it)
		saved = c.saved
	}
	must(t, c.next(-1).Protect(ctx))
	replicates(ctx, t, w, c.next(-1))
}

func TestDisable_FailedOver(t *testing.T) {
	_, it, ctx := protected(t)
	must(t, it.FailOver(ctx, homeward.Position{}))
	if _, err := it.Disable(ctx, true); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("a machine on a view was given up: %v", err)
	}
}

// An id that was disabled, record and all, begins above what roles remember of it;
// one that is there is not taken from whoever has it.
func TestEnable_IDUsedBefore(t *testing.T) {
	w, it, ctx := protected(t)
	anew := func() *recovery.Item {
		next := recovery.New(it.Machine, it.Policy, w.Home.Side(it.Machine), w.Away.Side(it.Machine), it.Log)
		next.Refs[w.Home.Name] = it.Refs[w.Home.Name]
		return next
	}
	if err := anew().Protect(ctx); homeward.KindOf(err) != homeward.Exists {
		t.Fatalf("another item of this id: %v", err)
	}
	replicates(ctx, t, w, it)
	must(t, errors.Join(it.FailOver(ctx, homeward.Position{}), it.Cancel(ctx)))
	_, err := it.Running.Site.PowerOff(ctx, "", it.Refs[it.Running.Name], homeward.Stop{Graceful: true})
	must(t, err)
	_, err = it.Disable(ctx, false)
	must(t, err)
	c := begin(t, anew())
	it = c.run("", func(it *recovery.Item) error { return it.Protect(ctx) })
	if it.Generation.Number < 4 {
		t.Fatalf("it began under generation %d", it.Generation.Number)
	}
	it = c.next(-1)
	replicates(ctx, t, w, it)
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.Commit(ctx))
	_, err = it.Reprotect(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
}
