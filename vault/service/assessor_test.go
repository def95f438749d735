package service

import (
	"context"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// What is known anew of a node counts at once for the readiness of the items of its
// site, and so does a job's end; nobody waits for the next round.
func TestReadiness_FollowsWhatIsHeard(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	r.close()
	r.tempo.Readiness = time.Hour
	r.open(ctx)
	r.do(ctx, "m0", vault.Enable, vault.Input{Target: "away", Policy: "gold"})
	r.awaitScore(ctx, "m0", true)
	r.hears(ctx, "ps-away", "mt-home", false)
	r.awaitScore(ctx, "m0", false)
	r.hears(ctx, "ps-away", "mt-home", true)
	r.awaitScore(ctx, "m0", true)
}

// hears makes a node have probed a peer.
func (r *rig) hears(ctx context.Context, node, peer string, reached bool) {
	r.t.Helper()
	n, err := r.store.Nodes.Change(ctx, node, func(n *vault.Node) error {
		for i := range n.Reachables {
			if n.Reachables[i].Peer == peer {
				n.Reachables[i].Reachable = reached
			}
		}
		return nil
	})
	must(r.t, err)
	r.Noted(n)
}

func (r *rig) awaitScore(ctx context.Context, id homeward.ItemID, ready bool) {
	r.t.Helper()
	for {
		it := r.item(ctx, id)
		if it.Score.Ready == ready && !it.Score.At.IsZero() {
			return
		}
		if ctx.Err() != nil {
			r.t.Fatalf("the item's score stays %+v: %+v", it.Score, it.Health)
		}
		must(r.t, r.w.Tick(ctx))
	}
}
