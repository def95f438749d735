package service

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// keeper looks after what no job does: test failovers that have run out, copies that
// were powered on, generations that somebody else has raised, policies and priorities
// that nodes do not follow yet, agents that lost track of writes. It keeps no timers: what
// is due is found in the store, also after a restart.
type keeper struct {
	*workshop
	resumed bool // jobs that were cut short were taken up
}

// resume takes up the jobs that were cut short. Those of a restored vault wait until it
// is reconciled: what they would do next was meant for the day of the backup.
func (k *keeper) resume(ctx context.Context) error {
	why, err := k.readOnly(ctx)
	if err != nil || why != "" || k.resumed {
		return err
	}
	if err := k.engine.Resume(ctx); err != nil {
		return err
	}
	k.resumed = true
	return nil
}

func (k *keeper) run(ctx context.Context) {
	every(ctx, k.rhythm.Expiry, k.trouble("look after items"), func(ctx context.Context) error {
		if err := k.resume(ctx); err != nil || !k.resumed {
			return err
		}
		why, err := k.readOnly(ctx)
		if err != nil || why != "" {
			return err
		}
		if err := k.suggest(ctx); err != nil {
			return err
		}
		for it, err := range k.store.Items.All(ctx, vault.Query{}) {
			if err != nil {
				return err
			}
			if err := k.weigh(ctx, it); err != nil && ctx.Err() == nil {
				return err
			}
			if it.Record == nil || it.Job != "" {
				continue
			}
			if err := k.tend(ctx, it); err != nil && ctx.Err() == nil {
				k.log.Info("an item could not be looked after", "item", it.ID, "error", err)
			}
		}
		return nil
	})
}

func (k *keeper) tend(ctx context.Context, it vault.Item) error {
	left := it.Test.State == vault.TestOpen || it.Test.State == vault.TestClosing // by a clean-up that failed
	if err := k.alerts.settle(ctx, fromKeeper, "item "+string(it.ID), overdue(it, left, k.now())...); err != nil {
		return err
	}
	if left && !it.Test.Expires.IsZero() && k.now().After(it.Test.Expires) {
		return k.expire(ctx, it)
	}
	return k.look(ctx, it.ID)
}

// overdue tells of a test failover that the vault could not clean up.
func overdue(it vault.Item, left bool, now time.Time) []vault.Alert {
	if !left || it.Test.Expires.IsZero() || now.Sub(it.Test.Expires) < expireAgain {
		return nil
	}
	return []vault.Alert{{Code: "test-overdue", Severity: vault.SeverityWarning,
		Text:   fmt.Sprintf("its test failover ran out at %s and could not be cleaned up; the vault goes on trying", it.Test.Expires.UTC().Format(time.RFC3339)),
		Remedy: "see why its clean-up failed with 'homeward job list --item " + string(it.ID) + "'"}}
}

// look owns an item while it is looked at, unless somebody has something to do with it:
// then it leaves at once.
func (k *keeper) look(ctx context.Context, id homeward.ItemID) error {
	ctx, release, free := k.owners.tryClaim(ctx, id)
	if !free {
		return nil
	}
	defer release()
	it, err := k.store.Items.Get(ctx, string(id)) // as it is now
	if err != nil || it.Job != "" || it.Record == nil {
		return err
	}
	if it, err = k.rename(ctx, it); err != nil {
		return err
	}
	foreign, err := k.alerts.learn(ctx, it, k.registry.MaxGeneration(it.ID))
	if err != nil || foreign { // where the machine runs is not known: what is taken for a copy may be the machine
		return err
	}
	if err := k.fence(ctx, it); err != nil {
		return err
	}
	if err := k.clear(ctx, it); err != nil {
		return err
	}
	if err := k.repolicy(ctx, it); err != nil {
		return err
	}
	return k.resync(ctx, it)
}

// rename lets a record know a machine by the name that its site has for it now, where
// the inventory has found it under the same UUID: by the old one the site would say that
// there is none, and nobody would power it off.
func (k *keeper) rename(ctx context.Context, it vault.Item) (vault.Item, error) {
	for site, ref := range it.Record.Refs {
		_, err := k.store.Machines.Get(ctx, machineID(site, ref))
		if ref.UUID == "" || homeward.KindOf(err) != homeward.NotFound {
			if err != nil && homeward.KindOf(err) != homeward.NotFound {
				return it, err
			}
			continue
		}
		now, err := k.byUUID(ctx, site, ref.UUID)
		if err != nil || now.UUID == "" {
			return it, err
		}
		it, err = k.store.Items.Change(ctx, string(it.ID), func(it *vault.Item) error {
			r := *it.Record
			r.Refs = maps.Clone(r.Refs)
			r.Refs[site] = now
			follow(it, r)
			return nil
		})
		if err != nil {
			return it, err
		}
	}
	return it, nil
}

// byUUID is the one machine of a UUID that a site lists; zero: there is none.
func (k *keeper) byUUID(ctx context.Context, site, uuid string) (found homeward.Ref, err error) {
	for m, err := range k.store.Machines.All(ctx, vault.Query{Site: site}) {
		switch {
		case err != nil:
			return found, err
		case m.Presence != vault.Present || m.Found.Ref.UUID != uuid:
		case found.UUID != "":
			return homeward.Ref{}, homeward.Errorf("follow machine", homeward.Conflict, "site "+site, "give each machine a UUID of its own", "several machines have UUID %s", uuid)
		default:
			found = m.Found.Ref
		}
	}
	return found, nil
}

