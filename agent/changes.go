package agent

import (
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// changed is every block of a disk that the replica is not known to have.
func (it *item) changed(disk int) *block.Map {
	m := it.machine.Dirty(disk)
	it.backlog.addTo(disk, m)
	return m
}

// changedBytes is the size of changed.
func (it *item) changedBytes(disk int) int64 {
	if it.backlog.has(disk) {
		return it.changed(disk).Count() * block.Size
	}
	return it.machine.DirtyBytes(disk)
}

// changes is the map of an open item as of now.
func (it *item) changes() (homeward.Changes, error) {
	r := it.snapshot()
	c := homeward.Changes{Item: it.id, Generation: r.InForce, Suspects: it.suspectSet()}
	c.Since, c.Pending = it.chain.stands()
	for i, d := range r.Request.Machine.Disks {
		dirty, suspect := it.changed(i), it.machine.Suspect(i)
		suspect.AndNot(dirty)
		dc, err := diskChanges(d.ID, dirty, suspect, it.machine.Reasons(i))
		if err != nil {
			return c, err
		}
		c.Disks = append(c.Disks, dc)
	}
	return c, nil
}

// diskChanges are maps of one disk as they travel.
func diskChanges(id homeward.DiskID, changed, suspect *block.Map, reasons []string) (homeward.DiskChanges, error) {
	dc := homeward.DiskChanges{Disk: id, ChangedBytes: changed.Count() * block.Size, SuspectBytes: suspect.Count() * block.Size}
	var err error
	if dc.Changed, err = changed.MarshalBinary(); err == nil && dc.SuspectBytes > 0 {
		dc.Reasons = reasons
		dc.Suspect, err = suspect.MarshalBinary()
	}
	return dc, homeward.Wrap(err, "report map", string(id))
}

// markChanged ORs blocks into the map of a running capture; with it.calls held.
func (it *item) markChanged(req homeward.MarkRequest) error {
	r := it.snapshot()
	switch {
	case !r.live():
		return errUnknown("mark changed", it.id)
	case r.InForce.Fences(req.Generation):
		return fencedBy(it.id, r.InForce)
	case req.Generation != r.InForce || r.State != homeward.CaptureRunning:
		return homeward.Errorf("mark changed", homeward.Conflict, string(it.id), "prepare the item under this generation first",
			"it does not capture under generation %d", req.Generation.Number)
	}
	maps, err := mapsOf("disks", req.Disks, r.Request.Machine)
	if err != nil {
		return err
	}
	for i, m := range maps {
		if err := it.machine.Mark(i, m); err != nil {
			return homeward.Wrap(err, "mark changed", string(it.id))
		}
	}
	it.meter.fullReads(req.FullReads)
	it.host.cfg.Fault("marked")
	if !req.Complete {
		return nil
	}
	if err := it.becomeWhole(req.Suspects); err != nil {
		return err
	}
	if l := it.replication(); l != nil {
		l.nudge()
	}
	return nil
}

func (it *item) suspectSet() homeward.ID {
	it.judging.Lock()
	defer it.judging.Unlock()
	return it.suspects
}

// becomeWhole takes compared blocks out of the suspect set; compared names the
// set that was. Blocks that became suspect since, after a power loss amid the
// comparison say, were not.
func (it *item) becomeWhole(compared homeward.ID) error {
	it.judging.Lock()
	defer it.judging.Unlock()
	for i := range it.disks {
		if it.machine.SuspectBytes(i) > 0 && compared != it.suspects {
			return homeward.Errorf("mark changed", homeward.Conflict, string(it.id), "ask for the changes and compare again",
				"blocks of disk %d are suspect that were not compared", i)
		}
	}
	for i := range it.disks {
		if err := it.machine.ClearSuspect(i, it.machine.Suspect(i)); err != nil {
			return homeward.Wrap(err, "clear suspect blocks", string(it.id))
		}
	}
	if err := it.amend(func(r *record) { r.Complete = true }); err != nil {
		return err
	}
	it.alarms.clear(alarmSuspect)
	return nil
}

// replication is the leg that runs now, or nil.
func (it *item) replication() *leg {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.leg
}

// mapsOf reads the changed maps of a request, by disk number. All are read before
// any is used.
func mapsOf(field string, disks []homeward.DiskChanges, machine homeward.Machine) (map[int]*block.Map, error) {
	index := map[homeward.DiskID]int{}
	for i, d := range machine.Disks {
		index[d.ID] = i
	}
	maps := map[int]*block.Map{}
	for n, dc := range disks {
		name := fmt.Sprintf("%s[%d]", field, n)
		i, known := index[dc.Disk]
		if !known {
			return nil, homeward.Errorf("read maps", homeward.Invalid, name+".disk", "name a disk of the machine", "no disk %q", dc.Disk)
		}
		if len(dc.Changed) == 0 {
			continue
		}
		m, err := mapOf(name+".changed", dc.Changed, machine.Disks[i])
		if err != nil {
			return nil, err
		}
		if maps[i] != nil {
			m.Or(maps[i])
		}
		maps[i] = m
	}
	return maps, nil
}
