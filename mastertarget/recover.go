package mastertarget

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/mastertarget/history"
	"github.com/homeward-dr/homeward/mastertarget/overlay"
)

// loadItem reads an item from the retention volume and finishes what a crash cut
// off. What is wrong with the item becomes its fault: it is listed all the same. An
// item that takes the place of another one shares its fence, which callers may hold.
func loadItem(ctx context.Context, e *env, id homeward.ItemID, f *fence) *item {
	at, err := e.placeOf(id)
	it := newItem(e, id, at)
	it.fence = f
	if err != nil {
		it.away = err
	}
	err = errors.Join(recoverer{it}.loadFence(), err)
	if err == nil {
		err = recoverer{it}.loadRecords()
	}
	if err == nil && it.rec.State != "" {
		err = it.reopen(ctx)
	}
	if err != nil {
		it.fault = err
	}
	return it
}

// recoverer opens an item and finishes what a crash cut off.
type recoverer struct{ *item }

// loadFence reads the generation in force, which is in the target's own directory
// whatever volume the item is on.
func (it recoverer) loadFence() error {
	if it.fence != nil {
		return nil
	}
	err := durable.SweepTemps(it.FS, it.home(it.id, ""))
	var fenceErr error
	it.fence, fenceErr = openFence(it.FS, it.home(it.id, "fence"), it.id)
	return errors.Join(err, fenceErr)
}

