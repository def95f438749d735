package system

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/vault"
)

// previous builds homeward as it is spoken with in the version before.
func (e *estate) previous() (path string) {
	e.t.Helper()
	path = filepath.Join(e.Dir, "homeward-previous")
	build := exec.CommandContext(e.ctx, "go", "build", "-tags", "previous", "-o", path, "./cmd/homeward")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		e.t.Fatalf("build the version before: %v\n%s", err, out)
	}
	var v struct {
		Protocol int `json:"protocol"`
	}
	out, err := exec.CommandContext(e.ctx, path, "version", "--json").Output()
	e.must(err)
	e.must(json.Unmarshal(out, &v))
	if v.Protocol != role.Protocol-1 {
		e.t.Fatalf("the version before speaks protocol %d, this one %d", v.Protocol, role.Protocol)
	}
	return path
}

// One role of each kind is of the version before: the whole way there and back goes, each
// way over both, and what the older ones do not tell is unknown, not absent.
func TestVaultRoundTripWithOlderRoles(t *testing.T) {
	t.Parallel()
	e := found(t, lab.Plan{})
	e.sites("web01")
	older := e.previous()
	for _, p := range []*lab.Program{e.home.Agent, e.home.Config, e.away.Process, e.away.Target} {
		p.Kill()
		p.Executable = older
		e.start(p)
	}
	g := e.guests[0]
	e.done(e.act(g, vault.Enable, vault.Input{Target: "away", Policy: "gold"}))
	e.protected(g)
	e.hear(g, "home")
	e.tellsLess("home/web01")
	e.failOver()
	e.done(e.act(g, vault.Reprotect, e.back("home")))
	e.protected(g)
	e.prove(g)
	e.write(20)
	old := e.leave(g, "home")
	e.done(e.act(g, vault.FailbackAction, vault.Input{}))
	if last := e.hear(g, "home"); last < old.Last() {
		t.Fatalf("%s announced record %d, and %d is the last one after a planned move", g.item, old.Last(), last)
	}
	old.Stop()
	e.done(e.act(g, vault.Commit, vault.Input{}))
	e.done(e.act(g, vault.Reprotect, e.back("away")))
	e.protected(g)
	e.write(10)
	e.prove(g)
	e.done(e.act(g, vault.TestFailover, vault.Input{Network: "isolated"}))
	e.done(e.act(g, vault.CleanUpTest, vault.Input{}))
}

// tellsLess demands that the older configuration server's machine is known, and the
// number of its snapshots is not.
func (e *estate) tellsLess(machine string) {
	e.t.Helper()
	m, err := e.vault.Machine(e.ctx, machine)
	e.must(err)
	if m.Presence != vault.Present || m.Found.Snapshots != nil {
		e.t.Errorf("of a machine behind an older configuration server is known: %+v", m.Found)
	}
}
