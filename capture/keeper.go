package capture

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	extentBlocks   = 4096 // 16 MiB
	extentsPerPage = pageBlocks / extentBlocks
	evictBatch     = 64
	tidyEvery      = 30 * time.Second // how often pages with bits that are gone are rewritten
)

// States of an extent; absent: cold.
const (
	extentHot  = 1 << iota // in the durable activity log
	extentUsed             // written since eviction last looked
)

// keeper keeps the map of one disk safe from power loss. Its promise (I-5): each
// bit of the disk's maps is in the durable checkpoint, or its extent is in the
// durable activity log.
type keeper struct {
	d       *disk
	extents []atomic.Uint32
	stale   [checkpointMaps][]atomic.Bool // pages of which the checkpoint has more than it must
	down    atomic.Bool                   // the promise is not kept any more; writes need not wait

	io    sync.Mutex // of both files, and what follows
	saved *checkpoint
	log   *hotLog
	hot   []uint32 // extents in the log
	hand  int      // where eviction looks next
	limit int      // most of them

	mu    sync.Mutex
	want  []uint32      // cold extents that writes wait for
	round chan struct{} // closed when all in want had their turn
	wake  chan struct{}
	stop  chan struct{}
	ended sync.WaitGroup
}

func newKeeper(d *disk, saved *checkpoint, log *hotLog) *keeper {
	k := &keeper{d: d, saved: saved, log: log, limit: d.m.cfg.hotExtents, round: make(chan struct{}), wake: make(chan struct{}, 1), stop: make(chan struct{})}
	k.extents = make([]atomic.Uint32, (d.blocks+extentBlocks-1)/extentBlocks)
	for i := range k.stale {
		k.stale[i] = make([]atomic.Bool, pagesFor(d.blocks))
	}
	return k
}

func (k *keeper) start() { k.ended.Go(k.run) }

// end stops the keeper; waiting writes go on unprotected, so there must be none.
func (k *keeper) end() {
	k.mu.Lock()
	select {
	case <-k.stop:
	default:
		close(k.stop)
	}
	k.mu.Unlock()
	k.ended.Wait()
}

// ready reports whether all extents of a range are hot. The caller marked its
// blocks before: an eviction that does not see the caller's extent in use sees its
// marks, and one whose extent is not hot any more is seen here.
func (k *keeper) ready(start, count int64) bool {
	if k.down.Load() {
		return true
	}
	for e := start / extentBlocks; e <= (start+count-1)/extentBlocks; e++ {
		state := k.extents[e].Load()
		if state == extentHot|extentUsed {
			continue
		}
		if k.extents[e].Or(extentUsed)&extentHot == 0 {
			return false
		}
	}
	return true
}

// warm waits until the cold extents of a range had their turn in the log. The
// caller asks ready again.
func (k *keeper) warm(start, count int64) {
	k.mu.Lock()
	for e := start / extentBlocks; e <= (start+count-1)/extentBlocks; e++ {
		if k.extents[e].Load()&extentHot == 0 {
			k.want = append(k.want, uint32(e))
		}
	}
	round := k.round
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
	select {
	case <-round:
	case <-k.stop: // the caller is refused when it asks again
	}
}

// run is the one goroutine that inserts and evicts.
func (k *keeper) run() {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.wake:
			k.admit()
		case <-tick.C:
			k.tidy()
		case <-k.stop:
			k.admit()
			return
		}
	}
}

// admit makes everything wanted hot: one group commit, whoever comes meanwhile is
// in the next.
func (k *keeper) admit() {
	k.mu.Lock()
	want, round := k.want, k.round
	k.want, k.round = nil, make(chan struct{})
	k.mu.Unlock()
	defer close(round)
	k.io.Lock()
	defer k.io.Unlock()
	for len(want) > 0 && !k.down.Load() {
		n := min(len(want), k.limit/2)
		if err := k.insert(want[:n]); err != nil {
			k.fail("activity log or checkpoint failed", err)
		}
		want = want[n:]
	}
}

