package service

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// backup is a copy of the store; restore begins a vault with it, and reconciles.
func (r *rig) backup(ctx context.Context) *bytes.Buffer {
	r.t.Helper()
	var b bytes.Buffer
	must(r.t, r.store.Backup(ctx, &b))
	return &b
}

func (r *rig) restore(ctx context.Context, b *bytes.Buffer) vault.Status {
	r.t.Helper()
	r.close()
	r.url = newFile(r.t)
	must(r.t, store.Restore(ctx, store.Config{URL: r.url, Log: slog.New(slog.DiscardHandler), Now: r.clock.now}, b))
	r.open(ctx)
	status, err := r.Reconcile(admin(ctx), true)
	must(r.t, err)
	return status
}

func (r *rig) mayAdopt(ctx context.Context) vault.Plan {
	r.t.Helper()
	p, err := r.Plan(admin(ctx), vault.ActionRequest{Item: "m0", Action: vault.Adopt})
	must(r.t, err)
	return p
}

// A vault that is restored from a backup of before adopts what was done since, and comes
// home from there.
func TestAdopt_RestoredVault(t *testing.T) {
	r, ctx := newProtected(t)
	if p := r.mayAdopt(ctx); p.Allowed || !strings.Contains(p.Why, "what the vault has recorded") {
		t.Fatalf("there is something to adopt: %+v", p)
	}
	old := r.backup(ctx)
	r.do(ctx, "m0", vault.Failover, vault.Input{Shutdown: true})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	newest := *r.stored(ctx).Record
	status := r.restore(ctx, old)
	if len(status.Moved) != 1 || !r.alerted(ctx, "generation-foreign") {
		t.Fatalf("moved: %v", status.Moved)
	}
	p := r.mayAdopt(ctx)
	if a := p.Adoption; !p.Allowed || a == nil || !strings.HasPrefix(a.Recorded, "protected: runs at home") || !strings.HasPrefix(a.Found, "protected: runs at away") || len(a.Changes) == 0 {
		t.Fatalf("the plan: %+v", p)
	}
	_, err := r.Act(as(ctx, vault.Reader), vault.ActionRequest{Item: "m0", Action: vault.Adopt})
	kind(t, err, homeward.Forbidden, "")
	guest := r.w.Away.Hyper.Guest("m0")
	j := r.do(ctx, "m0", vault.Adopt, vault.Input{})
	var told recovery.Adoption
	must(t, json.Unmarshal(j.Took, &told))
	if told.Found != p.Adoption.Found || len(j.Tasks[1].Children) < 6 {
		t.Errorf("%+v\n%s", told, tree(j))
	}
	if r.w.Away.Hyper.Guest("m0") != guest {
		t.Error("the machine was touched")
	}
	r.is(ctx, "m0", vault.Protected, "away")
	if now := r.stored(ctx).Record; now.Generation != newest.Generation || now.Base != newest.Base || now.Refs["away"].Native != newest.Refs["away"].Native {
		t.Errorf("adopted %+v\nit was %+v", now, newest)
	}
	r.until(ctx, "the end of the alert", func() bool { return !r.alerted(ctx, "generation-foreign") })
	r.do(ctx, "m0", vault.FailbackAction, vault.Input{})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "home")
}

func (r *rig) stored(ctx context.Context) vault.Item {
	r.t.Helper()
	it, err := r.store.Items.Get(ctx, "m0")
	must(r.t, err)
	return it
}

// No generation was raised since the backup: what the nodes say tells all the same.
func TestAdopt_SameGeneration(t *testing.T) {
	r, ctx := newProtected(t)
	r.do(ctx, "m0", vault.Failover, vault.Input{Shutdown: true})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	old := r.backup(ctx)
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.restore(ctx, old)
	r.is(ctx, "m0", vault.Committed, "away")
	r.until(ctx, "the alert", func() bool { return r.alerted(ctx, "state-foreign") })
	r.do(ctx, "m0", vault.Adopt, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "away")
	r.until(ctx, "the end of the alert", func() bool { return !r.alerted(ctx, "state-foreign") })
}

