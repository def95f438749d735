package capture

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// power stands between the engine and its media: it counts what reaches them, and
// at one of these steps it takes what a power loss would leave, of all media and
// the replica at the same instant.
type power struct {
	mu       sync.Mutex
	rng      *rand.Rand
	crashes  *rand.Rand // under mu
	left     int        // steps until the power fails; < 0: it does not
	r        *rig
	replica  []blocks // content of each disk at the last applied state
	written  []*block.Map
	off      chan struct{}
	lostFS   *powerloss.FS
	lost     []*powerloss.Disk
	lostCopy []blocks
}

// blocks are the content of a disk, as far as it is not zero.
type blocks map[int64][]byte

// step runs one operation of a medium.
func (p *power) step(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		p.fail()
	}
	p.left--
	do()
}

func (p *power) fail() {
	p.lostFS = p.r.fs.Crash(p.crashes)
	p.lost, p.lostCopy = nil, nil
	for i, d := range p.r.disks {
		p.lost = append(p.lost, d.Crash(p.crashes))
		p.lostCopy = append(p.lostCopy, maps.Clone(p.replica[i]))
	}
	close(p.off)
}

func (p *power) failed() bool {
	select {
	case <-p.off:
		return true
	default:
		return false
	}
}

type poweredDisk struct {
	*powerloss.Disk
	p *power
}

func (d poweredDisk) WriteAt(b []byte, off int64) (n int, err error) {
	d.p.step(func() { n, err = d.Disk.WriteAt(b, off) })
	return n, err
}

func (d poweredDisk) WriteAtFUA(b []byte, off int64) (n int, err error) {
	d.p.step(func() { n, err = d.Disk.WriteAtFUA(b, off) })
	return n, err
}

func (d poweredDisk) Zero(off, n int64, punch bool) (err error) {
	d.p.step(func() { err = d.Disk.Zero(off, n, punch) })
	return err
}

func (d poweredDisk) Flush() (err error) {
	d.p.step(func() { err = d.Disk.Flush() })
	return err
}

type poweredFS struct {
	*powerloss.FS
	p *power
}

func (f poweredFS) OpenFile(name string, flag int, perm fs.FileMode) (file durable.File, err error) {
	f.p.step(func() { file, err = f.FS.OpenFile(name, flag, perm) })
	if err != nil {
		return nil, err
	}
	return poweredFile{file, f.p}, nil
}

func (f poweredFS) Rename(old, new string) (err error) {
	f.p.step(func() { err = f.FS.Rename(old, new) })
	return err
}

func (f poweredFS) Remove(name string) (err error) {
	f.p.step(func() { err = f.FS.Remove(name) })
	return err
}

func (f poweredFS) SyncDir(dir string) (err error) {
	f.p.step(func() { err = f.FS.SyncDir(dir) })
	return err
}

type poweredFile struct {
	durable.File
	p *power
}

func (f poweredFile) TryLock() (bool, error) { return f.File.(durable.Locker).TryLock() }

func (f poweredFile) WriteAt(b []byte, off int64) (n int, err error) {
	f.p.step(func() { n, err = f.File.WriteAt(b, off) })
	return n, err
}

func (f poweredFile) Sync() (err error) {
	f.p.step(func() { err = f.File.Sync() })
	return err
}

// openPowered opens the rig's machine behind p; nil when the power failed meanwhile.
func (p *power) open() {
	r := p.r
	r.cfg.FS, r.cfg.Disks = poweredFS{r.fs, p}, nil
	for _, d := range r.disks {
		r.cfg.Disks = append(r.cfg.Disks, poweredDisk{d, p})
	}
	var err error
	if r.Machine, err = Open(context.Background(), r.cfg); err != nil {
		r.t.Fatal(err)
	}
}

const powerDisk = (pageBlocks + 3*extentBlocks) * block.Size // two pages, eleven extents

func newPower(t *testing.T, rng *rand.Rand) *power {
	r := newRig(t, powerDisk, 8<<20)
	r.kill()
	r.reboot()
	r.fs, r.Machine = powerloss.New(), nil
	r.cfg.hotExtents = 4
	return &power{rng: rng, crashes: rand.New(rand.NewPCG(rng.Uint64(), 3)), r: r, replica: []blocks{{}, {}},
		written: []*block.Map{block.NewMap(powerDisk / block.Size), block.NewMap(2048)}}
}