// suggest says, of a process server or master target that is away, where its items
// could go instead. Nothing moves by itself.
func (k *keeper) suggest(ctx context.Context) error {
	for _, role := range []pki.Role{pki.ProcessServer, pki.MasterTarget} {
		for row, err := range k.store.Nodes.All(ctx, vault.Query{Role: string(role)}) {
			if err != nil {
				return err
			}
			n := k.registry.Live(row)
			var now []vault.Alert
			if n.State == vault.NodeDisconnected || n.State == vault.NodeRevoked {
				if now, err = k.instead(ctx, n); err != nil {
					return err
				}
			}
			if err := k.alerts.settle(ctx, fromKeeper, "node "+n.Name, now...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *keeper) instead(ctx context.Context, n vault.Node) ([]vault.Alert, error) {
	items, err := k.itemsAt(ctx, n)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	a := vault.Alert{Code: "items-without-" + string(n.Role), Severity: vault.SeverityCritical,
		Text: fmt.Sprintf("%d items depend on %s %s, which is %s", len(items), n.Role, n.Name, n.State)}
	others, err := k.placement.nodesOf(ctx, n.Role, n.Site)
	if err != nil {
		return nil, err
	}
	a.Remedy = "start it again, or enrol another one at site " + n.Site
	if n.Role == pki.MasterTarget {
		a.Remedy = "bring it back on its volumes, with the recovery points that it alone holds; or enrol another one at site " + n.Site + " and lead its items there"
	}
	if other := firstReady(others); other != "" && other != n.Name {
		a.Remedy = "start it again, or move its items: 'homeward item reassociate --from " + n.Name + " --to " + other + "'"
		if n.Role == pki.MasterTarget {
			a.Remedy += "; its recovery points go, and everything travels anew: --dry-run tells"
		}
	}
	return []vault.Alert{a}, nil
}

// expire has a test failover cleaned up that stood as long as it may. The vault asks
// in its own name.
func (k *keeper) expire(ctx context.Context, it vault.Item) error {
	key := expiryKey(it, k.now())
	if _, err := k.store.JobByKey(ctx, key); homeward.KindOf(err) != homeward.NotFound {
		return err // it was asked for, and failed
	}
	k.log.Info("a test failover has run out", "item", it.ID, "expired", it.Test.Expires)
	own := vault.WithCaller(ctx, itself())
	_, err := (&recoveries{k.workshop}).Act(own, vault.ActionRequest{Item: it.ID, Action: vault.CleanUpTest, Key: key})
	return err
}

// expiryKey holds spaces, which keys of the API do not: nobody can use it up, and keep
// a test failover from ending.
func expiryKey(it vault.Item, now time.Time) string {
	return fmt.Sprintf("expire %s %d %d", it.ID, it.Test.Expires.UnixNano(), now.Sub(it.Test.Expires)/expireAgain)
}

// expireAgain is how soon a clean-up that failed is tried again.
const expireAgain = 10 * time.Minute

// fence powers off a copy that was powered on while the machine runs at the other
// site, and raises an alarm that stays until the copy is found off (R46).
func (k *keeper) fence(ctx context.Context, stored vault.Item) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	it, err := k.load(ctx, stored)
	if err != nil {
		return err
	}
	m, on, err := it.Intruder(ctx)
	subject := "item " + string(stored.ID)
	if ctx.Err() == nil {
		if told := k.alerts.settle(ctx, fromDoubt, subject, doubt(stored, err)...); told != nil {
			return told
		}
	}
	if err != nil {
		return err // unknown is never off: the alarm stays as it is
	}
	if !on {
		return k.alerts.settle(ctx, fromFence, subject)
	}
	alarm := vault.Alert{Code: "copy-powered-on", Severity: vault.SeverityCritical,
		Text:   fmt.Sprintf("machine %s at site %s was powered on, while the machine runs at %s; the vault powers it off again (R46)", m.Ref.Native, otherSite(stored), stored.ActiveSite),
		Remedy: "find out who started it; what it wrote is compared at the next resync or reprotect"}
	if it.State == recovery.FailedOver { // its failover may yet be cancelled: the site returned with it running
		alarm.Text = fmt.Sprintf("the machine runs twice: as %s at site %s, and failed over at %s; neither is powered off by itself while the failover can be cancelled (R46)",
			m.Ref.Native, otherSite(stored), stored.ActiveSite)
		alarm.Remedy = "keep users off the one that is not wanted, now; then cancel the failover, or commit it and reprotect: that powers the old one off"
		return k.alerts.settle(ctx, fromFence, subject, alarm)
	}
	if err := k.alerts.settle(ctx, fromFence, subject, alarm); err != nil {
		return err
	}
	_, _, err = it.FenceIntruder(ctx)
	return err
}

// doubt tells, after a failover that was not planned, of a machine that may still run at
// the site that was left, and that nobody can be asked about.
func doubt(it vault.Item, unknown error) []vault.Alert {
	r := it.Record
	if unknown == nil || r.Planned || r.Parting.Off || r.State != recovery.FailedOver && r.State != recovery.Committed {
		return nil
	}
	return []vault.Alert{{Code: "old-machine-unknown", Severity: vault.SeverityWarning,
		Text:   fmt.Sprintf("it is not known whether the machine still runs at site %s, which it was failed over from (R46)", otherSite(it)),
		Remedy: "see there that it is off, or keep users off it; when the site returns the vault looks by itself"}}
}