// Somebody has failed the item over with nothing else alive. What cannot be asked is
// passed over by force, and a machine that is on where it left is not.
func TestAdopt_BreakGlass(t *testing.T) {
	r, ctx := newProtected(t)
	foreign := r.reported(ctx, "away").Next()
	r.close()
	_, err := r.side("mt-away").Target.FailOver(ctx, homeward.FailOverRequest{Item: "m0", Generation: foreign})
	must(t, err)
	r.open(ctx)
	request := vault.ActionRequest{Item: "m0", Action: vault.Adopt}
	_, err = r.Act(admin(ctx), request)
	kind(t, err, homeward.Conflict, "is on at home")
	_, err = r.w.Home.Hyper.PowerOff(ctx, "off", homeward.Ref{Native: "m0"}, homeward.Stop{})
	must(t, err)
	r.sites["home"].leave(true)
	_, err = r.Act(admin(ctx), request)
	kind(t, err, homeward.Unavailable, "home")
	r.do(ctx, "m0", vault.Adopt, vault.Input{Force: true})
	r.is(ctx, "m0", vault.FailedOver, "away")
	if g := r.stored(ctx).Record.Generation; g != foreign {
		t.Errorf("generation %v, not %v", g, foreign)
	}
	r.do(ctx, "m0", vault.Failover, vault.Input{}) // which goes on: the home site is not asked
	if r.w.Away.Hyper.Guest("m0") == nil {
		t.Fatal("the machine does not run")
	}
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.sites["home"].leave(false)
	r.do(ctx, "m0", vault.Reprotect, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "away")
}

// A backup of amid a synchronization, or one that was taken after: who waits for the
// first point then is a job again.
func TestAdopt_Synchronizing(t *testing.T) {
	r, ctx := newProtected(t)
	old := r.backup(ctx)
	r.do(ctx, "m0", vault.Failover, vault.Input{Shutdown: true})
	r.do(ctx, "m0", vault.Commit, vault.Input{})
	r.close()
	it := r.w.Items[0] // by another vault, which came to an end then
	original, err := r.stateOf(ctx)
	must(t, err)
	loaded, err := recovery.Load(original, it.Running, it.Standby, it.Log)
	must(t, err)
	must(t, second(loaded.Reverse(ctx)))
	r.url = newFile(t)
	must(t, store.Restore(ctx, store.Config{URL: r.url, Log: slog.New(slog.DiscardHandler), Now: r.clock.now}, old))
	r.open(ctx)
	_, err = r.Reconcile(admin(ctx), true)
	must(t, err)
	r.do(ctx, "m0", vault.Adopt, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "away")
}

func second[T any](_ T, err error) error { return err }

// stateOf is the item's record in the store of a vault that is closed.
func (r *rig) stateOf(ctx context.Context) (recovery.Record, error) {
	s, err := store.Open(ctx, store.Config{URL: r.url, Log: slog.New(slog.DiscardHandler), Now: r.clock.now})
	if err != nil {
		return recovery.Record{}, err
	}
	it, err := s.Items.Get(ctx, "m0")
	if err != nil {
		return recovery.Record{}, err
	}
	return *it.Record, s.Close()
}

// Another vault led the replica to another master target after the backup, and came to an
// end before the old one was told to let go: the one that the agent ships to is adopted.
func TestAdopt_OtherMasterTarget(t *testing.T) {
	r, ctx := newTwoTargets(t)
	old := r.backup(ctx)
	r.close()
	it := r.w.Items[0]
	record, err := r.stateOf(ctx)
	must(t, err)
	loaded, err := recovery.Load(record, it.Running, it.Standby, it.Log)
	must(t, err)
	to := r.w.Site(it.Standby).SpareSide(it.Machine)
	must(t, second(loaded.Reassociate(ctx, to, recovery.ReassociateRequest{})))
	must(t, loaded.AwaitReassociated(ctx))
	r.url = newFile(t)
	must(t, store.Restore(ctx, store.Config{URL: r.url, Log: slog.New(slog.DiscardHandler), Now: r.clock.now}, old))
	r.open(ctx)
	_, err = r.Reconcile(admin(ctx), true)
	must(t, err)
	r.do(ctx, "m0", vault.Adopt, vault.Input{})
	r.is(ctx, "m0", vault.Protected, "home")
	if end := r.stored(ctx).Recovery; end.MasterTarget != "mt-2-away" || end.Disks[0] != loaded.Moved["away"][0] {
		t.Errorf("its replica is at %s on %v", end.MasterTarget, end.Disks)
	}
	j, err := r.Prove(admin(ctx), "m0")
	must(t, err)
	r.wait(ctx, j.ID)
}
