package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/nbd"
)

// guestWorkers is how many writes a guest has in flight at most.
const guestWorkers = 3

// reattachWithin is how long a guest waits for the agent of its disks to be back.
const reattachWithin = 20 * time.Second

// resumeWithin is how long the agent may take to find the disks behind it.
const resumeWithin = 3 * time.Second

// Guest is a machine that runs: it writes to its disks, never the same sectors at
// once, and notes in its timeline what it was told. Each worker waits for one write
// before it sends the next, on whatever disk: so writes depend on each other.
type Guest struct {
	Timeline *Timeline
	uris     []string
	disks    []*vdisk
	agent    func() *Process // of the site it runs at, as of now
	writes   *writeCounter
	rng      *rand.Rand

	work    sync.WaitGroup
	life    context.Context
	kill    context.CancelFunc
	mu      sync.Mutex // guards what follows
	wake    chan struct{}
	writing bool // whether workers may begin a write
	busy    int  // workers amid a write
	idle    chan struct{}
	taken   []map[int64]bool // by disk: sectors with a write in flight
	done    int64
	err     error // why it crashed
}

// writeCounter numbers the writes of all guests of a world.
type writeCounter struct {
	mu   sync.Mutex
	last uint64
}

func (c *writeCounter) next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	return c.last
}

// vdisk is one disk as a guest has it attached: when the agent is killed, what was
// not answered is sent again to its successor, as QEMU does with reconnect-delay.
type vdisk struct {
	uri   string
	agent func() *Process
	mu    sync.Mutex
	c     *nbd.Client
	p     *Process
}

func (v *vdisk) client(ctx context.Context) (*nbd.Client, *Process, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	until, resumed := time.Now().Add(reattachWithin), time.Now().Add(resumeWithin)
	for v.c == nil || !v.p.Alive() {
		if v.c != nil {
			_ = v.c.Close()
			v.c = nil
		}
		p := v.agent()
		c, err := nbd.Dial(ctx, nbd.ClientOptions{URI: v.uri})
		if err == nil {
			v.c, v.p = c, p
			break
		}
		if k := homeward.KindOf(err); ctx.Err() != nil || time.Now().After(until) || k == homeward.NotFound && p.Alive() && time.Now().After(resumed) {
			return nil, nil, err
		}
		if !pause(ctx, 5*time.Millisecond) {
			return nil, nil, ctx.Err()
		}
	}
	return v.c, v.p, nil
}

// do sends a request until it was answered by a live agent.
func (v *vdisk) do(ctx context.Context, request func(*nbd.Client) error) error {
	for {
		c, p, err := v.client(ctx)
		if err != nil {
			return err
		}
		if err = request(c); err == nil || ctx.Err() != nil {
			return err
		}
		// The connection may break a moment before the death is seen.
		if p.Alive() && homeward.KindOf(err) == homeward.Unavailable {
			select {
			case <-p.died:
			case <-time.After(100 * time.Millisecond):
			}
		}
		if p.Alive() {
			return err
		}
	}
}

func (v *vdisk) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.c != nil {
		_ = v.c.Close()
		v.c = nil
	}
}

// bootGuest attaches the disks and reads them whole. With a timeline it goes on with that.
func bootGuest(ctx context.Context, g *Guest, clock *Clock, before *Timeline, powerLoss bool) (disks []*vdisk, err error) {
	for _, uri := range g.uris {
		disks = append(disks, &vdisk{uri: uri, agent: g.agent})
	}
	contents, err := readAll(ctx, disks)
	if err == nil && before == nil {
		g.Timeline, err = newTimeline(clock, contents)
	} else if err == nil {
		g.Timeline, err = before, before.settle(contents, powerLoss)
	}
	if err != nil {
		for _, d := range disks {
			d.close()
		}
		return nil, fmt.Errorf("boot guest: %w", err)
	}
	return disks, nil
}

