package service

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// executioner ends a vault at its nth write: that one, or its answer, is lost, and
// nothing that comes after it is stored.
type executioner struct {
	mu   sync.Mutex
	left int
	dead chan struct{}
}

func (e *executioner) cut() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left--; e.left > 0 {
		return nil
	}
	if e.left == 0 {
		close(e.dead)
	}
	return homeward.Errorf("write", homeward.Unavailable, "store", "", "the vault was killed")
}

// killedIn has an action done by vaults that are killed at random writes, one after
// the other, and ends when a last one has done it.
func (r *rig) killedIn(ctx context.Context, rng *rand.Rand, req vault.ActionRequest) {
	r.t.Helper()
	for kills := 1 + rng.IntN(2); kills > 0; kills-- {
		r.close()
		e := &executioner{left: 1 + rng.IntN(45), dead: make(chan struct{})}
		r.openCut(ctx, e.cut)
		j, err := r.actUntil(ctx, e.dead, req)
		for err == nil && !j.State.Ended() {
			select {
			case <-e.dead:
				err = ctx.Err()
				j.State = vault.JobFailed // of this vault
			default:
				j, err = r.Job(admin(ctx), j.ID)
				must(r.t, r.w.Tick(ctx))
			}
		}
		must(r.t, ctx.Err())
	}
	r.close()
	r.open(ctx)
	for {
		j, err := r.Act(admin(ctx), req)
		if err == nil {
			r.wait(ctx, j.ID)
			return
		}
		if homeward.KindOf(err) != homeward.Conflict {
			r.t.Fatalf("%s: %v", req.Action, err)
		}
		must(r.t, r.w.Tick(ctx))
	}
}

// actUntil asks a vault that may die meanwhile: then nobody answers.
func (r *rig) actUntil(ctx context.Context, dead <-chan struct{}, req vault.ActionRequest) (vault.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-dead:
		case <-ctx.Done():
		}
		cancel()
	})
	j, err := r.Act(admin(ctx), req)
	cancel()
	watch.Wait()
	return j, err
}

// The vault is killed at random writes of each job of the round trip, and each job
// ends as if it had not been.
func TestRoundTrip_VaultKilled(t *testing.T) { onBoth(t, roundTripKilled) }

func roundTripKilled(t *testing.T, url string) {
	r, ctx := newRigOn(t, url, world.Options{})
	rng := powerloss.Rand(t)
	for _, step := range []struct {
		action vault.Action
		in     vault.Input
		state  vault.State
		site   string
	}{
		{vault.Enable, vault.Input{Target: "away", Policy: "gold"}, vault.Protected, "home"},
		{vault.TestFailover, vault.Input{Network: "isolated"}, vault.Protected, "home"},
		{vault.CleanUpTest, vault.Input{}, vault.Protected, "home"},
		{vault.Failover, vault.Input{Shutdown: true}, vault.FailedOver, "away"},
		{vault.ChangePoint, vault.Input{Point: "-1ms"}, vault.FailedOver, "away"},
		{vault.CancelFailover, vault.Input{}, vault.Protected, "home"},
		{vault.Failover, vault.Input{}, vault.FailedOver, "away"},
		{vault.Commit, vault.Input{}, vault.Committed, "away"},
		{vault.Reprotect, vault.Input{}, vault.Protected, "away"},
		{vault.FailbackAction, vault.Input{}, vault.FailedOver, "home"},
		{vault.Commit, vault.Input{}, vault.Committed, "home"},
		{vault.Reprotect, vault.Input{}, vault.Protected, "home"},
	} {
		req := vault.ActionRequest{Item: "m0", Action: step.action, Input: step.in, Key: homeward.NewID().String()}
		if step.action == vault.Enable {
			req.Machine = "home/m0"
		}
		r.killedIn(ctx, rng, req)
		r.is(ctx, "m0", step.state, step.site)
	}
}
