package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

const sector = 512

// sectorDisk writes sector by sector, in no hurry, so that whoever reads amid a
// write sees a part of it; and it can be told to stop in the middle.
type sectorDisk struct {
	*block.Memory
	locks [64]sync.Mutex
	mu    sync.Mutex
	stop  chan struct{} // not nil: some writes wait here halfway
	rng   *rand.Rand
}

func (d *sectorDisk) each(off, n int64, do func(off, n int64) error) error {
	for end := off + n; off < end; off += sector {
		d.mu.Lock()
		stop := d.stop
		if stop != nil && d.rng.IntN(20) > 0 {
			stop = nil
		}
		d.mu.Unlock()
		if stop != nil {
			<-stop
		}
		l := &d.locks[off/sector%64]
		l.Lock()
		err := do(off, min(sector, end-off))
		l.Unlock()
		if err != nil {
			return err
		}
		runtime.Gosched()
	}
	return nil
}

func (d *sectorDisk) WriteAt(p []byte, off int64) (int, error) {
	return len(p), d.each(off, int64(len(p)), func(at, n int64) error {
		_, err := d.Memory.WriteAt(p[at-off:at-off+n], at)
		return err
	})
}

func (d *sectorDisk) Zero(off, n int64, _ bool) error {
	return d.each(off, n, func(at, n int64) error { return d.Memory.Zero(at, n, false) })
}

// history is who wrote what when, by a clock that ticks at each begin and end.
type history struct {
	mu    sync.Mutex
	clock int64
	disks [][][]*written // by disk and sector
	byID  map[uint64]*written
}

type written struct {
	id         uint64 // 0: zeroes
	begin, end int64  // end 0: not yet
}

func newHistory(sectors ...int64) *history {
	h := &history{byID: map[uint64]*written{}}
	for _, n := range sectors {
		d := make([][]*written, n)
		for i := range d {
			d[i] = []*written{{begin: -1, end: -1}}
		}
		h.disks = append(h.disks, d)
	}
	return h
}

func (h *history) now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

func (h *history) begin(disk int, first, n int64, id uint64) *written {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	w := &written{id: id, begin: h.clock}
	if id != 0 {
		h.byID[id] = w
	}
	for s := first; s < first+n; s++ {
		h.disks[disk][s] = append(h.disks[disk][s], w)
	}
	return w
}

func (h *history) end(w *written) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	w.end = h.clock
}

// hides reports whether v, complete by limit, must be seen instead of w.
func hides(v, w *written, limit int64) bool {
	return w.end != 0 && v.begin > w.end && v.end != 0 && v.end < limit
}

