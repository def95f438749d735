package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// Exit codes of commands that wait for a job; docs/cli.md lists them.
const (
	exitFailed    = 20
	exitSuspended = 21
	exitCancelled = 22
)

// cli runs a command of the operator's to its end.
func (e *estate) cli(args ...string) outcome {
	e.t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(e.ctx, binary, args...)
	cmd.Env = append(os.Environ(), e.Operator.Env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Fatal(err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// ends demands an exit code of a command, and words of what it says.
func (e *estate) ends(code int, o outcome, words ...string) {
	e.t.Helper()
	if o.code != code {
		e.t.Fatalf("exit code %d, expected %d\n%s%s", o.code, code, o.out, o.err)
	}
	tells(e.t, o.out+o.err, words...)
}

// last is the newest job on a machine.
func (e *estate) last(g *guest) vault.Job {
	e.t.Helper()
	page, err := e.vault.Jobs(e.ctx, vault.Query{Item: string(g.item), Limit: 1})
	e.must(err)
	if len(page.Entries) == 0 {
		e.t.Fatalf("nobody did anything with %s", g.item)
	}
	return page.Entries[0]
}

func taskIn(j vault.Job, s vault.TaskState) vault.Task {
	if i := slices.IndexFunc(j.Tasks, func(t vault.Task) bool { return t.State == s }); i >= 0 {
		return j.Tasks[i]
	}
	return vault.Task{}
}

// A task fails after its last try, because the volume of the points is full. One job
// ends well once it is given another volume, the other one once there is room: each
// goes on at the task that failed, by a command.
func TestVaultJobIsRetriedAfterItsLastTry(t *testing.T) {
	t.Parallel()
	e := found(t, lab.Plan{})
	e.sites("web01", "web02")
	disk := &rig{t: t, ctx: e.ctx}
	full, roomy := filepath.Join(e.Dir, "full"), filepath.Join(e.Dir, "roomy")
	disk.small(full, 8<<20)
	disk.small(roomy, 256<<20)
	free := disk.fill(full)
	target := e.away.Target
	target.Kill()
	target.Args[slices.Index(target.Args, "--retention")+1] = full
	target.Args = append(target.Args, "--retention", roomy)
	e.start(target)
	var begun []vault.Job
	for _, g := range e.guests {
		begun = append(begun, e.act(g, vault.Enable, vault.Input{Target: "away", Policy: "gold"}))
	}
	for i, j := range begun {
		e.must(e.until(func() (_ bool, err error) { // a minute: eight tries, each after a longer wait
			j, err = e.vault.Job(e.ctx, j.ID)
			return j.State == vault.JobFailed, err
		}))
		e.honest(j)
		if task := taskIn(j, vault.TaskFailed); task.Attempts != 8 || task.Name != "EnableProtectionTask" || j.Error.Kind != homeward.NoSpace {
			t.Fatalf("task %s failed after %d tries: %+v", task.Name, task.Attempts, j.Error)
		}
		begun[i] = j
	}
	e.ends(6, e.cli("job", "retry", begun[0].ID, "--input", `{"target_site":"home"}`), "target site")
	e.ends(2, e.cli("job", "retry", begun[0].ID, "--input", `{"volume":"x"}`), "volume")
	e.ends(2, e.cli("job", "retry", begun[0].ID, "--input", `{"retention_volume":"/nowhere"}`), "/nowhere")
	e.ends(0, e.cli("job", "retry", begun[0].ID, "--input", fmt.Sprintf(`{"retention_volume":%q}`, roomy), "--wait"))
	free()
	e.must(exec.CommandContext(e.ctx, "mount", "-o", "remount,size=256m", full).Run())
	e.ends(0, e.cli("job", "retry", begun[1].ID, "--wait"))
	for i, g := range e.guests {
		if it := e.state(g, vault.Protected); it.Replication.Points == 0 || it.Replication.RPO < 0 {
			t.Errorf("the command has ended, and of %s is known: %+v", g.item, it.Replication)
		}
		e.hear(g, "home")
		kept, err := filepath.Glob(filepath.Join([]string{roomy, full}[i], "*"))
		if err != nil || len(kept) == 0 {
			t.Errorf("the points of %s are not on their volume: %v", g.item, err)
		}
	}
	e.write(10)
	for _, g := range e.guests {
		e.prove(g)
	}
}

// A probe by command says whether a machine is up: it is run only where the
// configuration server of its site was told so, and while it fails the job waits for
// a person, who tries again, skips it, or calls the failover off.
func TestVaultProbeByCommand(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	up, ran := filepath.Join(e.Dir, "up"), filepath.Join(e.Dir, "ran")
	script := filepath.Join(e.Dir, "is-it-up.sh")
	e.must(os.WriteFile(script, []byte("#!/bin/sh\necho \"$@\" >>"+ran+"\necho 'the shop does not answer'; test -e "+up+"\n"), 0o700))
	failover := []string{"item", "failover", "web01", "--yes", "--wait", "--probe-timeout", "3s",
		"--probe-command", script, "--probe-command", "shop", "--probe-command", "a b"}

	e.ends(exitSuspended, e.cli(failover...), "--allow-probe-command")
	if _, err := os.Stat(ran); err == nil {
		t.Fatal("a program was run that the site had not allowed")
	}
	e.ends(0, e.cli("job", "abort", e.last(g).ID, "--yes"))
	if j := e.last(g); j.State != vault.JobCancelled {
		t.Fatalf("an aborted job is %s", j.State)
	}
	e.ends(exitCancelled, e.cli("job", "wait", e.last(g).ID))
	e.leave(g, "home").Stop()
	e.ends(0, e.cli("item", "cancel", "web01", "--yes", "--wait"))
	e.hear(g, "home")

	e.away.Config.Kill()
	e.away.Config.Args = append(e.away.Config.Args, "--allow-probe-command", script)
	e.start(e.away.Config)
	e.write(10)
	e.state(g, vault.Protected)
	e.leave(g, "away").Stop()
	e.ends(exitSuspended, e.cli(failover...), "the shop does not answer")
	said, err := os.ReadFile(ran)
	e.must(err)
	if first, _, _ := strings.Cut(string(said), "\n"); first != "shop a b" {
		t.Errorf("the program was given %q", first)
	}
	j := e.last(g)
	e.ends(exitSuspended, e.cli("job", "retry", j.ID, "--wait"), "the shop does not answer")
	e.must(os.WriteFile(up, nil, 0o600))
	e.ends(0, e.cli("job", "retry", j.ID, "--wait"))
	e.hear(g, "away")

	e.must(os.Remove(up))
	e.leave(g, "away").Stop()
	e.ends(exitSuspended, e.cli("item", "change-point", "web01", "--point", "latest", "--yes", "--wait", "--probe-timeout", "2s", "--probe-command", script), "the shop does not answer")
	e.ends(0, e.cli("job", "skip", e.last(g).ID, "--yes", "--wait"))
	if task := taskIn(e.last(g), vault.TaskSkipped); !strings.Contains(task.Why, "the shop does not answer") {
		t.Errorf("it is not told what was skipped: %+v", task)
	}
	e.hear(g, "away")
	e.write(10)
	e.ends(0, e.cli("item", "commit", "web01", "--yes", "--wait"))
}
