package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/capture"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/nbd"
)

// host is what the items of an agent share.
type host struct {
	cfg     Config
	server  *nbd.Server
	address string          // of the listener
	ctx     context.Context // of the agent's life
}

// item is one captured machine. A goroutine (keep) resumes it and then
// replicates; calls that change its state stop that goroutine first.
type item struct {
	host *host
	id   homeward.ItemID

	calls sync.Mutex   // held through a call that changes the state
	halt  func()       // ends keep and waits for it; guarded by calls
	use   sync.RWMutex // held for reading by calls that use what is open; shut waits for them

	broken   error // why its record cannot be read; never changes
	alarms   *alarms
	complete atomic.Bool // record.Complete
	// abandoned says that disks were given up at the agent's end: they were away.
	abandoned atomic.Bool
	turn      turn
	proof     proof

	judging  sync.Mutex  // held while blocks become suspect, and while they are cleared; before mu
	suspects homeward.ID // names the suspect set; guarded by judging

	mu        sync.Mutex
	rec       record
	opened    bool  // the fields below are valid
	openErr   error // of the last attempt to open; nil: none failed
	disks     []block.Disk
	machine   *capture.Machine
	chain     *chain
	backlog   *backlog
	lost      map[int]error // disks whose backlog is lost
	freezer   *freezer
	meter     *meter
	confirmed bool // the generation captured under is in force, or policy says not to ask further
	exported  bool
	leg       *leg // nil: nowhere to replicate to, or not begun
}

func (h *host) newItem(id homeward.ItemID) *item {
	return &item{host: h, id: id, halt: func() {}, alarms: newAlarms(h.cfg.Now)}
}

func (it *item) legDir(g homeward.Generation) string { return filepath.Join(it.dir(), legName(g)) }

func (it *item) dir() string      { return filepath.Join(it.host.cfg.Dir, "items", string(it.id)) }
func (it *item) liveDir() string  { return filepath.Join(it.host.cfg.LiveDir, string(it.id)) }
func (it *item) spillDir() string { return filepath.Join(it.host.cfg.SpillDir, string(it.id)) }

// snapshot is the record as of now.
func (it *item) snapshot() record {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.rec
}

// amend changes the record durably, or not at all.
func (it *item) amend(change func(*record)) error {
	it.mu.Lock()
	defer it.mu.Unlock()
	next := it.rec
	change(&next)
	err := it.host.cfg.FS.MkdirAll(it.dir(), 0o700)
	if err == nil {
		err = durable.WriteJSON(it.host.cfg.FS, filepath.Join(it.dir(), recordName), next)
	}
	if err != nil {
		return homeward.Wrap(err, "record item", string(it.id))
	}
	it.rec = next
	it.complete.Store(next.Complete)
	return nil
}

// start lets keep run; with calls held and keep not running.
func (it *item) start() {
	ctx, cancel := context.WithCancel(it.host.ctx)
	done := make(chan struct{})
	it.halt = func() {
		cancel()
		<-done
		it.mu.Lock()
		it.leg = nil
		it.mu.Unlock()
		it.halt = func() {}
	}
	go func() {
		defer close(done)
		it.keep(ctx)
	}()
}

// keep resumes the item, as often as it takes, and then replicates.
func (it *item) keep(ctx context.Context) {
	for !it.resume(ctx) {
		if !pause(ctx, it.host.cfg.Tuning.RetryInterval) {
			return
		}
	}
	it.mu.Lock()
	l := it.leg
	it.mu.Unlock()
	if l == nil {
		return
	}
	err := l.run(ctx)
	if err == nil {
		return
	}
	it.host.cfg.Log.Error("replication stopped", "item", it.id, "error", err)
	if homeward.KindOf(err) != homeward.Fenced {
		it.distrust(err)
		return
	}
	var g homeward.Generation // zero when it was not told: then it is asked for at the next start
	if in, ok := errors.AsType[*homeward.FencedError](err); ok {
		g = in.InForce
	}
	it.fence(ctx, g)
}

