package mastertarget

import (
	"slices"

	"github.com/homeward-dr/homeward"
)

// Generations are those in force here, of every item that any was ever told for:
// also of one that was forgotten, or whose volume is not mounted.
func (t *Target) Generations() map[homeward.ItemID]homeward.Generation {
	known := map[homeward.ItemID]homeward.Generation{}
	for _, it := range t.list() {
		if g := it.fence.generation(); !g.IsZero() {
			known[it.id] = g
		}
	}
	return known
}

// ReplicaDisks are the references of all replica disks of the items that are
// prepared here. Those of an item that could not be opened are not known.
func (t *Target) ReplicaDisks() (refs []string) {
	for _, it := range t.list() {
		refs = append(refs, it.state().Leg.Disks...)
	}
	return refs
}

// VolumesInUse are the paths of the volumes that items are on, each once.
func (t *Target) VolumesInUse() (paths []string) {
	for _, it := range t.list() {
		if st := it.state(); st.State != "" || st.fault != nil {
			paths = append(paths, it.on)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// Alarms are those of all items, and their faults, each naming its item.
func (t *Target) Alarms() (all []homeward.Alarm) {
	for _, it := range t.list() {
		r, err := reporter{it}.report()
		if err != nil { // forgotten
			continue
		}
		if r.Fault != "" {
			all = append(all, reporter{it}.alarm("replica-fault", r.Fault, r.Remedy))
		} else {
			it.settle("replica-fault")
		}
		for _, a := range r.Alarms {
			a.Text = it.subject() + ": " + a.Text
			all = append(all, a)
		}
	}
	return all
}

// settle forgets since when an alarm was told of: its cause is gone.
func (it *item) settle(code string) {
	it.mu.Lock()
	defer it.mu.Unlock()
	delete(it.alarms, code)
}
