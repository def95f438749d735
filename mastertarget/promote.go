package mastertarget

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/mastertarget/overlay"
)

// promotion is the making of a view the replica, in the background. It goes
// through every disk from its start: what the overlay holds is copied into the
// replica (its content at the point goes to the past before), what deltas after
// the point overwrote is taken back. The machine runs on: its writes go to the
// overlay, and behind the place that is reached also to the replica.
//
// The overlay is authoritative until the record says promoted. So a crash at any
// moment loses nothing, and the promotion begins anew.
type promotion struct {
	progress
	cancel context.CancelFunc
	done   chan struct{}

	mu  sync.Mutex
	err error // why it stopped; the next Promote begins it again
}

func (p *promotion) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// promoter makes the view that runs the replica.
type promoter struct{ *item }

// promote starts the promotion, or finds it running, ended or done.
func (it promoter) promote(ctx context.Context, g homeward.Generation) error {
	const op = "promote view"
	if err := it.take(ctx, op); err != nil {
		return err
	}
	defer it.give()
	st, err := it.open(op)
	if err != nil {
		return err
	}
	if err := it.fence.check(op, g); err != nil {
		return err
	}
	if st.State != homeward.ReplicaPromoted && st.fault != nil {
		return st.fault // what runs is not served, or the chain cannot tell what it rests on
	}
	switch st.State {
	case homeward.ReplicaPromoted:
		return nil
	case homeward.ReplicaPromoting:
		it.startPromotion()
		return nil
	case homeward.ReplicaReplicating:
		return homeward.Errorf(op, homeward.Conflict, it.subject(), "fail over first", "no view of it runs")
	}
	if names := it.pins.after(st.FailOver.Tip.Boundary); len(names) > 0 {
		return homeward.Errorf(op, homeward.InUse, it.subject(), "unpin these, and close their views: promoting ends every point after the one that runs",
			"newer points are held by %q", names)
	}
	if err := it.fence.raise(op, g); err != nil {
		return err
	}
	if err := it.beginPromotion(ctx, op, st); err != nil {
		return err
	}
	it.startPromotion()
	return nil
}

// beginPromotion persists what is given up (I-0), makes the past, empty, and
// records the promotion.
func (it promoter) beginPromotion(ctx context.Context, op string, st state) error {
	r := st.replica
	d, err := divergences{it.item}.keep(ctx, st, st.FailOver.Generation, st.FailOver.Tip)
	if err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	if err := createStores(it.FS, it.path("past"), r.pointDisks(st.FailOver.Tip.Machine, st.FailOver.Tip.Boundary)); err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	past, err := openStores(it.FS, it.path("past"), "", len(r.disks))
	if err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	if err := it.update(op, func(r *record) { r.State, r.Diverged = homeward.ReplicaPromoting, d }); err != nil {
		return errors.Join(err, pastLayer(past).close())
	}
	r.past = past
	r.chain.SetLast(r.past)
	it.trees.drop(it.item)
	it.change(func() { it.promo = nil }) // that of an earlier failover has ended
	return nil
}

