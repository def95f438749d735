package agent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// powered is a disk that can be stopped together with all others, so that a power
// loss hits everything at one instant.
type powered struct {
	*powerloss.Disk
	power *sync.RWMutex
}

func (d powered) WriteAt(p []byte, off int64) (int, error) {
	d.power.RLock()
	defer d.power.RUnlock()
	return d.Disk.WriteAt(p, off)
}

func (d powered) WriteAtFUA(p []byte, off int64) (int, error) {
	d.power.RLock()
	defer d.power.RUnlock()
	return d.Disk.WriteAtFUA(p, off)
}

func (d powered) Zero(off, n int64, punch bool) error {
	d.power.RLock()
	defer d.power.RUnlock()
	return d.Disk.Zero(off, n, punch)
}

func (d powered) Flush() error {
	d.power.RLock()
	defer d.power.RUnlock()
	return d.Disk.Flush()
}

// powerRig is a rig on files and disks that can lose power.
type powerRig struct {
	*rig
	power sync.RWMutex
	fs    *powerloss.FS
	disks []*powerloss.Disk
	dead  *away
}

func newPowerRig(t *testing.T) *powerRig {
	t.Helper()
	p := &powerRig{rig: newRig(t), fs: powerloss.New()}
	p.cfg.Dir, p.cfg.SpillDir = "/state", "/state/spill"
	for i, size := range diskSizes {
		p.disks = append(p.disks, powerloss.NewDisk(size))
		p.request.Disks[i] = "power:" + strconv.Itoa(i)
	}
	p.plug()
	return p
}

// plug configures the next agent with files and disks as they are now.
func (p *powerRig) plug() {
	p.cfg.FS = p.fs
	disks := p.disks
	p.cfg.Openers = block.Openers{"power": func(_ context.Context, ref string, _ block.Mode) (block.Disk, error) {
		i, err := strconv.Atoi(ref[len("power:"):])
		disks[i] = disks[i].Reopen() // an earlier agent closed it
		return powered{disks[i], &p.power}, err
	}}
	p.dead = p.throughAway()
}

// lose takes the power away under the running agent, and ends it.
func (p *powerRig) lose(g *guest) {
	p.t.Helper()
	p.power.Lock()
	p.dead.gone.Store(true) // nothing new leaves: a delta is sent after its position is durable
	disks := []*powerloss.Disk{}
	for _, d := range p.disks {
		disks = append(disks, d.Crash(p.rng))
	}
	fs := p.fs.Crash(p.rng)
	p.power.Unlock()
	g.close()
	_ = p.agent.Close(p.t.Context()) // what it still does is to what is gone
	p.agent = nil
	if err := os.RemoveAll(p.cfg.LiveDir); err != nil { // a reboot empties the tmpfs
		p.t.Fatal(err)
	}
	p.disks, p.fs = disks, fs
	p.plug()
}