func (k *keeper) insert(want []uint32) error {
	var fresh []uint32
	seen := map[uint32]bool{}
	for _, e := range want {
		if k.extents[e].Load()&extentHot == 0 && !seen[e] {
			seen[e] = true
			fresh = append(fresh, e)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if over := len(k.hot) + len(fresh) - k.limit; over > 0 {
		if err := k.evict(max(over, min(evictBatch, k.limit/4))); err != nil {
			return err
		}
	}
	k.hot = append(k.hot, fresh...)
	if err := k.log.store(k.hot); err != nil {
		return err
	}
	for _, e := range fresh {
		k.extents[e].Or(extentHot | extentUsed)
	}
	return nil
}

// evict takes n extents that were not used lately out of the table, after their
// bits are durable. The log without them becomes durable with the next store;
// until then it only has too many.
func (k *keeper) evict(n int) error {
	n = min(n, len(k.hot))
	out := map[uint32]bool{}
	for looked := 0; len(out) < n; looked++ {
		k.hand = (k.hand + 1) % len(k.hot)
		e := k.hot[k.hand]
		state := k.extents[e].Load()
		switch {
		case out[e]:
		case state&extentUsed != 0 && looked < 2*len(k.hot):
			k.extents[e].And(^uint32(extentUsed))
		default: // cold first, then its bits: see ready
			k.extents[e].Store(0)
			out[e] = true
		}
	}
	pages := map[int64]bool{}
	for e := range out {
		pages[int64(e)/extentsPerPage] = true
	}
	for p := range pages {
		if err := k.write(changedMap, p); err != nil {
			return err
		}
	}
	if err := k.saved.sync(); err != nil {
		return err
	}
	left := k.hot[:0]
	for _, e := range k.hot {
		if !out[e] {
			left = append(left, e)
		}
	}
	k.hot = left
	return nil
}

// write puts a page as it is now into the checkpoint. The caller holds k.io, so
// an older state never overwrites a newer one.
func (k *keeper) write(kind int, p int64) error {
	k.stale[kind][p].Store(false)
	return k.saved.write(kind, p, k.d.snapshot(kind, p))
}

// secure makes a map's bits durable now, for blocks that are marked without being
// written: pages in which m has blocks.
func (k *keeper) secure(kind int, pages func(p int64) bool) error {
	k.io.Lock()
	defer k.io.Unlock()
	if k.down.Load() {
		return nil // told already
	}
	err := k.writeWhere(kind, pages)
	if err == nil {
		err = k.saved.sync()
	}
	if err != nil {
		k.fail("checkpoint failed", err)
	}
	return err
}

func (k *keeper) writeWhere(kind int, pages func(p int64) bool) error {
	for p := range k.saved.pages {
		if pages(p) {
			if err := k.write(kind, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// outdate takes bits out of b by do, and has its pages rewritten at leisure.
func (k *keeper) outdate(kind int, b *bitmap, do func()) {
	var pages []int
	for p := range b.pages {
		if b.pages[p].Load() != nil {
			pages = append(pages, p)
		}
	}
	do()
	for _, p := range pages {
		k.stale[kind][p].Store(true)
	}
}

// tidy rewrites stale pages, lest a power loss brings back what was applied long ago.
func (k *keeper) tidy() {
	k.io.Lock()
	defer k.io.Unlock()
	if k.down.Load() {
		return
	}
	for kind := range k.stale {
		if err := k.writeWhere(kind, func(p int64) bool { return k.stale[kind][p].Load() }); err != nil {
			k.fail("checkpoint failed", err)
			return
		}
	}
}

// finish makes the checkpoint exact and the log empty. Nothing may be written to
// the disk any more, or yet.
func (k *keeper) finish() error {
	k.io.Lock()
	defer k.io.Unlock()
	if k.down.Load() {
		return errDown
	}
	for kind := range checkpointMaps {
		err := k.writeWhere(kind, func(p int64) bool { return k.saved.held[kind][p] || k.d.hasPage(kind, p) })
		if err != nil {
			return err
		}
	}
	err := k.saved.sync()
	if err == nil {
		err = k.log.store(nil)
	}
	if err != nil {
		return err
	}
	k.hot = nil
	for e := range k.extents {
		k.extents[e].Store(0)
	}
	return nil
}

// fail gives the promise up, durably and loudly; the guest goes on. The caller
// holds k.io.
func (k *keeper) fail(what string, err error) {
	k.d.distrust(what, err)
	k.down.Store(true)
}

// giveUp is fail for those who do not hold k.io.
func (k *keeper) giveUp(what string, err error) {
	k.io.Lock()
	defer k.io.Unlock()
	k.fail(what, err)
}

func (k *keeper) close() {
	// They hold nothing that was not synced: what closing says changes nothing.
	if k.saved != nil {
		_ = k.saved.file.Close()
	}
	if k.log != nil {
		_ = k.log.file.Close()
	}
}
