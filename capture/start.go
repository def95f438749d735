package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// found is what recover learned about one disk.
type found struct {
	kind    StartKind
	saved   *checkpoint // nil: to be made anew
	log     *hotLog     // nil: to be made anew
	reasons []string    // why blocks are suspect
}

// begin finds out what an earlier run left, puts it into the maps of this one, and
// makes all files good again before the first write is let in.
func (m *Machine) begin() error {
	old, err := m.readStamp()
	if homeward.KindOf(err) == homeward.Corrupt {
		old, err = nil, nil
		m.notes.start = StartUnreadable
	}
	if err != nil {
		return err
	}
	if err := m.checkDisks(old); err != nil {
		return err
	}
	if old == nil || old.State == stampCreating {
		err = m.create(old)
	} else {
		m.instance = old.Instance
		err = m.recover(old)
	}
	if err != nil {
		return err
	}
	if old != nil && old.State == stampHandedOver {
		m.end(homeward.Errorf("write", homeward.Fenced, "", "write at the side that took over", "%w", ErrHandedOver))
		return nil
	}
	return m.writeStamp(stampRunning)
}

// checkDisks refuses disks that cannot be those of the stamp.
func (m *Machine) checkDisks(old *stamp) error {
	if old == nil {
		return nil
	}
	if len(old.Disks) != len(m.disks) {
		return homeward.Errorf("open capture", homeward.Invalid, m.cfg.Dir, "give the disks it captured, or forget them first",
			"it has the maps of %d disks, given are %d", len(old.Disks), len(m.disks))
	}
	for i, d := range m.disks {
		if d.size < old.Disks[i].Size {
			return homeward.Errorf("open capture", homeward.Invalid, d.name(), "restore its size: a disk must not shrink while it is protected",
				"it has %d bytes, and had %d", d.size, old.Disks[i].Size)
		}
	}
	return nil
}