// After a power loss with any subset of unsynced pages gone, at both the disks and
// the agent's own files, the map and the suspects cover whatever differs (I-0).
func TestPowerloss(t *testing.T) {
	cases := 4
	if n, err := strconv.Atoi(os.Getenv("HOMEWARD_CASES")); err == nil {
		cases = n
	}
	p := newPowerRig(t)
	rep := p.start()
	for range cases {
		g := connect(t, rep, p.rng, 0)
		for range 1 + p.rng.IntN(4) {
			g.mustWrite(p.rng.IntN(120))
			if p.rng.IntN(2) == 0 {
				p.cut()
			}
			if p.rng.IntN(2) == 0 {
				if err := g.disks[p.rng.IntN(len(g.disks))].(interface{ Flush() error }).Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.lose(g)
		p.open()
		rep = p.report()
		p.resync()
		p.checkEqual()
	}
}

// checkEqual compares the replica with the disks.
func (p *powerRig) checkEqual() {
	p.t.Helper()
	for i, d := range p.disks {
		got, want := make([]byte, d.Size()), make([]byte, d.Size())
		if _, err := p.target.memory(p.t, i).ReadAt(got, 0); err != nil {
			p.t.Fatal(err)
		}
		if _, err := d.ReadAt(want, 0); err != nil {
			p.t.Fatal(err)
		}
		for off := 0; off < len(want); off += block.Size {
			if end := min(off+block.Size, len(want)); !bytes.Equal(got[off:end], want[off:end]) {
				p.t.Fatalf("disk %d block %d: replica has write %d, the disk write %d", i, off/block.Size, number(got[off:]), number(want[off:]))
			}
		}
	}
}

// The agent's own files fail: the guest runs on, an alarm says so, and when the
// cause is gone replication goes on.
func TestFaultyFiles(t *testing.T) {
	for _, glob := range []string{"positions", "backlog-*"} {
		for op, fault := range map[string]error{powerloss.OpWrite: syscall.ENOSPC, powerloss.OpSync: syscall.EIO} {
			t.Run(glob+" "+op, func(t *testing.T) {
				p := newPowerRig(t)
				p.cfg.Tuning.PrecopyBytes = 1 << 14
				g := connect(t, p.start(), p.rng, 0)
				defer g.close()
				g.mustWrite(50)
				p.cut()
				p.fs.Fail(op, glob, 0, fault)
				g.mustWrite(200)
				rep := p.await("alarm", func(rep homeward.CaptureReport) bool { return hasAlarm(rep, alarmAway) })
				if rep.State != homeward.CaptureRunning {
					t.Errorf("%+v", rep)
				}
				g.mustWrite(50)
				p.fs.Heal()
				p.cut()
				if n := g.checkPrefix(t, p.target.Content("web01")); n != 300 {
					t.Errorf("the replica ends with write %d", n)
				}
			})
		}
	}
}

// A record that cannot be written is an error of the call, and nothing is done.
func TestFaultyRecord(t *testing.T) {
	p := newPowerRig(t)
	p.open()
	p.fs.Fail(powerloss.OpSync, "item.json*", 0, syscall.EIO)
	if _, err := p.agent.Prepare(t.Context(), p.request); !errors.Is(err, syscall.EIO) {
		t.Errorf("prepared without a record: %v", err)
	}
	if _, err := p.agent.Report(t.Context(), p.item()); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("half prepared: %v", err)
	}
	p.fs.Heal()
	p.prepare()
	next := homeward.GenerationRequest{Item: "web01", Generation: p.request.Generation.Next()}
	p.fs.Fail(powerloss.OpSync, "item.json*", 0, syscall.EIO)
	if _, err := p.agent.Handover(t.Context(), next); err == nil {
		t.Error("handed over without a record")
	}
	if rep := p.report(); rep.State != homeward.CaptureRunning {
		t.Errorf("%+v", rep)
	}
	p.fs.Heal()
	if _, err := p.agent.Handover(t.Context(), next); err != nil {
		t.Error(err)
	}
}

// One damaged record does not keep the others from running.
func TestResume_damagedRecord(t *testing.T) {
	r := newRig(t)
	r.start()
	second := newRequest(t, t.TempDir(), "db07")
	if err := r.target.Prepare("db07", second.Generation, second.Base); err != nil {
		t.Fatal(err)
	}
	if _, err := r.agent.Prepare(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	r.close()
	path := r.cfg.Dir + "/items/db07/" + recordName
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.cut()
	if _, err := r.agent.Report(t.Context(), homeward.ItemRequest{Item: "db07"}); homeward.KindOf(err) != homeward.Corrupt {
		t.Errorf("report: %v", err)
	}
	if _, err := r.agent.Prepare(t.Context(), second); homeward.KindOf(err) != homeward.Corrupt {
		t.Errorf("prepared over a record nobody can read: %v", err)
	}
}

// The saved copies of a cut do not fit: it is given up, the guest never waits, and
// after some in a row an alarm says what would suffice.
func TestDemotion(t *testing.T) {
	r := newRig(t)
	const size = 40 << 20
	path := r.request.Disks[0][len("file:"):]
	data := bytes.Repeat([]byte{7}, size)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r.request.Machine.Disks[0].Size = size
	r.request.Policy.CacheBytes, r.request.Policy.SpillBytes = 1<<20, 4096
	waiting, pass := make(chan struct{}, 100), make(chan struct{})
	r.target.Gate = func(ctx context.Context, _ homeward.ItemID) error {
		waiting <- struct{}{}
		select {
		case <-pass:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	rep := r.start()
	g := connect(t, rep, r.rng, 0)
	defer g.close()
	overwrite := bytes.Repeat([]byte{9}, 3<<20)
	for i := range 3 {
		for range inFlight {
			<-waiting
		}
		if _, err := g.disks[0].WriteAt(overwrite, size-int64(len(overwrite))); err != nil {
			t.Fatal(err)
		}
		for range inFlight {
			pass <- struct{}{}
		}
		r.await("demotion", func(rep homeward.CaptureReport) bool { return rep.Demotions == int64(i+1) })
	}
	r.await("alarm", func(rep homeward.CaptureReport) bool { return hasAlarm(rep, alarmDemotions) })
	close(pass)
	r.cut()
	r.await("alarm gone", func(rep homeward.CaptureReport) bool { return !hasAlarm(rep, alarmDemotions) })
	if time.Since(r.report().AppliedAt) > patience {
		t.Error("no point")
	}
	r.target.points(t, "web01", func(p homeward.Position, m homeward.Mark, c shiptest.Content) {
		if len(c) < size/block.Size {
			t.Errorf("a point at %v holds %d blocks of %d", p, len(c), size/block.Size)
		}
	})
}