// startPromotion starts the work unless it runs. The caller holds the turn.
func (it promoter) startPromotion() {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.work.idle || it.promo != nil && it.promo.failed() == nil {
		return
	}
	p := &promotion{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(it.work.ctx)
	p.cancel = cancel
	it.promo = p
	it.work.start(func(context.Context) {
		defer close(p.done)
		defer cancel()
		if err := it.runPromotion(ctx, p); err != nil {
			if ctx.Err() == nil {
				it.Log.Error("promotion stopped", "item", it.id, "err", err)
			}
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
		}
	})
}

// stopPromotion ends the work that is running, if any.
func (it promoter) stopPromotion() error {
	it.mu.Lock()
	p := it.promo
	it.promo = nil
	it.mu.Unlock()
	if p != nil {
		p.cancel()
		<-p.done
	}
	return nil
}

func (it promoter) runPromotion(ctx context.Context, p *promotion) error {
	st := it.state()
	disks, err := overlays(it.view(failOverView))
	if err != nil {
		return err
	}
	after := make([]*block.Map, len(disks))
	total := int64(0)
	for i, d := range disks {
		after[i] = block.NewMap(block.BlocksOf(st.replica.disks[i].Size()))
		if err := st.replica.chain.Since(ctx, i, st.FailOver.Tip.Boundary, after[i]); err != nil {
			return err
		}
		total += d.Store().Bytes() + after[i].Count()*block.Size
	}
	p.begin(total, it.now())
	guards := it.guards(st)
	for i, d := range disks {
		d.Mirror(guards[i])
		if err := p.promoteDisk(ctx, st, d, guards[i], i, after[i]); err != nil {
			return err
		}
		if err := st.replica.disks[i].Flush(); err != nil { // most of it, while the machine is not held
			return err
		}
	}
	return it.becomeReplica(ctx, disks, guards)
}

// guards are the replica's disks as a machine may write to them.
func (it promoter) guards(st state) (list []*guard) {
	for i, point := range st.replica.pointDisks(st.FailOver.Tip.Machine, st.FailOver.Tip.Boundary) {
		var past *overlay.Store
		if i < len(st.replica.past) {
			past = st.replica.past[i]
		}
		list = append(list, newGuard(st.replica.disks[i], point, past, it.losePast))
	}
	return list
}

// stretchBlocks is how far ahead a promotion keeps what it will overwrite: 64 MiB,
// a multiple of windowBlocks, for one pair of flushes.
const stretchBlocks = 64 << 20 / block.Size

// promoteDisk brings one disk of the replica to what the view shows.
func (p *promotion) promoteDisk(ctx context.Context, st state, d *overlay.Disk, g *guard, disk int, after *block.Map) error {
	held := d.Store().Held()
	blocks := after.Blocks()
	for start := int64(0); start < blocks; start += windowBlocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if start%stretchBlocks == 0 {
			if err := g.keepBlocks(start, min(start+stretchBlocks, held.Blocks()), held); err != nil {
				return err
			}
		}
		w := block.Run{Start: start, Count: min(windowBlocks, blocks-start)}
		err := d.Cover(w, func() error {
			if after.HasAny(w.Start, w.Count) {
				if err := st.replica.takeBackRun(disk, st.FailOver.Tip.Boundary, w, held); err != nil {
					return err
				}
				p.add(after.CountRange(w.Start, w.Count) * block.Size)
			}
			in := block.Run{Start: w.Start, Count: min(w.Count, held.Blocks()-w.Start)}
			if in.Count <= 0 {
				return nil
			}
			return d.Store().ReadBlocks(in.Start, in.Count, func(b int64, data []byte) error {
				p.add(int64(len(data)))
				return writeOrZero(g, data, b*block.Size)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// becomeReplica is the moment at which the view becomes the replica: with the
// machine's requests held, for as long as two flushes take.
func (it promoter) becomeReplica(ctx context.Context, disks []*overlay.Disk, guards []*guard) error {
	const op = "promote view"
	if err := it.take(ctx, op); err != nil {
		return err
	}
	defer it.give()
	for _, d := range disks {
		d.Pause()
	}
	err := it.state().replica.flush()
	for _, d := range disks {
		err = errors.Join(err, d.Mirrored())
	}
	if err == nil {
		err = it.update(op, func(r *record) { r.State = homeward.ReplicaPromoted; r.endLegAt(r.FailOver.Tip.Boundary) })
	}
	for i, d := range disks {
		if err != nil {
			d.Resume(nil)
		} else {
			d.Resume(guards[i])
		}
	}
	if err != nil {
		return err
	}
	return it.finishPromote(ctx)
}

// finishPromote clears up behind a promotion that the record says is done.
func (it promoter) finishPromote(context.Context) error {
	const op = "promote view"
	st := it.state()
	it.quiet()
	defer it.thinning.Unlock()
	t := st.FailOver.Tip
	if st.tip.Boundary != t.Boundary {
		if err := st.replica.cell.store(t); err != nil {
			return it.fail(op, err)
		}
		it.change(func() { it.tip = t })
	}
	if err := st.replica.chain.DropNewer(t.Boundary); err != nil {
		return homeward.Wrap(err, op, it.subject())
	}
	if v := it.view(failOverView); v != nil { // whose disks go straight to the replica now
		for _, s := range v.stores {
			if err := s.Close(); err != nil {
				return homeward.Wrap(err, op, it.subject())
			}
		}
		it.change(func() { v.stores = nil })
	}
	return it.sweep()
}

// servePromoted exports the replica's disks to the machine that runs on them.
func (it promoter) servePromoted(ctx context.Context, v *view, st state) error {
	v.Machine = st.FailOver.Tip.Machine
	var err error
	for i, g := range it.guards(st) {
		v.disks = append(v.disks, g)
		if err == nil {
			err = stage{it.item}.export(v, i)
		}
	}
	if err != nil {
		return errors.Join(err, it.dismantle(ctx, v))
	}
	it.change(func() { it.views[v.Name] = v })
	return nil
}

// losePast decides when the past of a promoted replica cannot be kept. The
// machine runs on, and older points go, said aloud; unless somebody holds one of
// them: what people hold never breaks, so then the machine's write fails. A branch
// that Prepare made by itself is not worth that.
func (it promoter) losePast(cause error) error {
	st := it.state()
	held := it.pins.heldByPeople(st.FailOver.Tip.Boundary)
	if held || st.State != homeward.ReplicaPromoted {
		return homeward.Errorf("keep older points", homeward.KindOf(cause), it.subject(),
			"enlarge the retention volume, or unpin its points: the machine's write is refused until then",
			"what the running machine overwrites cannot be kept: %w", cause)
	}
	why := "no room for what the running machine overwrote: " + cause.Error()
	if err := it.update("give up older points", func(r *record) { r.PastLost = why }); err != nil {
		return err
	}
	st.replica.pastLost.Store(true)
	it.Log.Warn("older points given up", "item", it.id, "err", cause)
	return it.sweep() // which frees the room
}

// overlays are the disks of a failed-over view.
func overlays(v *view) (list []*overlay.Disk, err error) {
	if v == nil {
		return nil, homeward.Errorf("promote view", homeward.Conflict, failOverView, "mend what the item's fault names, then promote again", "the view is not served")
	}
	for _, d := range v.disks {
		o, ok := d.(*overlay.Disk)
		if !ok {
			return nil, homeward.Errorf("promote view", homeward.Internal, v.Name, "", "its disks are no overlays")
		}
		list = append(list, o)
	}
	return slices.Clip(list), nil
}