// judge holds the content of all disks against the history: it must be the state
// after some prefix of completed writes plus any sectors of writes in flight, and
// that prefix has all that completed before from and nothing that began after to.
func (h *history) judge(t *testing.T, from, to int64, content [][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	limit := from // whatever completed before something that is seen began must be seen too
	seen := func(disk int, s int) uint64 { return binary.LittleEndian.Uint64(content[disk][s*sector:]) }
	for disk := range h.disks {
		for s := range h.disks[disk] {
			id := seen(disk, s)
			if id == 0 {
				continue
			}
			w := h.byID[id]
			if w == nil || w.begin > to {
				t.Fatalf("disk %d sector %d: write %d began after the cut", disk, s, id)
			}
			limit = max(limit, w.begin)
		}
	}
	for disk := range h.disks {
		for s, list := range h.disks[disk] {
			id, ok := seen(disk, s), false
			for _, w := range list {
				if w.id != id || w.begin > to {
					continue
				}
				hidden := false
				for _, v := range list {
					hidden = hidden || hides(v, w, limit)
				}
				ok = ok || !hidden
			}
			if !ok {
				t.Fatalf("disk %d sector %d: write %d is older than a write that completed before %d; the cut was from %d to %d", disk, s, id, limit, from, to)
			}
			h.disks[disk][s] = prune(list, from)
		}
	}
}

// prune drops what no later cut may show.
func prune(list []*written, limit int64) []*written {
	var keep []*written
	for _, w := range list {
		hidden := false
		for _, v := range list {
			hidden = hidden || hides(v, w, limit)
		}
		if !hidden {
			keep = append(keep, w)
		}
	}
	return keep
}

// prefix is the state of one run of the test.
type prefix struct {
	t     *testing.T
	m     *Machine
	h     *history
	disks []*sectorDisk
	ids   func() uint64
	stop  chan struct{}
}

func (p *prefix) put(disk int, first, n int64, zero bool) {
	id := p.ids()
	if zero {
		id = 0
	}
	data := make([]byte, n*sector)
	for at := int64(0); at < n; at++ {
		binary.LittleEndian.PutUint64(data[at*sector:], id)
	}
	w := p.h.begin(disk, first, n, id)
	var err error
	if zero {
		err = p.m.Disk(disk).Zero(first*sector, n*sector, true)
	} else {
		_, err = p.m.Disk(disk).WriteAt(data, first*sector)
	}
	if err != nil {
		p.t.Errorf("write: %v", err)
	}
	p.h.end(w)
}

// writer writes anywhere, over others' writes too, and some pairs that depend:
// the one on the second disk begins when the one on the first is complete.
func (p *prefix) writer(rng *rand.Rand) {
	for {
		select {
		case <-p.stop:
			return
		default:
		}
		switch rng.IntN(8) {
		case 0:
			if err := p.m.Disk(rng.IntN(2)).Flush(); err != nil {
				p.t.Errorf("flush: %v", err)
			}
		case 1, 2:
			p.put(0, rng.Int64N(40), 1, false)
			p.put(1, rng.Int64N(40), 1, false)
		default:
			disk := rng.IntN(2)
			n := 1 + rng.Int64N(20)
			p.put(disk, rng.Int64N(int64(len(p.h.disks[disk]))-n), n, rng.IntN(6) == 0)
		}
	}
}

// hold makes some writes stop halfway; the returned function lets them go on.
func (p *prefix) holdWrites() (release func()) {
	stop := make(chan struct{})
	for _, d := range p.disks {
		d.mu.Lock()
		d.stop = stop
		d.mu.Unlock()
	}
	return func() {
		for _, d := range p.disks {
			d.mu.Lock()
			d.stop = nil
			d.mu.Unlock()
		}
		close(stop)
	}
}

// ship adds the frozen content to the copy, with the guest going on.
func (p *prefix) ship(c *Cut, copies [][]byte, rng *rand.Rand) error {
	for i := range p.disks {
		all := c.Map(i)
		if c.Whole {
			all = block.NewMap(all.Blocks())
			all.Set(0, all.Blocks())
		}
		for run := range all.Runs(0) {
			for run.Count > 0 {
				n := min(run.Count, 1+rng.Int64N(5))
				end := min((run.Start+n)*block.Size, int64(len(copies[i])))
				if err := c.ReadBlocks(i, run.Start, n, copies[i][run.Start*block.Size:end]); err != nil {
					return err
				}
				if rng.IntN(2) == 0 {
					c.Shipped(i, run.Start, n)
				}
				run.Start, run.Count = run.Start+n, run.Count-n
			}
		}
	}
	return nil
}

// Writers write at random to two disks while cuts are made, read and released at
// random: each frozen state is one that a crash of the guest could have left, and
// no cut has a write without those it depends on (I-1, I-2, I-3).
func TestEveryCutIsAPrefix(t *testing.T) {
	rng := powerloss.Rand(t)
	const sectors = 32*8 + 3 // the last block is partial
	p := &prefix{t: t, h: newHistory(sectors, sectors), stop: make(chan struct{})}
	r := newRig(t, 1<<20)
	r.kill()
	r.cfg.Dir, r.cfg.HoldDeadline, r.cfg.Disks = "/other", 2*time.Millisecond, nil
	r.cfg.CacheBytes, r.cfg.SpillBytes = 16*block.Size, 16*block.Size // some copies spill, some cuts are given up
	r.reboot()
	copies := [][]byte{make([]byte, sectors*sector), make([]byte, sectors*sector)}
	for range 2 {
		d := &sectorDisk{Memory: block.NewMemory(sectors * sector), rng: rand.New(rand.NewPCG(rng.Uint64(), 1))}
		p.disks = append(p.disks, d)
		r.cfg.Disks = append(r.cfg.Disks, d)
	}
	var err error
	if r.Machine, err = Open(context.Background(), r.cfg); err != nil {
		t.Fatal(err)
	}
	p.m = r.Machine
	var mu sync.Mutex
	last := uint64(0)
	p.ids = func() uint64 { mu.Lock(); defer mu.Unlock(); last++; return last }
	var writers sync.WaitGroup
	for range 6 {
		seed := rng.Uint64()
		writers.Go(func() { p.writer(rand.New(rand.NewPCG(seed, 2))) })
	}
	finish := sync.OnceFunc(func() { close(p.stop); writers.Wait() })
	defer finish()
	judged, late, demoted := 0, 0, 0
	for range 300 {
		release := func() {}
		if rng.IntN(2) == 0 {
			release = p.holdWrites()
		}
		from := p.h.now()
		c, err := p.m.Cut(context.Background(), CutOptions{Whole: rng.IntN(4) == 0})
		to := p.h.now()
		if err != nil {
			t.Fatal(err)
		}
		go release() // frozen readers wait for them
		if c.Late > 0 {
			late++
		}
		before := [][]byte{append([]byte{}, copies[0]...), append([]byte{}, copies[1]...)}
		if err := p.ship(c, copies, rng); errors.Is(err, ErrDemoted) {
			copies = before
			demoted++
			<-c.Done()
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		p.h.judge(t, from, to, copies)
		judged++
		if err := c.Spooled(); errors.Is(err, ErrDemoted) {
			<-c.Done()
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(10) > 0 {
			r.must(c.Applied())
		} else {
			r.must(p.m.Reship())
		}
	}
	finish()
	t.Logf("%d writes, %d cuts judged, %d of them late, %d given up", last, judged, late, demoted)
	if judged < 50 || late == 0 {
		t.Errorf("judged %d cuts, %d late: too few", judged, late)
	}
	r.must(r.Close(context.Background()))
}