// resume brings the item as far as its record says: disks open, exported if the
// generation is in force, ready to replicate. False: try again later.
func (it *item) resume(ctx context.Context) (settled bool) {
	r := it.snapshot()
	err := it.reopen(ctx, r)
	if err == nil && r.State == homeward.CaptureHandedOff {
		err = it.machine.Handover(ctx)
	}
	if err != nil {
		it.alarms.raiseError(alarmDisks, err)
		return false
	}
	it.alarms.clear(alarmDisks)
	if r.State == homeward.CaptureHandedOff {
		return true
	}
	if !it.confirm(ctx) {
		return it.snapshot().fenced()
	}
	l := it.newLeg()
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.rec.fenced() || it.rec.State != homeward.CaptureRunning {
		return true
	}
	if err := it.export(); err != nil {
		it.alarms.raiseError(alarmDisks, err)
		return false
	}
	if it.leg == nil {
		it.leg = l
	}
	return true
}

// reopen opens an item that an earlier process left, unless it is open, and
// judges what is found of it.
func (it *item) reopen(ctx context.Context, r record) error {
	it.mu.Lock()
	opened := it.opened
	it.mu.Unlock()
	if opened {
		return nil
	}
	err := it.open(ctx, r)
	if err == nil {
		err = it.examine()
	}
	it.mu.Lock()
	it.openErr = err
	it.mu.Unlock()
	if err != nil {
		return errors.Join(err, it.shut(ctx))
	}
	return nil
}

// open opens disks, capture, maps and positions of a leg. After an error call shut.
func (it *item) open(ctx context.Context, r record) (err error) {
	req := r.Request
	fsys, dir := it.host.cfg.FS, it.legDir(r.capture())
	if it.disks, err = it.host.openDisks(ctx, req.Machine, req.Disks, block.Mode{}); err != nil {
		return err
	}
	if it.machine, err = it.openCapture(ctx, r); err != nil {
		return err
	}
	if it.chain, err = openChain(fsys, filepath.Join(dir, r.positions()), req.Base); err != nil {
		return err
	}
	if it.backlog, it.lost, err = openBacklog(fsys, dir, req.Machine.Disks); err != nil {
		return err
	}
	if it.freezer, err = openFreezer(fsys, filepath.Join(dir, noteName), req.Policy.Freeze, it.host.cfg.Commands); err != nil {
		return err
	}
	if err := it.freezer.thaw(ctx); err != nil {
		it.alarms.raiseError(alarmThaw, err)
	}
	it.judging.Lock()
	it.suspects = homeward.NewID() // what is found suspect now was not seen before
	it.judging.Unlock()
	it.mu.Lock()
	defer it.mu.Unlock()
	it.meter = newMeter(it.host.cfg.Now, it.chain.traffic())
	it.opened = true
	return nil
}