// guest writes at random until the power fails or it did enough.
func (p *power) guest(seed uint64, ops int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	buf := make([]byte, 3*block.Size)
	for range ops {
		if p.failed() {
			return
		}
		for i := range buf {
			buf[i] = byte(rng.Uint32())
		}
		disk := rng.IntN(2)
		d := p.r.Disk(disk)
		// Few places in each extent, so that blocks are written again and again.
		place := rng.Int64N(d.Size()/block.Size/extentBlocks+1)*extentBlocks + rng.Int64N(8)
		off := min(place*block.Size+rng.Int64N(8)*512, d.Size()-int64(len(buf)))
		n := 512 * (1 + rng.IntN(len(buf)/512))
		p.written[disk].SetBytes(off, int64(n))
		var err error
		switch rng.IntN(10) {
		case 0:
			err = d.Zero(off, int64(n), true)
		case 1:
			err = d.Flush()
		case 2:
			_, err = d.(block.FUAWriter).WriteAtFUA(buf[:n], off)
		default:
			_, err = d.WriteAt(buf[:n], off)
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			p.r.t.Errorf("guest write: %v", err)
		}
	}
}

// agent cuts, ships to the replica and releases until the guests are done.
func (p *power) agent(done <-chan struct{}, rng *rand.Rand) {
	m := p.r.Machine
	var spooled []*Cut
	for {
		select {
		case <-done:
			return
		default:
		}
		c, err := m.Cut(context.Background(), CutOptions{})
		if err != nil {
			p.r.t.Errorf("cut: %v", err)
			return
		}
		content := []blocks{{}, {}}
		for i := range content {
			for run := range c.Map(i).Runs(0) {
				for at := run.Start; at < run.Start+run.Count; at++ {
					b := make([]byte, block.Size)
					p.r.must(c.ReadBlocks(i, at, 1, b))
					content[i][at] = b
				}
			}
		}
		if rng.IntN(6) == 0 {
			p.r.must(c.Demote())
			continue
		}
		p.r.must(c.Spooled())
		p.mu.Lock() // the target applies: from now on this is the replica
		for i, blocks := range content {
			for at, b := range blocks {
				p.replica[i][at] = b
			}
		}
		p.mu.Unlock()
		spooled = append(spooled, c)
		for len(spooled) > rng.IntN(3) {
			p.r.must(spooled[0].Applied())
			spooled = spooled[1:]
		}
		if rng.IntN(20) == 0 {
			spooled = nil
			p.r.must(m.Reship())
		}
	}
}

// run is one life of the machine, from a start to a power failure (or, when that
// does not come in time, a clean end or a kill).
func (p *power) run() {
	p.mu.Lock()
	p.left, p.off = p.rng.IntN(1200), make(chan struct{})
	p.mu.Unlock()
	p.open()
	done := make(chan struct{})
	var guests, agent sync.WaitGroup
	agentRNG := rand.New(rand.NewPCG(p.rng.Uint64(), 2))
	for range 3 {
		seed := p.rng.Uint64()
		guests.Go(func() { p.guest(seed, 60) })
	}
	agent.Go(func() { p.agent(done, agentRNG) })
	guests.Wait()
	close(done)
	agent.Wait()
	if !p.failed() && p.rng.IntN(3) == 0 {
		p.r.must(p.r.Close(context.Background()))
	}
	if !p.r.closed.Load() {
		p.r.kill()
	}
	p.r.cfg.FS = nil
	if p.failed() {
		p.r.reboot()
		p.r.fs, p.r.disks, p.replica = p.lostFS, p.lost, p.lostCopy
	}
}

// check holds the disks against the replica: each block that differs is in a map (I-0).
func (p *power) check(t *testing.T, when string) {
	r := p.r
	for i, d := range r.disks {
		dirty, suspect := r.Dirty(i), r.Suspect(i)
		got, zero := make([]byte, block.Size), make([]byte, block.Size)
		for run := range p.written[i].Runs(0) {
			for at := run.Start; at < run.Start+run.Count; at++ {
				if _, err := d.ReadAt(got, at*block.Size); err != nil {
					t.Fatal(err)
				}
				want := p.replica[i][at]
				if want == nil {
					want = zero
				}
				if !bytes.Equal(got, want) && !dirty.Has(at) && !suspect.Has(at) {
					t.Fatalf("%s: disk %d block %d differs from the replica and is in no map (started %+v)", when, i, at, r.Started())
				}
			}
		}
	}
}

// Power fails at any step of running, starting and ending, again and again: every
// block in which disk and replica differ is dirty or suspect (I-0, I-4, I-5), and
// not because everything is.
func TestPowerLoss(t *testing.T) {
	rng := powerloss.Rand(t)
	kinds := map[StartKind]int{}
	for range 6 {
		p := newPower(t, rng)
		for life := range 8 {
			p.run()
			p.left, p.off = -1, make(chan struct{})
			p.open()
			kind := p.r.Started().Kind
			kinds[kind]++
			if kind == StartUnreadable {
				t.Fatalf("life %d: %+v", life, p.r.Started())
			}
			p.check(t, string(kind))
			p.r.kill()
		}
		p.r.Machine = nil
	}
	t.Logf("starts: %v", kinds)
	if kinds[StartReboot] == 0 || kinds[StartSurvived]+kinds[StartClean] == 0 {
		t.Errorf("not every way to start was seen: %v", kinds)
	}
}
