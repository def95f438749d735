package service

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// The pauses between resyncs that the vault begins by itself: the second one of a day
// waits for resyncPause, each further one twice as long, at most resyncLongest. So an
// item that loses its map again and again is not compared all the time.
const (
	resyncPause   = 10 * time.Minute
	resyncLongest = 6 * time.Hour
	resyncMemory  = 24 * time.Hour
)

// resync begins the resynchronization of an item whose agent does not know all that was
// written, where its policy has the vault do so. It is an ordinary job, asked for in the
// vault's own name; an alert stands until it has succeeded.
func (k *keeper) resync(ctx context.Context, it vault.Item) error {
	now, known := k.monitor.last(it.ID)
	if !known || len(now.torn(it)) == 0 || !now.replication.As.After(it.Changed) { // heard before the last job ended
		return nil
	}
	policy, err := k.policyOf(ctx, it, it.Direction.To)
	if err != nil || !policy.Resync.Begins(k.now().Local()) {
		return err
	}
	due, err := k.resyncDue(ctx, it)
	if err != nil || k.now().Before(due) {
		return err
	}
	facts, err := k.standing(ctx, it, now.heard)
	if err != nil {
		return err
	}
	if _, refusal := lifecycle.Decide(facts, vault.Resync); refusal != nil {
		return nil // a test failover is open, or it is paused: what it takes stands there
	}
	k.log.Info("an item is resynchronized by itself", "item", it.ID)
	_, err = (&recoveries{k.workshop}).Act(vault.WithCaller(ctx, itself()), vault.ActionRequest{Item: it.ID, Action: vault.Resync})
	return err
}

// itself is the vault as a caller.
func itself() vault.Caller { return vault.Caller{Name: "vault", Access: vault.Operator} }

// resyncDue is when the vault may resynchronize an item again. It is read from the jobs
// that are kept: a restart forgets nothing.
func (k *keeper) resyncDue(ctx context.Context, it vault.Item) (due time.Time, err error) {
	var newest time.Time
	pause := resyncPause / 2
	for j, err := range k.store.Jobs.All(ctx, vault.Query{Item: string(it.ID)}) {
		if err != nil {
			return due, err
		}
		if j.Action != vault.Resync || j.Caller != itself().Name || k.now().Sub(j.Ended) > resyncMemory {
			continue
		}
		if j.Ended.After(newest) {
			newest = j.Ended
		}
		pause = min(2*pause, resyncLongest)
	}
	return newest.Add(pause), nil
}
