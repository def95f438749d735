package service

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// How long a test failover stands before it is cleaned up by itself.
const (
	defaultTestLifetime = 24 * time.Hour
	maxTestLifetime     = 14 * 24 * time.Hour
)

func testPreflight(ctx context.Context, w *work) error {
	if w.item.Test != nil {
		return nil
	}
	opened := w.now().UTC()
	lifetime := w.asked.Input.Lifetime
	if lifetime == 0 {
		lifetime = defaultTestLifetime
	}
	return w.change(ctx, func(it *vault.Item) {
		it.Test.Network, it.Test.Opened, it.Test.Expires = w.asked.Input.Network, opened, opened.Add(lifetime)
	})
}

// drill opens the test failover.
func (w *work) drill(ctx context.Context) error {
	report, err := w.item.TestFailOver(ctx, recovery.TestRequest{Point: w.asked.Chosen, Network: w.asked.Input.Network})
	if err != nil {
		return err
	}
	return w.change(ctx, func(it *vault.Item) {
		it.Test.Machine, it.Test.Point = report.Machine.Ref.Native, report.Point.Position.String()
	})
}

func createTest(ctx context.Context, w *work) error {
	if err := w.artefact(ctx, "machine", w.item.Standby.Name, "test of item "+string(w.id()), "test failover", "with-test"); err != nil {
		return err
	}
	return w.until(ctx, stepBootTest, w.drill)
}

// prepareTest has nothing to do: a test machine's cards were put on the isolated
// network when it was defined.
func prepareTest(_ context.Context, w *work) error {
	if w.item.Test == nil {
		return homeward.Errorf("test failover", homeward.Conflict, "item "+string(w.id()), "begin the test failover anew", "it was cleaned up meanwhile")
	}
	return nil
}

func startTest(ctx context.Context, w *work) error {
	if err := w.drill(ctx); err != nil {
		return err
	}
	return w.booted(ctx, w.item.Standby.Site, w.asked.Input.Probe, func(ctx context.Context) error {
		m, err := w.item.Standby.Site.Machine(ctx, w.item.Test.Ref)
		if err == nil && m.Power != homeward.PowerOn {
			err = homeward.Errorf("wait for the test machine", homeward.Unavailable, "machine "+m.Ref.Native, "", "its power state is %s", m.Power)
		}
		return err
	})
}

func endTest(ctx context.Context, w *work) error { return w.item.CleanUpTest(ctx) }

// cleanUpTest forgets the test; one that was open has worked (R171).
func cleanUpTest(ctx context.Context, w *work) error {
	id := artefactID(w.id(), "machine", w.item.Standby.Name, "test of item "+string(w.id()))
	if err := w.run.Gone(ctx, id); err != nil {
		return err
	}
	return w.change(ctx, func(it *vault.Item) {
		succeeded := it.Test.Succeeded
		if w.asked.Facts.Test == vault.TestOpen {
			succeeded = w.now().UTC()
		}
		it.Test = vault.Test{State: it.Test.State, Succeeded: succeeded}
	})
}
