package recovery

import (
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Record is what an item must not lose: plain data that JSON carries. A controller
// writes it down in Item.Save, and the next one goes on from it with Load: a list
// that was cut short is called again, and acts under the generation it had begun.
type Record struct {
	RunsAt   string `json:"runs_at"`   // name of the running side
	StandsAt string `json:"stands_at"` // name of the standby side

	Machine    homeward.Machine        `json:"machine"`
	Policy     homeward.Policy         `json:"policy"`
	State      State                   `json:"state"`
	Generation homeward.Generation     `json:"generation"`
	Next       homeward.Generation     `json:"next"`    // raised at some roles perhaps, by an operation that has not ended; zero: none
	Base       homeward.Position       `json:"base"`    // where the leg in force began
	Point      homeward.Point          `json:"point"`   // what was failed over to, while FailedOver or Committed
	Planned    bool                    `json:"planned"` // the running side was drained before the failover
	View       homeward.View           `json:"view"`    // what the failed-over machine runs on
	RunsOn     []string                `json:"runs_on"` // references of the disks behind the running side's agent
	Refs       map[string]homeward.Ref `json:"refs"`    // the machine at each site, by side name
	List       Unfinished              `json:"list"`
	// Interrupted is the reprotect that had not come to its first point when its running
	// side was given up for an older point. It stays until the next one has, or the cancel.
	Interrupted *Unfinished `json:"interrupted,omitempty"`

	Origin  string              `json:"origin,omitempty"`  // name of the side where it was first protected
	Moved   map[string][]string `json:"moved,omitempty"`   // copies that Relocate made, by side name; else Side.Disks
	Paused  bool                `json:"paused,omitempty"`  // ships nothing until Unpause; its map goes on
	Took    *Reversal           `json:"took,omitempty"`    // what the last reprotect predicted, and took
	Parting Parting             `json:"parting,omitzero"`  // what the last failover got out of the side it left
	Test    *Test               `json:"test,omitempty"`    // the open test failover
	Doomed  *Doomed             `json:"doomed,omitempty"`  // what RemoveDoomed will remove
	Leaving *Leaving            `json:"leaving,omitempty"` // the replica is on its way to another master target
	Serves  map[string]Serving  `json:"serves,omitempty"`  // by side name: where Reassociate led its replica last
	Left    []Left              `json:"left,omitempty"`    // what RemoveLeft will remove
	// Strayed says that a replica on its way to another master target was given up for a
	// failover: the map of the side that was left is not of the one that was booted.
	Strayed bool `json:"strayed,omitempty"`
	// Attached says that an item that is not protected any more still runs on its
	// agent's disks: Disable lets go of them when it is off.
	Attached bool `json:"attached,omitempty"`
	// Unseen says that the failed-over machine wrote where no agent saw it, as after an
	// offline recovery: the next reprotect compares everything.
	Unseen bool `json:"unseen,omitempty"`
}

// Snapshot is the record as it is now. It shares memory with the item: encode it
// before the item is used again.
func (it *Item) Snapshot() Record {
	r := it.Record
	r.RunsAt, r.StandsAt = it.Running.Name, it.Standby.Name
	return r
}

// Load is the item of a record, at the two sides that it names, in any order.
// Save and Watch are the caller's to set.
func Load(r Record, a, b *Side, log *slog.Logger) (*Item, error) {
	if r.RunsAt == b.Name {
		a, b = b, a
	}
	if r.RunsAt != a.Name || r.StandsAt != b.Name || r.RunsAt == r.StandsAt {
		return nil, homeward.Errorf("load item", homeward.Invalid, "item "+string(r.Machine.Item),
			"give the two sides that the record names", "it runs at %q and stands by at %q, the sides are %q and %q", r.RunsAt, r.StandsAt, a.Name, b.Name)
	}
	if r.Moved == nil {
		r.Moved = map[string][]string{}
	}
	if r.Refs == nil {
		r.Refs = map[string]homeward.Ref{}
	}
	return &Item{Record: r, Running: a, Standby: b, Log: log}, nil
}

// errSave is what an error of Item.Save is, too.
var errSave = errors.New("the record is not written down")

func (it *Item) save() error {
	if it.Save == nil {
		return nil
	}
	if err := it.Save(it); err != nil {
		return homeward.Errorf("write the record down", homeward.KindOf(err), "item "+string(it.ID()), homeward.RemedyOf(err), "%w: %w", errSave, err)
	}
	return nil
}

// savedDifferences are differences as they are written down.
type savedDifferences struct {
	Disks   []savedDisk        `json:"disks"`
	OldSide homeward.Certainty `json:"old_side"`
	Why     string             `json:"why,omitempty"`
}

type savedDisk struct {
	Disk    homeward.Disk `json:"disk"`
	Maps    [4][]byte     `json:"maps"` // old, undone, since, suspect; persisted block.Maps
	Reasons []string      `json:"reasons,omitempty"`
}

func (d *diskDifferences) maps() [4]**block.Map {
	return [4]**block.Map{&d.old, &d.undone, &d.since, &d.suspect}
}

// MarshalJSON implements json.Marshaler.
func (s *differences) MarshalJSON() ([]byte, error) {
	out := savedDifferences{OldSide: s.oldSide, Why: s.why}
	for i := range s.disks {
		d := savedDisk{Disk: s.disks[i].disk, Reasons: s.disks[i].reasons}
		for n, m := range s.disks[i].maps() {
			var err error
			if d.Maps[n], err = (*m).MarshalBinary(); err != nil {
				return nil, err
			}
		}
		out.Disks = append(out.Disks, d)
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *differences) UnmarshalJSON(data []byte) error {
	var in savedDifferences
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*s = differences{oldSide: in.OldSide, why: in.Why}
	for _, saved := range in.Disks {
		d := diskDifferences{disk: saved.Disk, reasons: saved.Reasons}
		for n, m := range d.maps() {
			var err error
			if *m, err = block.UnmarshalMap(saved.Maps[n], saved.Disk.Blocks()); err != nil {
				return err
			}
		}
		s.disks = append(s.disks, d)
	}
	return nil
}
