package system

import (
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// Home is lost, the machine runs at the other site, home comes back; and while home's
// disks are being overwritten the other site burns. By one command the machine boots at
// home, with all that home had ever said. Then the other site returns: its machine stays
// off, what differs travels there, and both sides are equal.
func TestVaultRecoverySiteLostAmidReprotect(t *testing.T) {
	t.Parallel()
	// It overwrites enough for several deltas, so that a part of them is not all.
	e := settle(t, lab.Plan{Outlive: true, Guest: lab.Guest{Churn: 16}}, "web01")
	g := e.guests[0]
	e.write(50)
	e.lose()
	atHome := g.console.Last()
	e.leave(g, "away").Stop()
	e.done(e.act(g, vault.Failover, vault.Input{}))
	e.hear(g, "away")
	e.done(e.act(g, vault.Commit, vault.Input{}))
	e.returns()
	e.must(e.Operator.Do(e.ctx, "node", "limit", "ps-away", "--rate", "1MiB"))
	e.write(400)
	e.done(e.act(g, vault.Reprotect, e.back("home")))
	e.overwritten(g)
	e.must(e.Operator.Do(e.ctx, "node", "limit", "ps-away", "--rate", "1KiB"))
	if it, err := e.vault.Item(e.ctx, g.item); err != nil || it.State != vault.Synchronizing || it.Job == "" {
		t.Fatalf("the item is %s: %v", it.State, err)
	}

	lost := e.leave(g, "home")
	e.Lose(e.away)
	e.must(e.EndMachines(e.ctx, e.away))
	lost.Stop()
	var plan vault.Plan
	e.must(e.Operator.Ask(e.ctx, &plan, "item", "failback", "web01", "--point", vault.LostWrites, "--dry-run"))
	if !plan.Allowed || len(plan.Losses) == 0 || !strings.Contains(plan.Losses[0], "everything the machine wrote at away") {
		t.Fatalf("the plan: %+v", plan)
	}
	e.must(e.Operator.Do(e.ctx, "item", "failback", "web01", "--point", vault.LostWrites, "--wait", "--yes"))
	last := e.hear(g, "home")
	if last < atHome || last >= lost.Last() {
		t.Fatalf("home had announced record %d and the lost site %d; it booted with %d", atHome, lost.Last(), last)
	}
	e.state(g, vault.FailedOver)
	e.write(50)
	e.must(e.Operator.Do(e.ctx, "item", "commit", "web01", "--wait", "--yes"))

	e.must(e.Restore(e.ctx, e.away))
	e.heard()
	e.done(e.act(g, vault.Reprotect, e.back("away")))
	e.protected(g)
	e.write(50)
	e.prove(g)
	page, err := e.vault.Machines(e.ctx, vault.Query{Site: "away"})
	e.must(err)
	for _, m := range page.Entries {
		if m.Found.Power != homeward.PowerOff {
			t.Errorf("machine %s is %s", m.ID, m.Found.Power)
		}
	}
	e.branch(g)
}

// overwritten waits until some of what synchronizes has reached the replica.
func (e *estate) overwritten(g *guest) {
	e.t.Helper()
	e.eventually("the replica to be overwritten", func() (bool, error) { return e.branch(g).UndoBytes > 0, nil })
}

// branch is the point that keeps what the side that stands by had.
func (e *estate) branch(g *guest) homeward.Point {
	e.t.Helper()
	var list []homeward.Point
	e.must(e.Operator.Ask(e.ctx, &list, "point", "list", string(g.item)))
	i := slices.IndexFunc(list, func(p homeward.Point) bool { return slices.Contains(p.Pins, "branch:"+vault.LostWrites) })
	if i < 0 || !list[i].Mark.Kind.Bootable() {
		e.t.Fatalf("no bootable branch among %+v", list)
	}
	return list[i]
}
