package system

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// The master target with the replica is killed for good while the machine writes. Its
// replica is led to another one by the command that the alert names, the site is lost,
// and the machine boots from the new one with all it must have. The old one comes back:
// it is emptied, and the alerts end.
func TestVaultMasterTargetLostForGood(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{}, "web01")
	g := e.guests[0]
	e.must(e.AddTarget(e.ctx, e.away))
	old := e.state(g, vault.Protected).Recovery
	e.write(20)
	e.away.Target.Kill()
	var remedy string
	e.eventually("the alert of the dead one", func() (_ bool, err error) {
		remedy, err = e.remedyOf("items-without-master-target")
		return strings.Contains(remedy, "reassociate --from mt-away --to mt-2-away"), err
	})
	e.write(20) // the machine does not care
	e.ends(0, e.cli("item", "reassociate", "--from", "mt-away", "--to", "mt-2-away", "--dry-run"), "Nothing was changed", "What will be lost", old.Disks[0])
	e.ends(0, e.cli("item", "reassociate", "--from", "mt-away", "--to", "mt-2-away", "--wait", "--yes"))
	it := e.state(g, vault.Protected)
	if it.Recovery.MasterTarget != "mt-2-away" || slices.Equal(it.Recovery.Disks, old.Disks) {
		t.Fatalf("its replica is at %+v", it.Recovery)
	}
	e.write(20)
	e.prove(g)

	e.must(e.away.Target.Start(e.ctx, e.Executable))
	e.eventually("the old one to be emptied, and the alerts to end", func() (bool, error) {
		made, err := e.vault.Artefacts(e.ctx, vault.Query{})
		left, again := e.remedyOf("replica-left-behind")
		lost, once := e.remedyOf("items-without-master-target")
		only := len(made.Entries) == 1 && strings.Contains(made.Entries[0].Subject, "mt-2-away")
		return only && left == "" && lost == "", errors.Join(err, again, once)
	})

	least := e.lose()
	e.done(e.act(g, vault.Failover, vault.Input{}))
	if last := e.hear(g, "away"); last < least[g] {
		t.Fatalf("%s announced record %d before its newest point, and %d is the last at the other side", g.item, least[g], last)
	}
	e.write(5)
}

// remedyOf is that of an alert that is open; empty: there is none.
func (e *estate) remedyOf(code string) (string, error) {
	page, err := e.vault.Alerts(e.ctx, vault.Query{Limit: 500})
	for _, a := range page.Entries {
		if a.Code == code && a.Cleared.IsZero() {
			return a.Remedy, nil
		}
	}
	return "", err
}

// A master target that ends first does not keep the agent whose machine runs on it.
func TestAgentEndsAfterItsMasterTarget(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{}, "web01")
	g := e.guests[0]
	e.leave(g, "away").Stop()
	e.done(e.act(g, vault.Failover, vault.Input{}))
	e.hear(g, "away")
	e.write(5)
	e.away.Target.Stop()
	e.away.Agent.Stop()
	log, err := e.away.Agent.Log()
	e.must(err)
	if !strings.Contains(log, "ended without its disks") {
		t.Errorf("the agent did not end by itself:\n%s", log)
	}
}
