package recovery_test

import (
	"context"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
)

const testMachine = homeward.ItemID("m0-test")

// A test failover runs a copy on an isolated network while replication goes on, and
// nothing of it is left after the clean-up; whoever dies on the way, the next goes on.
func TestTestFailOver_ControllersDie(t *testing.T) {
	w, it, ctx := protected(t)
	it.Machine.NICs = []homeward.NIC{{MAC: "02:00:00:00:00:01", Network: "production"}}
	must(t, it.Unpause(ctx)) // ships the manifest with its card
	_, err := it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash})
	must(t, err)
	hyper := w.Site(it.Standby).Hyper
	c := begin(t, it)
	var report recovery.TestReport
	it = c.run("", func(it *recovery.Item) (err error) {
		report, err = it.TestFailOver(ctx, recovery.TestRequest{Network: "isolated"})
		return err
	})
	g := hyper.Guest(testMachine)
	if g == nil || report.Machine.Power != homeward.PowerOn || report.Machine.Machine.NICs[0].Network != "isolated" {
		t.Fatalf("the test machine: %+v", report)
	}
	must(t, g.AwaitWrites(ctx, 20))
	replicates(ctx, t, w, it)
	if err := it.FailOverPlanned(ctx, homeward.Position{}); homeward.KindOf(err) != homeward.Conflict || !strings.Contains(homeward.RemedyOf(err), "clean up") {
		t.Fatalf("failed back with a test open: %v", err)
	}
	if _, err := it.TestFailOver(ctx, recovery.TestRequest{Network: "isolated", Name: "other"}); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("a second test: %v", err)
	}
	it = c.runLong("", 1, func(it *recovery.Item) error { return it.CleanUpTest(ctx) })
	gone(ctx, t, it)
	must(t, c.next(-1).CleanUpTest(ctx))
	replicates(ctx, t, w, it)
}

func gone(ctx context.Context, t *testing.T, it *recovery.Item) {
	t.Helper()
	if it.Test != nil {
		t.Fatalf("the record has a test: %+v", it.Test)
	}
	if _, err := it.Standby.Site.Machine(ctx, homeward.Ref{Native: string(testMachine)}); homeward.KindOf(err) != homeward.NotFound {
		t.Fatalf("the test machine is still there: %v", err)
	}
	replica, err := it.Standby.Target.Report(ctx, homeward.ItemRequest{Item: it.ID()})
	must(t, err)
	if len(replica.Views) != 0 {
		t.Fatalf("the view is still served: %+v", replica.Views)
	}
}

// Wherever a test failover is cut short, the clean-up finds what it made.
func TestCleanUpTest_HalfMade(t *testing.T) {
	w, it, ctx := protected(t)
	c := begin(t, it)
	saved := c.saved
	for n := range 5 {
		c.saved = saved
		if _, err := c.next(n).TestFailOver(ctx, recovery.TestRequest{Network: "isolated"}); (err == nil) != (n >= 3) {
			t.Fatalf("dead at save %d: %v", n, err)
		}
		it = c.next(-1)
		must(t, it.CleanUpTest(ctx))
		gone(ctx, t, it)
	}
	replicates(ctx, t, w, it)
}

func TestTestFailOver_Networks(t *testing.T) {
	_, it, ctx := protected(t)
	for network, says := range map[string]string{"": "isolated", "production": "production's", "lan": "isolated"} {
		_, err := it.TestFailOver(ctx, recovery.TestRequest{Network: network})
		if homeward.KindOf(err) != homeward.Invalid || !strings.Contains(err.Error(), says) || it.Test != nil {
			t.Fatalf("on network %q: %v", network, err)
		}
	}
	if _, err := it.TestFailOver(ctx, recovery.TestRequest{Network: "isolated", Name: string(it.ID())}); homeward.KindOf(err) != homeward.Invalid {
		t.Fatalf("under the machine's own name: %v", err)
	}
}

// A disaster does not wait for a test to be cleaned up.
func TestFailOver_TestOpen(t *testing.T) {
	w, it, ctx := protected(t)
	_, err := it.TestFailOver(ctx, recovery.TestRequest{Network: "isolated"})
	must(t, err)
	must(t, it.FailOver(ctx, homeward.Position{}))
	must(t, it.CleanUpTest(ctx))
	must(t, it.Commit(ctx))
	_, err = it.Reprotect(ctx)
	must(t, err)
	replicates(ctx, t, w, it)
}
