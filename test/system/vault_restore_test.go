package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// The vault is lost and restored from a backup that is older than a failback. It
// starts a new epoch, changes nothing until it is reconciled, and then touches nothing
// of what it does not know: the machine runs on where it has come home to. The old
// vault, started again from a copy, is refused by every node.
func TestVaultRestoredFromAnOlderBackup(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	e.failOver()
	e.done(e.act(g, vault.Reprotect, e.back("home")))
	e.protected(g)
	dir, backup, old := e.Vault.Flag("--dir"), filepath.Join(e.Dir, "backup"), filepath.Join(e.Dir, "old")
	e.must(e.Operator.Ask(e.ctx, &struct{}{}, "vault", "backup", "--dir", dir, "--out", backup))
	before, err := e.vault.Status(e.ctx)
	e.must(err)
	was := e.leave(g, "home") // what the backup does not know of:
	defer was.Stop()
	e.done(e.act(g, vault.FailbackAction, vault.Input{}))
	if last := e.hear(g, "home"); last < was.Last() {
		t.Fatalf("record %d was announced, %d is the last one after a planned move", was.Last(), last)
	}
	e.done(e.act(g, vault.Commit, vault.Input{}))
	e.write(20)
	e.Vault.Kill()
	if out, err := exec.CommandContext(e.ctx, "cp", "-a", dir, old).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "vault.db*"))
	e.must(err)
	for _, f := range files {
		e.must(os.Remove(f))
	}
	e.must(e.Operator.Ask(e.ctx, &struct{}{}, "vault", "restore", "--dir", dir, "--from", backup))
	e.must(e.Vault.Start(e.ctx, e.Executable))

	if _, err := e.vault.Status(e.ctx); homeward.KindOf(err) != homeward.Unauthentic {
		t.Fatalf("a token of the backup is taken before anybody has looked: %v", err)
	}
	atHost := &lab.Operator{Executable: e.Operator.Executable, Env: []string{"HOMEWARD_VAULT=unix://" + filepath.Join(dir, "api.sock")}}
	e.vault = e.client(atHost)
	status, err := e.vault.Status(e.ctx)
	e.must(err)
	if !status.ReadOnly || status.Why == "" || status.Epoch <= before.Epoch {
		t.Fatalf("a restored vault is not read-only, or of no newer epoch than %d: %+v", before.Epoch, status)
	}
	_, err = e.vault.Act(e.ctx, vault.ActionRequest{Item: g.item, Action: vault.FailbackAction})
	if homeward.KindOf(err) != homeward.Conflict || !strings.Contains(homeward.RemedyOf(err), "reconcile") {
		t.Fatalf("a restored vault takes an order: %v", err)
	}
	e.heard()
	e.eventually("all nodes to report", func() (bool, error) {
		status, err = e.vault.Status(e.ctx)
		return len(status.Unheard) == 0, err
	})
	e.must(atHost.Ask(e.ctx, &status, "reconcile", "--yes"))
	e.vault = e.client(e.Operator)
	if status.ReadOnly {
		t.Fatalf("still read-only: %+v", status)
	}
	e.eventually("an alarm about the failback that it does not know of", func() (bool, error) {
		page, err := e.vault.Alerts(e.ctx, vault.Query{})
		return slices.ContainsFunc(page.Entries, func(a vault.Alert) bool {
			return a.Code == "generation-foreign" && a.Subject == "item web01" && a.Cleared.IsZero()
		}), err
	})
	// Its keeper looks after items every 10 s: it must not take the running machine for
	// a copy that somebody powered on.
	watch := time.NewTimer(15 * time.Second)
	<-watch.C
	e.write(20)
	e.oldVaultIsRefused(old)
	e.write(20)
}

// oldVaultIsRefused starts the vault that was replaced in the place of the one that is
// in force, and then that one again.
func (e *estate) oldVaultIsRefused(dir string) {
	e.t.Helper()
	e.Vault.Kill()
	began := time.Now()
	args := slices.Clone(e.Vault.Args)
	for i, a := range args {
		if a == e.Vault.Flag("--dir") {
			args[i] = dir
		}
	}
	old := &lab.Program{Name: "old-vault", Args: args, LogFile: filepath.Join(e.Dir, "old-vault.log")}
	e.must(old.Start(e.ctx, e.Executable))
	for _, p := range append(e.home.Programs(), e.away.Programs()...) {
		e.eventually(p.Name+" to refuse the old vault", func() (bool, error) {
			text, err := p.Log()
			return strings.Contains(text, "it is of epoch"), err
		})
		n, err := e.vault.Node(e.ctx, p.Name)
		e.must(err)
		if n.Heartbeat.After(began) {
			e.t.Errorf("%s reports to a vault of an older epoch", p.Name)
		}
	}
	if _, err := e.vault.RefreshSite(e.ctx, "away"); homeward.KindOf(err) != homeward.Unavailable {
		e.t.Errorf("a site answers a vault of an older epoch: %v", err)
	}
	old.Kill()
	e.start(e.Vault)
}
