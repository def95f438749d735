package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// backup copies the vault's store, to a file.
func (e *estate) backup() string {
	e.t.Helper()
	to := filepath.Join(e.Dir, "backup")
	e.must(e.Operator.Ask(e.ctx, &struct{}{}, "vault", "backup", "--dir", e.Vault.Flag("--dir"), "--out", to))
	return to
}

// restored kills the vault, starts one that is restored from a backup, and reconciles it.
func (e *estate) restored(from string, flags ...string) vault.Status {
	e.t.Helper()
	dir := e.Vault.Flag("--dir")
	e.Vault.Kill()
	files, err := filepath.Glob(filepath.Join(dir, "vault.db*"))
	e.must(err)
	for _, f := range files {
		e.must(os.Remove(f))
	}
	e.must(e.Operator.Ask(e.ctx, &struct{}{}, "vault", "restore", "--dir", dir, "--from", from))
	e.must(e.Vault.Start(e.ctx, e.Executable))
	atHost := &lab.Operator{Executable: e.Operator.Executable, Env: []string{"HOMEWARD_VAULT=unix://" + filepath.Join(dir, "api.sock")}}
	e.vault = e.client(atHost)
	e.heard()
	var status vault.Status
	e.eventually("the vault to be reconciled", func() (bool, error) {
		err := atHost.Ask(e.ctx, &status, append([]string{"reconcile", "--yes"}, flags...)...)
		return err == nil && len(status.Moved) > 0, nil // nodes report one after the other
	})
	e.vault = e.client(e.Operator)
	return status
}

// The vault is restored from a backup of before a failover, its commit and a reprotect. It
// adopts what it finds, and the machine comes home with all that it wrote meanwhile.
func TestVaultAdoptsWhatWasDoneSince(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	old := e.backup()
	e.failOver()
	e.done(e.act(g, vault.Reprotect, e.back("home")))
	e.protected(g)
	e.write(30)

	if status := e.restored(old); len(status.Moved) != 1 || status.Moved[0] != "web01" {
		t.Fatalf("moved without it: %v", status.Moved)
	}
	var plan vault.Plan
	e.eventually("both sides to be known", func() (bool, error) { // nodes dial in one after the other
		return e.Operator.Ask(e.ctx, &plan, "item", "adopt", "web01", "--dry-run") == nil, nil
	})
	if a := plan.Adoption; a == nil || !strings.HasPrefix(a.Recorded, "protected: runs at home") || !strings.HasPrefix(a.Found, "protected: runs at away") {
		t.Fatalf("the plan: %+v", plan.Adoption)
	}
	e.write(10)
	e.must(e.Operator.Do(e.ctx, "item", "adopt", "web01", "--wait", "--yes"))
	if it := e.state(g, vault.Protected); it.ActiveSite != "away" {
		t.Fatalf("it runs at %s", it.ActiveSite)
	}
	e.write(20) // the machine was not touched
	e.ready()
	was := e.leave(g, "home")
	defer was.Stop()
	e.done(e.act(g, vault.FailbackAction, vault.Input{}))
	if last := e.hear(g, "home"); last < was.Last() {
		t.Fatalf("record %d was announced, %d is the last one after a planned move", was.Last(), last)
	}
	e.done(e.act(g, vault.Commit, vault.Input{}))
	e.done(e.act(g, vault.Reprotect, e.back("away")))
	e.protected(g)
	e.write(20)
	e.prove(g)
	e.noAlarm("generation-foreign")
}

// Home is lost, and the vault with it. The machine is recovered from the master target's
// disks alone and runs by hand. A vault that is restored adopts that: it boots the machine
// on the same disks, with what it wrote meanwhile, and brings it home.
func TestVaultAdoptsBreakGlass(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	old := e.backup()
	e.write(30)
	least := e.lose()[g]
	e.leave(g, "away").Stop()
	e.Vault.Kill()
	e.away.Target.Kill()
	view, stop := serving[homeward.View](t, "master-target", "recover", "--dir", e.away.Target.Dir())
	byHand := &rig{t: t, ctx: e.ctx}
	byHand.holds(view, least)
	byHand.runsOn(view) // 20 records and more that no agent sees
	stop()
	e.must(e.away.Target.Start(e.ctx, e.Executable))

	e.restored(old, "--force")
	e.eventually("away to be known, and home to be missed", func() (bool, error) { // nodes dial in one after the other
		err := e.Operator.Do(e.ctx, "item", "adopt", "web01", "--wait", "--yes")
		if err == nil {
			t.Fatal("adopted though home cannot be asked")
		}
		return strings.Contains(err.Error(), "the agent at home cannot be asked"), nil
	})
	e.must(e.Operator.Do(e.ctx, "item", "adopt", "web01", "--force", "--wait", "--yes"))
	e.state(g, vault.FailedOver)
	e.must(e.Operator.Do(e.ctx, "item", "failover", "web01", "--wait", "--yes"))
	if last := e.hear(g, "away"); last < least+20 {
		t.Fatalf("it booted with record %d, %d and 20 more were written", last, least)
	}
	e.done(e.act(g, vault.Commit, vault.Input{}))
	e.write(20)
	e.returns()
	e.ready()
	e.done(e.act(g, vault.Reprotect, e.back("home")))
	e.protected(g)
	e.write(20)
	e.prove(g) // also of what no agent saw
	was := e.leave(g, "home")
	defer was.Stop()
	e.done(e.act(g, vault.FailbackAction, vault.Input{}))
	if last := e.hear(g, "home"); last < was.Last() {
		t.Fatalf("record %d was announced, %d is the last one after a planned move", was.Last(), last)
	}
}

// noAlarm waits until no alert of a code is open.
func (e *estate) noAlarm(code string) {
	e.t.Helper()
	e.eventually("the end of alert "+code, func() (bool, error) {
		page, err := e.vault.Alerts(e.ctx, vault.Query{})
		for _, a := range page.Entries {
			if a.Code == code && a.Cleared.IsZero() {
				return false, err
			}
		}
		return err == nil, err
	})
}
