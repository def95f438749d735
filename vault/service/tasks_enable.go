package service

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

func enablePreflight(ctx context.Context, w *work) error {
	if err := w.takeCorrections(ctx); err != nil {
		return err
	}
	if err := w.placement.check(ctx, "enable", enableWay(w.stored)); err != nil {
		return err
	}
	if w.item.State != recovery.Unprotected {
		return nil
	}
	site, err := w.roles.Site(w.stored.Original.Site)
	if err != nil {
		return err
	}
	ref := w.item.Refs[w.stored.Original.Site]
	m, err := site.Machine(ctx, ref)
	if err != nil {
		return err
	}
	if m.Power == homeward.PowerUnknown {
		return homeward.Errorf("enable", homeward.Unavailable, "machine "+ref.Native, "see at its site why", "its power state is not known")
	}
	return nil
}

// createTarget has the target site make the disks that the replica will be.
func createTarget(ctx context.Context, w *work) error {
	if err := w.takeCorrections(ctx); err != nil {
		return err
	}
	end := w.stored.Recovery
	site, err := w.roles.Site(end.Site)
	if err != nil {
		return err
	}
	for i := len(end.Disks); i < len(w.item.Machine.Disks); i++ {
		d := w.item.Machine.Disks[i]
		name := replicaName(w.id(), d.ID)
		if err := w.artefact(ctx, "disk", end.Site, string(name), "replica of disk "+string(d.ID)+" of item "+string(w.id()), "with-item"); err != nil {
			return err
		}
		d.ID = name
		op, err := w.finish(ctx, site)(site.CreateDisk(ctx, w.diskKey(name), d, end.Datastore))
		if err != nil {
			return err
		}
		if err := w.change(ctx, func(it *vault.Item) { it.Recovery.Disks = append(it.Recovery.Disks, op.Result.Native) }); err != nil {
			return err
		}
		w.run.Child(vault.Task{Name: "create disk " + string(name), Title: "Create disk " + string(name), State: vault.TaskSucceeded})
	}
	return nil
}

// diskKey is that of a replica disk's creation: the same for every try. Sites remember
// keys, so an item that was disabled and is enabled again has others.
func (w *work) diskKey(name homeward.DiskID) string {
	return fmt.Sprintf("replica-%s-%d", name, w.stored.Created.UnixNano())
}

// replicaName is the name of a replica's disk: one site keeps those of many items.
func replicaName(item homeward.ItemID, d homeward.DiskID) homeward.DiskID {
	name := string(item) + "-" + string(d)
	if len(name) > 64 {
		name = scopeOf(string(item), string(d)) + "-" + string(d)[:min(len(d), 40)]
	}
	return homeward.DiskID(name)
}

func enableProtection(ctx context.Context, w *work) error {
	if err := w.takeCorrections(ctx); err != nil {
		return err
	}
	if w.item.State != recovery.Unprotected {
		return nil
	}
	return w.item.Enable(ctx)
}

// startInitial leaves the wait for the first point to a job of its own.
func startInitial(ctx context.Context, w *work) error {
	if w.item.State == recovery.Unprotected {
		return homeward.Errorf("enable", homeward.Internal, "item "+string(w.id()), "run it again", "replication is not enabled")
	}
	return w.await(ctx)
}

// updateProviders has both sites' inventories read, which changed with this job. The
// machine is protected without: a site that is away is read when it returns.
func updateProviders(ctx context.Context, w *work) error {
	for _, site := range []string{w.stored.Original.Site, w.stored.Recovery.Site} {
		if _, err := w.discovery.refresh(ctx, site); err != nil && ctx.Err() == nil {
			return w.run.Skip("the inventory of site " + site + " was not read: " + err.Error())
		}
	}
	return ctx.Err()
}

// await begins the job that ends with the first recovery point.
func (w *work) await(ctx context.Context) error {
	facts := lifecycle.Facts{State: vault.Synchronizing, At: w.asked.Facts.At, Leg: w.asked.Facts.Leg, Doomed: w.item.Doomed != nil}
	input, err := assignment{Facts: facts}.encode()
	if err != nil {
		return err
	}
	_, err = w.run.Begin(ctx, vault.Job{Scenario: lifecycle.ScenarioFirstPoint, Title: "Initial synchronization", Item: w.id(),
		Caller: w.run.Job().Caller, Input: input, Predicted: w.run.Job().Predicted})
	return err
}

// awaitFirstPoint returns when the first point of the leg in force stands and the item's
// nodes were asked about it.
func awaitFirstPoint(ctx context.Context, w *work) error {
	if w.item.Leaving != nil {
		return w.arrive(ctx)
	}
	if err := firstPointStands(ctx, w); err != nil {
		return err
	}
	// Who waited for this job looks at the item next: what its nodes say now is known then.
	it, err := w.store.Items.Get(ctx, string(w.id()))
	if err == nil {
		err = w.monitor.look(ctx, it)
	}
	if err != nil && ctx.Err() == nil {
		w.log.Warn("an item could not be watched; it is tried again", "item", w.id(), "error", err)
	}
	return nil
}

// firstPointStands waits for the first point of the leg in force, and tells what the
// reversal took beside what was predicted.
func firstPointStands(ctx context.Context, w *work) error {
	if w.item.List.Op == "" && w.item.State == recovery.Protected && w.item.Took == nil {
		return nil
	}
	if w.item.List.Op == listProtect || w.item.List.Op == "" && w.item.Took == nil {
		return w.item.AwaitInitial(ctx)
	}
	took, err := w.item.AwaitReverse(ctx)
	if err != nil {
		return err
	}
	told, err := json.Marshal(took)
	if err != nil {
		return homeward.Wrap(err, "tell what it took", "item "+string(w.id()))
	}
	return w.run.Record(func(j *vault.Job) { j.Predicted, j.Took = &took.Estimate, told })
}

// listProtect is recovery's name of the list that Enable begins.
const listProtect = "protect"

// removeReplaced removes what an alternate location left behind, now that the new
// direction is in sync (R169).
func removeReplaced(ctx context.Context, w *work) error {
	if w.item.Doomed == nil {
		return w.run.Skip("nothing was left behind")
	}
	if w.item.Running.Name != w.item.Doomed.Side {
		return w.run.Skip("the machine does not run at " + w.item.Doomed.Side + " yet: what it holds there nobody else has (R169)")
	}
	_, err := w.item.RemoveDoomed(ctx)
	return err
}

// operationEvery is how often a site is asked how far it is.
const operationEvery = 100 * time.Millisecond

// finish waits for an operation of a site.
func (c *core) finish(ctx context.Context, site homeward.Site) func(homeward.Operation, error) (homeward.Operation, error) {
	return func(op homeward.Operation, err error) (homeward.Operation, error) {
		for err == nil && op.State == homeward.OperationRunning {
			if err = pause(ctx, operationEvery); err == nil {
				op, err = site.Operation(ctx, op.ID)
			}
		}
		if err == nil && op.State == homeward.OperationFailed {
			err = homeward.Errorf("operation "+op.ID, homeward.Unavailable, op.Key, op.Remedy, "%s", op.Error)
		}
		return op, err
	}
}
