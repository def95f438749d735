package capture

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// Machine captures the writes to all disks of one machine. All methods may be
// called concurrently.
type Machine struct {
	cfg      Config
	instance homeward.ID // of the set of files
	lock     *durable.Lock
	disks    []*disk
	gate     *gate
	pool     *pool
	notes    notes
	holds    holds

	frozen    atomic.Pointer[Cut] // whose content is protected
	epoch     atomic.Uint64       // raised by each cut
	demotions atomic.Int64
	ended     atomic.Pointer[error] // why nothing is written, cut or released any more
	closed    atomic.Bool

	// Locks, outermost first. Below them only those of gate, keeper, stripe and pool;
	// a keeper's io is outside of roles.
	applying sync.Mutex   // one Applied at a time, also while it flushes
	release  sync.Mutex   // guards older and newer
	cutting  sync.Mutex   // one cut or hold at a time; guards hold and spent
	roles    sync.RWMutex // guards open and which bitmap has which role; held for pointer swaps
	hold     *hold
	spent    []homeward.ID
	older    generation
	newer    generation
	open     *Cut // frozen, or on its way back

	work sync.WaitGroup
	stop chan struct{}
}

func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// Open begins to capture the disks of one machine, going on from what an earlier
// run left in Dir and LiveDir: see Started. Nothing is written to the disks.
// Errors: Invalid (a field; other disks than before; a disk that shrank), InUse,
// NoSpace, IO, Forbidden.
func Open(ctx context.Context, cfg Config) (*Machine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, homeward.Wrap(err, "open capture", cfg.Dir)
	}
	m := &Machine{cfg: cfg, gate: newGate(), pool: newPool(cfg), stop: make(chan struct{})}
	m.epoch.Store(1)
	for i, dev := range cfg.Disks {
		m.disks = append(m.disks, &disk{m: m, index: i, dev: dev, size: dev.Size(), blocks: block.BlocksOf(dev.Size())})
	}
	for _, dir := range []string{cfg.Dir, cfg.SpillDir} {
		if err := cfg.FS.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := durable.OS().MkdirAll(cfg.LiveDir, 0o700); err != nil {
		return nil, err
	}
	if m.lock, err = durable.LockFile(cfg.FS, lockPath(cfg.Dir)); err != nil {
		return nil, err
	}
	err = durable.SweepTemps(cfg.FS, cfg.Dir)
	if err == nil {
		err = m.begin()
	}
	if err != nil {
		return nil, errors.Join(err, m.shut(false))
	}
	m.run()
	return m, nil
}

// run starts the goroutines.
func (m *Machine) run() {
	if err := m.pool.spill.open(); err != nil {
		m.pool.spill.failed.Store(&err)
		m.cfg.Log.Warn("no spill file: saved copies have to fit into memory", "error", err)
	}
	for _, d := range m.disks {
		d.keep.start()
	}
	m.work.Go(func() { m.pool.run(m, m.stop) })
}

// Started tells what Open found.
func (m *Machine) Started() Start {
	m.notes.mu.Lock()
	kind := m.notes.start
	m.notes.mu.Unlock()
	return Start{Kind: kind, Reasons: m.notes.list(func() map[int][]string { return m.notes.reasons })}
}

// Disk is disk i as the guest is to see it: every write through it is marked
// before it is submitted (I-1). Its Close does nothing. It stays readable after
// Handover and Close, as long as the disk under it is open.
func (m *Machine) Disk(i int) block.Disk { return export{m.disks[i]} }

// Mark adds blocks to the changed set of a disk; when it returns they are in it
// whatever happens. IO when the checkpoint could not be written: the blocks are
// in the set all the same, but a power loss makes the whole disk suspect.
func (m *Machine) Mark(disk int, b *block.Map) error {
	d, err := m.checkMap("mark", disk, b)
	if err != nil {
		return err
	}
	m.cutting.Lock() // no cut swaps the active map meanwhile
	d.active.Load().orMap(b)
	m.cutting.Unlock()
	return homeward.Wrap(d.keep.secure(changedMap, pagesOf(b)), "mark", d.name())
}

func pagesOf(b *block.Map) func(p int64) bool {
	return func(p int64) bool { return b.HasAny(p*pageBlocks, min(pageBlocks, b.Blocks()-p*pageBlocks)) }
}

