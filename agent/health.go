package agent

import (
	"cmp"
	"slices"

	"github.com/homeward-dr/homeward"
)

// Generations are those in force for every item this agent was ever told of, also
// for those it has released. An item whose record cannot be read is missing, and
// among the alarms.
func (a *Agent) Generations() map[homeward.ItemID]homeward.Generation {
	known := map[homeward.ItemID]homeward.Generation{}
	for _, it := range a.known() {
		if g := it.snapshot().InForce; it.broken == nil && !g.IsZero() {
			known[it.id] = g
		}
	}
	return known
}

// Alarms are those of all items, each naming its item; they stand as of the newest
// report of the item.
func (a *Agent) Alarms() (all []homeward.Alarm) {
	for _, it := range a.known() {
		if it.broken != nil {
			it.alarms.raiseError("record-unreadable", it.broken)
		}
		for _, alarm := range it.alarms.list() {
			alarm.Text = "item " + string(it.id) + ": " + alarm.Text
			all = append(all, alarm)
		}
	}
	return all
}

// known are all items, by name.
func (a *Agent) known() []*item {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]*item, 0, len(a.items))
	for _, it := range a.items {
		list = append(list, it)
	}
	slices.SortFunc(list, func(x, y *item) int { return cmp.Compare(x.id, y.id) })
	return list
}
