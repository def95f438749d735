package recovery

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// differences are the maps a reprotect joins, per disk of the item.
type differences struct {
	disks []diskDifferences
	// oldSide says how far the old side's own map may be believed.
	oldSide homeward.Certainty
	why     string
	away    []string // sources of an outlook that could not be asked, and why
	copied  bool     // to disks that hold nothing
}

type diskDifferences struct {
	disk    homeward.Disk
	old     *block.Map // the standby side wrote after the newest state the running side got
	undone  *block.Map // the running side got after the point and gave up
	since   *block.Map // the running side wrote since the point
	suspect *block.Map // any of them, not known exactly
	travels *block.Map // in the running side's map when it was asked last
	reasons []string
}

func (it *Item) noDifferences() *differences {
	set := &differences{oldSide: homeward.Exact}
	for _, d := range it.Machine.Disks {
		n := d.Blocks()
		set.disks = append(set.disks, diskDifferences{disk: d, old: block.NewMap(n), undone: block.NewMap(n),
			since: block.NewMap(n), suspect: block.NewMap(n)})
	}
	return set
}

// differences collects the maps, for a reprotect: the old side is handed over
// first, so that its map can not grow any more.
func (it *Item) differences(ctx context.Context) (*differences, error) {
	return it.collect(ctx, it.Running, func() (homeward.Changes, error) {
		return it.Standby.Agent.Handover(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
	}, func(error) bool { return false })
}

// outlook is what the maps say as of now, for an estimate: the machine runs on one
// side, the other is the old one. What cannot be asked is unknown, not an error.
func (it *Item) outlook(ctx context.Context) (*differences, error) {
	now, old := it.Running, it.Standby
	if it.State == FailedOver {
		now, old = old, now
	}
	return it.collect(ctx, now, func() (homeward.Changes, error) {
		return old.Agent.Changes(ctx, homeward.ItemRequest{Item: it.ID()})
	}, homeward.Retryable)
}

const theOldSide = "the old side"

// collect joins what the side where the machine runs knows, and what the old side
// answers. An error that passes makes every block suspect, and the set unknown.
func (it *Item) collect(ctx context.Context, now *Side, oldSide func() (homeward.Changes, error), passes func(error) bool) (*differences, error) {
	set := it.noDifferences()
	if err := set.add(homeward.Changes{Disks: it.Interrupted.Uncompared()}, func(d *diskDifferences) *block.Map { return d.suspect }); err != nil {
		return set, err
	}
	if it.Unseen {
		set.suspectAll("it ran at " + now.Name + " where no agent saw what it wrote")
	}
	id := homeward.ItemRequest{Item: it.ID()}
	for _, source := range []struct {
		name string
		ask  func() (homeward.Changes, error)
		into func(*diskDifferences) *block.Map
	}{
		{"the master target at " + now.Name, func() (homeward.Changes, error) { return now.Target.Diverged(ctx, id) },
			func(d *diskDifferences) *block.Map { return d.undone }},
		{"the agent at " + now.Name, func() (homeward.Changes, error) { return now.Agent.Changes(ctx, id) },
			func(d *diskDifferences) *block.Map { return d.since }},
		{theOldSide, oldSide, func(d *diskDifferences) *block.Map { return d.old }},
	} {
		found, err := source.ask()
		switch {
		case err == nil:
			if err = set.add(found, source.into); source.name == theOldSide && it.Strayed {
				set.distrust(source.name, errStrayed)
			}
		case ctx.Err() != nil:
		case passes(err):
			set.away = append(set.away, source.name+": "+err.Error())
			set.distrust(source.name, err)
			err = nil
		case source.name == theOldSide && homeward.KindOf(err) == homeward.NotFound:
			// The agent knows nothing of the item: every block may differ. Unknown is never
			// absent.
			set.distrust(source.name, err)
			err = nil
		}
		if err != nil {
			return set, err
		}
	}
	return set, nil
}

func (s *differences) distrust(source string, why error) {
	s.oldSide, s.why = homeward.Unknown, why.Error()
	s.suspectAll("the map of " + source + " is not known: " + why.Error())
}

// suspectAll has every block compared.
func (s *differences) suspectAll(why string) {
	for i := range s.disks {
		d := &s.disks[i]
		d.suspect.Set(0, d.suspect.Blocks())
		d.reasons = append(d.reasons, why)
	}
}

// add ORs what one source says into the chosen map of each disk.
func (s *differences) add(c homeward.Changes, into func(*diskDifferences) *block.Map) error {
	for _, dc := range c.Disks {
		d := s.byID(dc.Disk)
		if d == nil {
			return homeward.Errorf("join maps", homeward.Invalid, "disk "+string(dc.Disk),
				"protect the machine again: its disks changed", "not a disk of the item")
		}
		if err := orInto(into(d), dc.Changed); err != nil {
			return err
		}
		if err := orInto(d.suspect, dc.Suspect); err != nil {
			return err
		}
		d.reasons = append(d.reasons, dc.Reasons...)
	}
	return nil
}

// refresh takes over what the running side says now. What was known to differ and
// is not in its map any more has travelled; written and suspect since, it has to
// be compared like everything that does not travel.
func (s *differences) refresh(now homeward.Changes) error {
	for i := range s.disks {
		d := &s.disks[i]
		d.travels = block.NewMap(d.disk.Blocks())
	}
	return s.add(now, func(d *diskDifferences) *block.Map { return d.travels })
}

func (s *differences) byID(id homeward.DiskID) *diskDifferences {
	for i := range s.disks {
		if s.disks[i].disk.ID == id {
			return &s.disks[i]
		}
	}
	return nil
}

func orInto(m *block.Map, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	other, err := block.UnmarshalMap(data, m.Blocks())
	if err != nil {
		return err
	}
	if other.Blocks() != m.Blocks() {
		return homeward.Errorf("join maps", homeward.Invalid, fmt.Sprintf("map of %d blocks", other.Blocks()),
			"protect the machine again: a disk changed its size", "the disk has %d blocks", m.Blocks())
	}
	m.Or(other)
	return nil
}

// union is what is known to differ on a disk.
func (d *diskDifferences) union() *block.Map {
	m := d.old.Clone()
	m.Or(d.undone)
	m.Or(d.since)
	return m
}

// known is the union of all disks, as it travels.
func (s *differences) known() []homeward.DiskChanges {
	var out []homeward.DiskChanges
	for i := range s.disks {
		out = append(out, changed(s.disks[i].disk.ID, s.disks[i].union()))
	}
	return out
}

func changed(id homeward.DiskID, m *block.Map) homeward.DiskChanges {
	data, err := m.MarshalBinary()
	if err != nil { // block.Map.MarshalBinary has nothing that can fail
		panic(err)
	}
	return homeward.DiskChanges{Disk: id, Changed: data, ChangedBytes: m.Count() * homeward.BlockSize}
}