func (h *host) openDisks(ctx context.Context, machine homeward.Machine, refs []string, mode block.Mode) ([]block.Disk, error) {
	var disks []block.Disk
	for i, d := range machine.Disks {
		mode.Size = d.Size
		disk, err := h.cfg.Openers.Open(ctx, refs[i], mode)
		if err != nil {
			err = homeward.Wrap(err, "open disk", fmt.Sprintf("disks[%d] %s", i, refs[i]))
			return nil, errors.Join(err, closeDisks(disks))
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

func closeDisks(disks []block.Disk) error {
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

func (it *item) openCapture(ctx context.Context, r record) (*capture.Machine, error) {
	cfg, leg, req := it.host.cfg, legName(r.capture()), r.Request
	return capture.Open(ctx, capture.Config{
		Disks:      it.disks,
		Dir:        filepath.Join(it.legDir(r.capture()), captureDir),
		LiveDir:    filepath.Join(it.liveDir(), leg),
		SpillDir:   filepath.Join(it.spillDir(), leg),
		FS:         cfg.FS,
		CacheBytes: req.Policy.CacheBytes,
		SpillBytes: req.Policy.SpillBytes,
		Log:        cfg.Log.With("item", it.id),
		Now:        cfg.Now,
	})
}

// endProof releases a frozen cut, whose capture is about to end anyhow.
func (it *item) endProof() {
	if err := it.proof.end(); err != nil {
		it.host.cfg.Log.Warn("frozen cut not released", "item", it.id, "error", err)
	}
}

// using keeps what is open from being closed until done is called; nil: nothing is.
func (it *item) using() (done func()) {
	it.use.RLock()
	it.mu.Lock()
	defer it.mu.Unlock()
	if !it.opened {
		it.use.RUnlock()
		return nil
	}
	return it.use.RUnlock
}

// abandon gives up disks that are away, now or once ctx has ended, so that nobody waits
// for what they were asked. stop ends that.
func (it *item) abandon(ctx context.Context) (stop func()) {
	it.mu.Lock()
	disks := slices.Clone(it.disks)
	it.mu.Unlock()
	give := func(always bool) {
		for _, d := range disks {
			if remote, ok := d.(interface{ Away() bool }); ok && (always || remote.Away()) {
				it.abandoned.Store(true)
				_ = d.Close() // its requests fail as cancelled, which no guest is told
			}
		}
	}
	give(false)
	end := context.AfterFunc(ctx, func() { give(true) })
	return func() { end() }
}

// shut closes what open opened. keep must not run.
func (it *item) shut(ctx context.Context) error {
	it.use.Lock()
	defer it.use.Unlock()
	it.mu.Lock()
	machine, disks, chain := it.machine, it.disks, it.chain
	it.machine, it.disks, it.chain, it.leg, it.opened, it.exported = nil, nil, nil, nil, false, false
	it.mu.Unlock()
	var errs []error
	if machine != nil {
		errs = append(errs, machine.Close(ctx))
	}
	if chain != nil {
		errs = append(errs, chain.close())
	}
	return errors.Join(append(errs, closeDisks(disks))...)
}

// examine judges what was found of a leg that an earlier process left: suspect
// blocks mean that the set to ship is not whole before they are compared.
func (it *item) examine() error {
	var reasons []string
	suspect := false
	for i, d := range it.disks {
		why := ""
		if it.machine.Started().Kind == capture.StartFresh {
			why = "the files of the capture are gone"
		} else if it.lost[i] != nil {
			why = fmt.Sprintf("the backlog is lost: %v", it.lost[i])
		}
		if why != "" {
			if err := it.machine.AddSuspect(i, fullMap(d.Size()), why); err != nil {
				return err
			}
		}
		suspect = suspect || it.machine.SuspectBytes(i) > 0
		reasons = append(reasons, it.machine.Reasons(i)...)
	}
	if !suspect {
		return nil
	}
	it.alarms.raise(alarmSuspect, strings.Join(reasons, "; "), "resync by digest: until then no point is made")
	return it.amend(func(r *record) { r.Complete = false })
}

func fullMap(size int64) *block.Map {
	m := block.NewMap(block.BlocksOf(size))
	m.Set(0, m.Blocks())
	return m
}

// newLeg makes the replication of an open item; nil when it has nowhere to go.
func (it *item) newLeg() *leg {
	it.mu.Lock()
	defer it.mu.Unlock()
	req := it.rec.Request
	if req.Sink == "" {
		return nil
	}
	cfg := it.host.cfg
	l := &leg{
		id: it.id, generation: req.Generation, machine: &req.Machine, capture: it.machine, sink: cfg.Dial(req.Sink),
		policy: req.Policy, tuning: cfg.Tuning, chain: it.chain, backlog: it.backlog, freezer: it.freezer, alarms: it.alarms, meter: it.meter,
		turn: &it.turn, log: cfg.Log, now: cfg.Now, fault: cfg.Fault, complete: it.complete.Load,
		wake: make(chan struct{}, 1),
	}
	for _, d := range req.Machine.Disks {
		l.disks = append(l.disks, delta.DiskInfo{ID: d.ID, Size: d.Size})
	}
	return l
}

// bounded limits how long a call waits for a disk that does not answer.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 30*time.Second)
}
