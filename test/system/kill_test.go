package system

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/test/stage"
)

// Every role is killed at steps of its work, in every phase of the round trip; it
// is started again, and the operation is called again. In the end nothing that
// was announced before a point is lost and both sides are equal.
//
// A step is a fault point: those that the agent names, and every change of a file
// or a disk of any role. Each round goes there and back once and draws a victim
// and a step for each phase.
func TestKillRandomRoleAtRandomStep(t *testing.T) {
	t.Parallel()
	rng := random(t)
	steps := agentSteps(t)
	for n := range rounds(t) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			k := &killer{rig: build(t, stage.Options{Churn: 2}), rng: rng, steps: steps}
			k.thereAndBack()
			t.Logf("%d of %d roles reached the step at which they died", k.died, k.armed)
		})
	}
}

// agentSteps are the fault points that the agent names in its source.
func agentSteps(t *testing.T) (steps []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "agent", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\.[fF]ault\("([^"]+)"\)`)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(raw, -1) {
			steps = append(steps, string(m[1]))
		}
	}
	slices.Sort(steps)
	if steps = slices.Compact(steps); len(steps) < 10 {
		t.Fatalf("the agent names %q only: does it still call Fault?", steps)
	}
	return steps
}

// killer kills roles of a rig.
type killer struct {
	*rig
	rng   *rand.Rand
	steps []string

	armed, died int
}

func (k *killer) thereAndBack() {
	k.t.Helper()
	home, away := k.Home, k.Away
	k.phase("initial sync", []*lab.Program{home.Agent, home.Process, away.Target}, k.Item.Protect)
	k.hear(home, 0)
	k.phase("replicate", []*lab.Program{home.Agent, home.Process, away.Target}, k.work)
	k.replicated()
	k.must(k.Lose(k.ctx, home))
	k.failOver(func(ctx context.Context) error {
		k.phase("fail over", []*lab.Program{away.Agent, away.Target}, k.newestPoint)
		return nil
	})
	k.phase("promote", []*lab.Program{away.Agent, away.Target}, func(ctx context.Context) error {
		if err := k.work(ctx); err != nil {
			return err
		}
		return k.Item.Commit(ctx)
	})
	k.must(k.Restore(k.ctx, home))
	all := append(home.Programs(), away.Programs()...)
	again := func(ctx context.Context) error { _, err := k.Item.Reprotect(ctx); return err }
	k.phase("reprotect", all, again)
	k.prove()
	k.phase("replicate back", []*lab.Program{away.Agent, away.Process, home.Target}, k.work)
	k.failBack(func(ctx context.Context) error {
		k.phase("fail back", all, k.planned)
		return nil
	})
	k.phase("promote at home", []*lab.Program{home.Agent, home.Target}, k.Item.Commit)
	k.phase("reprotect forward", all, again)
	k.prove()
	k.write(20)
}

// work lets the guest announce records, through whatever happens to its agent.
func (k *killer) work(ctx context.Context) error {
	return k.console.Until(ctx, k.console.Last()+100)
}

// phase arms one victim, runs an operation until it succeeds while the victim dies
// and is started again, and disarms the victim.
func (k *killer) phase(name string, victims []*lab.Program, op func(context.Context) error) {
	k.t.Helper()
	victim := victims[k.rng.IntN(len(victims))]
	step := k.step(victim)
	k.t.Logf("%-18s %-12s %s", name, victim.Name, step)
	began := time.Now()
	victim.Kill()
	victim.Env = []string{"HOMEWARD_FAULT=" + step}
	if err := k.Restart(k.ctx, victim); err != nil {
		k.died++ // at its start, then
		victim.Kill()
		victim.Env = nil
		k.must(k.Restart(k.ctx, victim))
	}
	k.armed++
	ctx, cancel := context.WithTimeout(k.ctx, time.Minute)
	defer cancel()
	var nurse sync.WaitGroup
	done := make(chan struct{})
	nurse.Go(func() { k.nurse(ctx, victim, done) })
	err := insist(ctx, op)
	close(done)
	nurse.Wait()
	if err != nil {
		k.t.Fatalf("%s, %s killed at %q: %v", name, victim.Name, step, err)
	}
	if victim.Env != nil { // it did not come to its step: it must not die in the next phase
		victim.Kill()
		victim.Env = nil
		k.must(k.Restart(k.ctx, victim))
	}
	if k.console != nil {
		k.t.Logf("%18s longest pause the guest saw: %v", "", k.console.Pause(began).Round(time.Millisecond))
	}
}

// nurse starts the victim again when it dies.
func (k *killer) nurse(ctx context.Context, victim *lab.Program, done <-chan struct{}) {
	select {
	case <-done:
		return
	case <-victim.Ended():
	}
	k.died++
	victim.Env = nil
	if err := k.Restart(ctx, victim); err != nil {
		k.t.Errorf("%s does not start again: %v", victim.Name, err)
	}
}

// insist calls an operation until it succeeds, or fails in a way that calling it
// again does not mend.
func insist(ctx context.Context, op func(context.Context) error) error {
	for {
		err := op(ctx)
		if err == nil || !homeward.Retryable(err) || ctx.Err() != nil {
			return err
		}
		pause := time.NewTimer(50 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// step draws where a victim dies. The number counts passes from its start on.
func (k *killer) step(victim *lab.Program) string {
	files := []string{"*", "*", "fs.write *", "fs.sync *", "fs.rename *", "fs.remove *", "fs.syncdir *"}
	passes := []int{12, 60, 20, 12, 8, 3, 8}
	switch victim {
	case k.Home.Process, k.Away.Process: // it has no disks
	case k.Home.Agent, k.Away.Agent:
		if k.rng.IntN(2) == 0 {
			return fmt.Sprintf("%s:%d", k.steps[k.rng.IntN(len(k.steps))], 1+k.rng.IntN(3))
		}
		fallthrough
	default:
		files = append(files, "disk.write", "disk.flush")
		passes = append(passes, 20, 6)
	}
	i := k.rng.IntN(len(files))
	return fmt.Sprintf("%s:%d", files[i], 1+k.rng.IntN(passes[i]))
}

// The agent is in the guest's path: its death is a pause, not an error.
func TestGuestRidesOutDeathOfItsAgent(t *testing.T) {
	for _, guest := range []string{"builtin", "qemu"} {
		t.Run(guest, func(t *testing.T) {
			t.Parallel()
			r := protected(t, stage.Options{Guest: guest})
			r.write(20)
			began := time.Now()
			for range 5 {
				r.Home.Agent.Kill()
				r.must(r.Restart(r.ctx, r.Home.Agent))
				r.write(20)
			}
			t.Logf("longest pause of a %s guest over 5 deaths of its agent: %v", guest, r.console.Pause(began).Round(time.Millisecond))
			r.prove()
		})
	}
}