func (m *Machine) checkMap(op string, disk int, b *block.Map) (*disk, error) {
	if disk < 0 || disk >= len(m.disks) {
		return nil, homeward.Errorf(op, homeward.Invalid, "", "give the number of a disk", "no disk %d of %d", disk, len(m.disks))
	}
	d := m.disks[disk]
	if b.Blocks() != d.blocks {
		return nil, homeward.Errorf(op, homeward.Invalid, d.name(), "give a map of this disk", "a map of %d blocks for a disk of %d", b.Blocks(), d.blocks)
	}
	return d, homeward.Wrap(m.ending(), op, d.name())
}

// Dirty is the set of blocks that were written (or marked) and are not known to be
// applied: those to be cut, frozen, and unapplied. A copy. After Close: all, as
// nobody knows.
func (m *Machine) Dirty(n int) *block.Map {
	return m.collect(m.disks[n], (*disk).changed)
}

// collect is the union of some maps of a disk.
func (m *Machine) collect(d *disk, which func(d *disk) []*bitmap) *block.Map {
	out := block.NewMap(d.blocks)
	for p := range pagesFor(d.blocks) {
		if !m.collectPage(d, which, p, out) {
			out.Set(0, d.blocks)
			break
		}
	}
	return out
}

// collectPage holds the lock no longer than a cut may have to wait for it with the
// gate closed. Between pages bits move from map to map, but each is in one at any
// time. False after Close.
func (m *Machine) collectPage(d *disk, which func(d *disk) []*bitmap, p int64, out *block.Map) bool {
	m.roles.RLock()
	defer m.roles.RUnlock()
	if d.live.mem == nil {
		return false
	}
	for _, b := range which(d) {
		b.addPage(p, out)
	}
	return true
}

// Suspect is the set of blocks that may have changed unseen; Reasons tells why. A
// copy. After Close: all.
func (m *Machine) Suspect(n int) *block.Map {
	return m.collect(m.disks[n], func(d *disk) []*bitmap { return []*bitmap{d.suspect} })
}

// AddSuspect adds blocks to the suspect set, durably as Mark does.
func (m *Machine) AddSuspect(disk int, b *block.Map, reason string) error {
	d, err := m.checkMap("suspect", disk, b)
	if err != nil {
		return err
	}
	d.suspect.orMap(b)
	m.notes.addSuspect(disk, reason)
	return homeward.Wrap(d.keep.secure(suspectMap, pagesOf(b)), "suspect", d.name())
}

// ClearSuspect takes blocks out of the suspect set whose content was found equal at
// the other copy, or which are marked by now. The disk is flushed first: what was
// compared may have been its cache alone (I-4).
func (m *Machine) ClearSuspect(disk int, b *block.Map) error {
	d, err := m.checkMap("clear suspect blocks", disk, b)
	if err != nil {
		return err
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.keep.outdate(suspectMap, d.suspect, func() {
		for run := range b.Runs(0) {
			d.suspect.unset(run.Start, run.Count)
		}
	})
	if d.suspect.count() == 0 {
		m.notes.clearSuspect(disk)
	}
	return nil
}

// Reasons tells why blocks of a disk are suspect.
func (m *Machine) Reasons(disk int) []string { return m.notes.suspect(disk) }

// Stats are figures as of now.
func (m *Machine) Stats() Stats {
	s := Stats{
		Demotions: m.demotions.Load(), HoldP99: m.holds.p99(),
		CacheBytes: m.pool.bytes(), SpillBytes: m.pool.spill.bytes(),
		Unprotected: m.notes.list(func() map[int][]string { return m.notes.unprotected }),
	}
	for _, d := range m.disks {
		if err := d.flushErr.Load(); err != nil {
			s.FlushFailed = append(s.FlushFailed, (*err).Error())
		}
		if err := block.Resized(d.dev); err != nil {
			s.Resized = append(s.Resized, d.name()+": "+err.Error())
		}
	}
	if err := m.pool.spill.failed.Load(); err != nil {
		s.SpillFailed = (*err).Error()
	}
	return s
}

// ending tells why nothing goes on, nil while it does.
func (m *Machine) ending() error {
	if err := m.ended.Load(); err != nil {
		return *err
	}
	return nil
}