func readAll(ctx context.Context, disks []*vdisk) ([][]byte, error) {
	contents := make([][]byte, len(disks))
	for i, d := range disks {
		err := d.do(ctx, func(c *nbd.Client) error {
			contents[i] = make([]byte, c.Size())
			_, err := c.ReadAt(contents[i], 0)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// start lets the workers run; they do not write before Write.
func (g *Guest) start(disks []*vdisk) {
	g.disks = disks
	g.life, g.kill = context.WithCancel(context.Background())
	g.wake = make(chan struct{})
	g.idle = make(chan struct{}, 1)
	for range g.uris {
		g.taken = append(g.taken, map[int64]bool{})
	}
	for range guestWorkers {
		rng := rand.New(rand.NewPCG(g.rng.Uint64(), 1))
		g.work.Go(func() { g.worker(disks, rng) })
	}
	g.work.Go(func() {
		<-g.life.Done()
		for _, d := range disks {
			d.close()
		}
	})
}

// Write lets the guest write until Pause.
func (g *Guest) Write() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.writing {
		g.writing = true
		close(g.wake)
	}
}

// Pause returns when no write is in flight and none will be before Write.
func (g *Guest) Pause(ctx context.Context) error {
	g.mu.Lock()
	if g.writing {
		g.writing = false
		g.wake = make(chan struct{})
	}
	g.mu.Unlock()
	for {
		g.mu.Lock()
		busy := g.busy
		g.mu.Unlock()
		if busy == 0 {
			return nil
		}
		select {
		case <-g.idle:
		case <-ctx.Done():
			return fmt.Errorf("pause guest: %w", ctx.Err())
		}
	}
}

// shutDown finishes what is in flight and flushes, as an orderly guest does.
func (g *Guest) shutDown(ctx context.Context) error {
	if err := g.Pause(ctx); err != nil {
		return err
	}
	for i, d := range g.disks {
		begun := g.Timeline.clock.Tick()
		err := d.do(g.life, (*nbd.Client).Flush)
		if err != nil {
			g.crash(err)
			return err
		}
		g.Timeline.flushed(i, begun)
	}
	return nil
}

// Stop ends the guest. What is in flight may be done or not: nobody is told.
func (g *Guest) Stop() {
	g.kill()
	g.work.Wait()
}

// Ended reports whether the guest was stopped, or crashed.
func (g *Guest) Ended() bool { return g.life.Err() != nil }

// Err is why the guest crashed, or nil.
func (g *Guest) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Done is how many writes were answered.
func (g *Guest) Done() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.done
}

// begin waits until the guest may write; false: it ended.
func (g *Guest) begin() bool {
	for {
		g.mu.Lock()
		may, wake := g.writing, g.wake
		if may && g.life.Err() == nil {
			g.busy++
		}
		g.mu.Unlock()
		if g.life.Err() != nil {
			return false
		}
		if may {
			return true
		}
		select {
		case <-wake:
		case <-g.life.Done():
			return false
		}
	}
}

// crash notes why the guest cannot go on; the first reason counts.
func (g *Guest) crash(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
}

func (g *Guest) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
	if err == nil {
		g.done++
	} else if g.err == nil && g.life.Err() == nil {
		g.err = err
	}
	if g.busy == 0 {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// claim takes sectors for a write; false: another write is on its way to some.
func (g *Guest) claim(disk int, first, count int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := first; s < first+count; s++ {
		if g.taken[disk][s] {
			return false
		}
	}
	for s := first; s < first+count; s++ {
		g.taken[disk][s] = true
	}
	return true
}

func (g *Guest) yield(disk int, first, count int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := first; s < first+count; s++ {
		delete(g.taken[disk], s)
	}
}

func (g *Guest) worker(disks []*vdisk, rng *rand.Rand) {
	for g.begin() {
		err := g.request(disks, rng)
		g.end(err)
		if err != nil {
			g.kill() // a machine whose disk fails is dead
			return
		}
		if rng.IntN(2) == 0 {
			pause(g.life, time.Duration(rng.IntN(6000))*time.Microsecond)
		}
	}
}

// request is one write, zeroing or flush.
func (g *Guest) request(disks []*vdisk, rng *rand.Rand) error {
	disk := rng.IntN(len(disks))
	d := disks[disk]
	if rng.IntN(12) == 0 {
		begun := g.Timeline.clock.Tick()
		err := d.do(g.life, (*nbd.Client).Flush)
		if err == nil {
			g.Timeline.flushed(disk, begun)
		}
		return err
	}
	first, count := g.place(disk, rng)
	if !g.claim(disk, first, count) {
		return nil
	}
	defer g.yield(disk, first, count)
	off, n := first*SectorSize, count*SectorSize
	if rng.IntN(7) == 0 {
		g.Timeline.begin(disk, first, count, 0)
		trim := rng.IntN(2) == 0
		err := d.do(g.life, func(c *nbd.Client) error { return c.Zero(off, n, trim) })
		if err == nil {
			g.Timeline.finish(disk, first, count)
		}
		return err
	}
	write := g.writes.next()
	data := make([]byte, n)
	for s := range count {
		fillSector(data[s*SectorSize:], write, int64(disk), first+s)
	}
	g.Timeline.begin(disk, first, count, write)
	err := d.do(g.life, func(c *nbd.Client) error { _, err := c.WriteAt(data, off); return err })
	if err == nil {
		g.Timeline.finish(disk, first, count)
	}
	return err
}

// place chooses sectors: often whole blocks, often a few that others hit as well,
// now and then the end of the disk or a long range.
func (g *Guest) place(disk int, rng *rand.Rand) (first, count int64) {
	sectors := g.Timeline.sectors(disk)
	switch rng.IntN(8) {
	case 0, 1, 2: // whole blocks
		count = 8 * (1 + rng.Int64N(4))
		first = 8 * rng.Int64N(max(1, sectors/8))
	case 3, 4: // a hot spot, unaligned
		count = 1 + rng.Int64N(12)
		first = rng.Int64N(min(64, sectors))
	case 5: // the end
		count = 1 + rng.Int64N(9)
		first = sectors - count
	case 6: // long
		count = 1 + rng.Int64N(200)
		first = rng.Int64N(sectors)
	default:
		count = 1 + rng.Int64N(9)
		first = rng.Int64N(sectors)
	}
	first = max(0, first)
	return first, min(count, sectors-first)
}

// Read reads all disks through a guest that is paused.
func (g *Guest) Read(ctx context.Context) ([][]byte, error) { return readAll(ctx, g.disks) }

// AwaitWrites returns when so many writes were answered in all.
func (g *Guest) AwaitWrites(ctx context.Context, total int64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for g.Done() < total {
		select {
		case <-tick.C:
		case <-g.life.Done():
			return fmt.Errorf("the guest ended: %w", g.Err())
		case <-ctx.Done():
			return fmt.Errorf("wait for writes: %w", ctx.Err())
		}
	}
	return nil
}