// create makes the files of a machine of which nothing is known. Without a stamp
// but with other files, something was lost: all is suspect.
func (m *Machine) create(old *stamp) error {
	why := ""
	if m.notes.start == StartUnreadable {
		why = "the stamp is damaged"
	} else if old == nil {
		for _, d := range m.disks {
			if _, err := m.cfg.FS.Stat(d.file("map")); err == nil {
				why = "the stamp is missing"
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	m.instance = homeward.NewID()
	if why == "" {
		if err := m.writeStamp(stampCreating); err != nil {
			return err
		}
	}
	for _, d := range m.disks {
		f := &found{kind: StartFresh}
		if err := d.freshLive(); err != nil {
			return err
		}
		if why != "" {
			f = d.allSuspect(why)
		}
		d.settle(f)
	}
	return nil
}

func (m *Machine) recover(old *stamp) error {
	for i, d := range m.disks {
		f, err := d.recover(old.State, old.Disks[i])
		if err != nil {
			return err
		}
		d.settle(f)
	}
	return nil
}

func (d *disk) liveID() liveID {
	return liveID{boot: d.m.cfg.BootID, instance: d.m.instance, size: d.size}
}

func (d *disk) freshLive() error {
	l, err := createLive(livePath(d.m.cfg.LiveDir, d.index), d.blocks, d.liveFull)
	if err != nil {
		return err
	}
	d.assign(l)
	return nil
}

// liveFull is told when the live map cannot grow: the map stays exact, but only
// as long as this process lives.
func (d *disk) liveFull(err error) {
	d.m.cfg.Log.Error("no room for the live map: a kill of this process would make the disk suspect", "disk", d.index, "error", err)
	d.m.notes.add(d.index, fmt.Sprintf("no room for the live map: %v; after a kill of the agent the whole disk would be suspect", err))
}

// recover fills the maps of one disk from what is left.
func (d *disk) recover(state string, old diskStamp) (*found, error) {
	if state == stampRunning && old.Size == d.size {
		if f := d.survived(old); f != nil {
			return f, nil
		}
	}
	if err := d.freshLive(); err != nil {
		return nil, err
	}
	if why, err := d.untrusted(); err != nil || why != "" {
		return d.allSuspect(why), err
	}
	f := &found{kind: StartClean, reasons: old.Reasons}
	if state == stampHandedOver {
		f.kind = StartHandedOver
	}
	torn, why := d.readCheckpoint(f, old.Size)
	if why != "" {
		return d.allSuspect(why), nil
	}
	if state == stampRunning {
		return d.rebooted(f, torn, old.Size), nil
	}
	if len(torn) > 0 {
		return d.allSuspect(fmt.Sprintf("map damaged: %d pages of a checkpoint that was closed properly", len(torn))), nil
	}
	if why := d.foreign(state, old); why != "" {
		return d.allSuspect(why), nil
	}
	d.grown(f, old.Size)
	return f, nil
}

// readCheckpoint adds the bits of the checkpoint to the maps, or tells why it cannot.
func (d *disk) readCheckpoint(f *found, size int64) (torn []int64, why string) {
	maps := [checkpointMaps]*bitmap{d.active.Load(), d.suspect}
	saved, torn, err := openCheckpoint(d.m.cfg.FS, d.file("map"), d.m.instance, size, block.BlocksOf(size), maps)
	if err != nil {
		return nil, "map unreadable: " + err.Error()
	}
	f.saved = saved
	return torn, ""
}

// survived takes the live map of a process that was killed under us; nil: there is
// none of this boot, or none that can be read, and the files must do.
func (d *disk) survived(old diskStamp) *found {
	l, lost, err := reopenLive(livePath(d.m.cfg.LiveDir, d.index), d.liveID(), d.blocks, d.liveFull)
	if err != nil {
		d.m.cfg.Log.Error("the live map cannot be read: going on from the checkpoint", "disk", d.index, "error", err)
		return nil
	}
	if l == nil {
		return nil
	}
	d.assign(l)
	for _, b := range []*bitmap{d.frozen, d.older, d.newer} { // or first: a kill amid this loses nothing
		d.active.Load().or(b)
		b.clear()
	}
	if lost {
		return d.allSuspect("agent killed while there was no room for the live map")
	}
	return &found{kind: StartSurvived, reasons: old.Reasons}
}

// rebooted adds what the checkpoint may lack.
func (d *disk) rebooted(f *found, torn []int64, before int64) *found {
	log, hot, err := openHotLog(d.m.cfg.FS, d.file("hot"), d.m.instance)
	if err != nil {
		_ = f.saved.file.Close() // made anew
		return d.allSuspect("activity log unreadable: " + err.Error())
	}
	f.kind, f.log = StartReboot, log
	for _, e := range hot {
		d.suspectRange(int64(e)*extentBlocks, extentBlocks)
	}
	for _, p := range torn {
		d.suspectRange(p*pageBlocks, pageBlocks)
	}
	if len(hot) > 0 {
		f.reasons = append(f.reasons, fmt.Sprintf("power loss or reboot without a clean detach: %d hot extents of 16 MiB", len(hot)))
	}
	if len(torn) > 0 {
		f.reasons = append(f.reasons, fmt.Sprintf("power loss: %d pages of the map were being written", len(torn)))
	}
	d.grown(f, before)
	return f
}

func (d *disk) suspectRange(start, count int64) {
	if start < d.blocks {
		d.suspect.set(start, min(count, d.blocks-start))
	}
}

// grown marks what a disk has more than before; its files have to be made anew.
func (d *disk) grown(f *found, before int64) {
	if before == d.size {
		return
	}
	first := before / block.Size // the last block may have been partial
	d.active.Load().set(first, d.blocks-first)
	f.reasons = append(f.reasons, fmt.Sprintf("the disk grew from %d to %d bytes: the new range is dirty", before, d.size))
	_ = f.saved.file.Close() // made anew, both
	if f.log != nil {
		_ = f.log.file.Close()
	}
	f.saved, f.log = nil, nil
}

// untrusted tells why an earlier run gave up the files of this disk; empty: it did not.
func (d *disk) untrusted() (string, error) {
	why, err := durable.ReadFile(d.m.cfg.FS, d.file("untrusted"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return "map given up in an earlier run: " + string(why), err
}

// foreign tells why a disk cannot be what was detached cleanly.
func (d *disk) foreign(state string, old diskStamp) string {
	if state != stampClean {
		return ""
	}
	now, err := sample(d.dev, old.Size)
	if err != nil {
		return "cannot read the disk: " + err.Error()
	}
	if now != old.Sample {
		return "somebody wrote to the disk while it was detached"
	}
	return ""
}

// allSuspect gives up what the files say.
func (d *disk) allSuspect(why string) *found {
	d.suspect.set(0, d.blocks)
	d.m.cfg.Log.Error("the whole disk is suspect", "disk", d.index, "reason", why)
	return &found{kind: StartUnreadable, reasons: []string{why}}
}

// settle makes the files of a disk agree with its maps, in an order that a crash
// anywhere in it leaves a set that is believed no more than it deserves: the live
// map is sealed when it has all bits, then the checkpoint has them, and only then
// the log forgets and the mark of distrust goes. Where the files cannot be made,
// the guest runs without them.
func (d *disk) settle(f *found) {
	d.m.notes.found(d.index, f)
	if err := d.live.seal(d.liveID()); err != nil {
		d.liveFull(err)
	}
	err := d.makeFiles(f)
	d.keep = newKeeper(d, f.saved, f.log)
	if err == nil {
		err = d.keep.finish()
	}
	if err == nil {
		err = durable.Remove(d.m.cfg.FS, d.file("untrusted"))
	}
	if err != nil {
		d.keep.fail("checkpoint or activity log cannot be made", err)
	}
}

func (d *disk) makeFiles(f *found) (err error) {
	if f.saved == nil {
		maps := [checkpointMaps]*bitmap{d.active.Load(), d.suspect}
		f.saved, err = createCheckpoint(d.m.cfg.FS, d.file("map"), d.m.instance, d.size, d.blocks, maps)
		if err != nil {
			return err
		}
	}
	if f.log == nil {
		f.log, err = createHotLog(d.m.cfg.FS, d.file("hot"), d.m.instance)
	}
	return err
}

// Forget removes what an engine keeps of a machine in cfg.Dir and cfg.LiveDir,
// for a machine that is not protected any more or begins a new life. InUse while
// an engine has it open. Baselines stay.
func Forget(cfg Config) error {
	if cfg.FS == nil {
		cfg.FS = durable.OS()
	}
	if _, err := cfg.FS.Stat(cfg.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := durable.LockFile(cfg.FS, lockPath(cfg.Dir))
	if err != nil {
		return err
	}
	m := &Machine{cfg: cfg}
	for i := range homeward.MaxDisks {
		d := &disk{m: m, index: i}
		for _, ext := range []string{"map", "hot", "untrusted"} {
			if _, gone := cfg.FS.Stat(d.file(ext)); gone == nil {
				err = errors.Join(err, cfg.FS.Remove(d.file(ext)))
			}
		}
		if gone := os.Remove(livePath(cfg.LiveDir, i)); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, durable.SystemError("forget", cfg.LiveDir, gone))
		}
	}
	// The stamp goes last: a crash before leaves "unreadable", not "fresh".
	err = errors.Join(err, cfg.FS.SyncDir(cfg.Dir), durable.Remove(cfg.FS, m.stampPath()))
	return errors.Join(err, lock.Unlock())
}