// loadRecords reads pins and record; a file that is absent was never written.
func (it recoverer) loadRecords() (err error) {
	sweepErr := durable.SweepTemps(it.FS, it.dir)
	it.pins, err = openPins(it.FS, it.path("pins"))
	if err == nil {
		err = durable.ReadJSON(it.FS, it.path("item"), &it.rec)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(sweepErr, err)
}

// reopen opens the replica anew and brings it to what its records say. The
// caller holds the turn, or nobody knows the item yet.
func (it *item) reopen(ctx context.Context) error {
	if err := (recoverer{it}).openReplica(ctx); err != nil {
		return err
	}
	if err := (recoverer{it}).finish(ctx); err != nil {
		it.change(func() { it.fault = err })
		return err
	}
	return nil
}

// openReplica opens what the record names. A merge that runs is ended first: it
// would replace files that the new chain counts on.
func (it recoverer) openReplica(ctx context.Context) error {
	it.quiet()
	defer it.thinning.Unlock()
	if err := it.shut(ctx); err != nil {
		return err
	}
	rec := it.state().record
	disks, err := openDisks(ctx, it.Openers, rec.Leg.Machine, rec.Leg.Disks, false)
	if err != nil {
		return err
	}
	r := &replica{disks: disks}
	t, err := it.openHistory(ctx, r, rec)
	if err != nil {
		return errors.Join(err, r.close())
	}
	it.change(func() { it.replica, it.tip, it.fault, it.paused = r, t, nil, nil })
	return nil
}

// openHistory opens cell, chain and past.
func (it recoverer) openHistory(ctx context.Context, r *replica, rec record) (t tip, err error) {
	if r.cell, t, err = openTip(it.FS, it.path("position")); err != nil {
		return t, err
	}
	loaded, err := history.Load(it.FS, it.path("undo"), t.Boundary, it.files, it.holds)
	if err != nil {
		return t, err
	}
	r.chain, r.lost = loaded.Chain, loaded.Lost
	r.pastLost.Store(rec.PastLost != "")
	runs := rec.State == homeward.ReplicaPromoting || rec.State == homeward.ReplicaPromoted
	if !(runs && rec.PastLost == "" || rec.Leg.Seal && rec.Leg.Boundary > t.Boundary) {
		return t, nil
	}
	r.past, err = openStores(it.FS, it.path("past"), "", len(r.disks))
	if err == nil {
		r.chain.SetLast(r.past)
	}
	return t, err
}

// openStores opens an overlay store for each disk.
func openStores(fsys durable.FS, dir, boot string, disks int) (stores []*overlay.Store, err error) {
	for i := range disks {
		s, err := overlay.Open(fsys, storePath(dir, i), boot)
		if err != nil {
			return nil, errors.Join(err, pastLayer(stores).close())
		}
		stores = append(stores, s)
	}
	return stores, nil
}

// createStores makes one for each disk, empty.
func createStores(fsys durable.FS, dir string, disks []*pointDisk) error {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i, d := range disks {
		if err := overlay.Create(fsys, storePath(dir, i), d.Size()); err != nil {
			return err
		}
	}
	return nil
}

func storePath(dir string, disk int) string { return fmt.Sprintf("%s/%d", dir, disk) }

// finish goes on with the step that the records say is under way, and serves the
// machine that runs on this copy. Every step may be repeated.
func (it recoverer) finish(ctx context.Context) error {
	st := it.state()
	switch {
	case st.Leg.Boundary > st.tip.Boundary:
		if err := (preparer{it.item}).finishPrepare(ctx); err != nil {
			return err
		}
	case st.RollBack != nil:
		if err := (reverser{it.item}).finishRollBack(ctx); err != nil {
			return err
		}
	case st.State == homeward.ReplicaPromoted:
		if err := (promoter{it.item}).finishPromote(ctx); err != nil {
			return err
		}
	case st.State == homeward.ReplicaReplicating:
		if err := it.undoHot(ctx); err != nil {
			return err
		}
	case st.State == homeward.ReplicaFailedOver:
		if err := it.undoHot(ctx); err != nil { // the machine runs all the same: the chain has what its view needs
			it.Log.Warn("replica cannot be mended", "item", it.id, "err", err)
		}
	}
	if st.State == homeward.ReplicaReplicating {
		return it.sweep()
	}
	if err := (takeover{it.item}).serveFailOver(ctx); err != nil {
		return err
	}
	if st.State == homeward.ReplicaPromoting {
		promoter{it.item}.startPromotion()
	}
	return it.sweep()
}

// mend reopens a replica that stopped in the midst of a delta. If it cannot be, the
// chain still has what its points need.
func (it *item) mend(ctx context.Context) {
	st := it.state()
	if st.fault == nil || st.State != homeward.ReplicaReplicating {
		return
	}
	if err := it.reopen(ctx); err != nil {
		it.Log.Warn("replica cannot be mended", "item", it.id, "err", err)
	}
}

// undoHot rolls back the step whose commit did not happen. Its undo holds what
// the blocks were before, whichever of them were overwritten: I-9. New bytes can
// never be journalled as old ones, for nothing is applied before this is done.
func (it recoverer) undoHot(ctx context.Context) error {
	st := it.state()
	segments := st.replica.chain.Segments()
	if n := len(segments); n == 0 || segments[n-1].Newer <= st.tip.Boundary {
		return nil
	}
	if err := st.replica.takeBack(ctx, st.tip.Boundary, func(int64) {}); err != nil {
		return homeward.Wrap(err, "roll back an unfinished delta", it.subject())
	}
	return st.replica.chain.DropNewer(st.tip.Boundary)
}

// sweep removes what no record names: scratch overlays, and maps and overlays of
// a step that did not come to be recorded, or that is over.
func (it *item) sweep() error {
	st := it.state()
	keep := map[string]bool{"undo": true}
	if st.FailOver != nil {
		keep[overlayDir(st.FailOver.Generation)] = st.State != homeward.ReplicaPromoted
		keep["past"] = st.State != homeward.ReplicaFailedOver && st.PastLost == ""
	}
	for _, d := range []*divergence{st.Diverged, st.RolledBack} {
		if d != nil {
			keep[d.Dir] = true
		}
	}
	entries, err := it.FS.ReadDir(it.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), "-")
		ours := name == "overlay" || name == "diverged" || name == "past" || name == "scratch"
		if e.IsDir() && ours && !keep[e.Name()] {
			if err := removeDir(it.FS, it.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeDir removes a directory of plain files, durably.
func removeDir(fsys durable.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err == nil {
			err = fsys.Remove(dir + "/" + e.Name())
		}
	}
	if err != nil {
		return err
	}
	return durable.Remove(fsys, dir)
}

// shut closes views and replica; what is stored stays.
func (it *item) shut(ctx context.Context) error {
	err := it.closeViews(ctx, func(*view) bool { return true })
	was := it.state().replica
	it.change(func() { it.replica = nil })
	it.trees.drop(it)
	if was != nil {
		err = errors.Join(err, was.close())
	}
	return err
}
