package agent

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

// The alarms of an item.
const (
	alarmDisks     = "disks-not-opened"   // the item cannot be resumed
	alarmFenced    = "fenced"             // another generation is in force: nothing is exported
	alarmUnknown   = "generation-unknown" // nobody could tell the generation in force
	alarmAway      = "target-away"        // the next hop does not answer
	alarmFault     = "target-fault"       // it answers, and cannot apply
	alarmElsewhere = "target-elsewhere"   // the replica is in a state this side does not know
	alarmDemotions = "demotions"          // cuts are given up one after the other
	alarmFreeze    = "freeze-failed"
	alarmThaw      = "thaw-failed"
	alarmSuspect   = "map-suspect" // blocks must be compared by digest
	alarmCapture   = "capture"     // the capture of writes itself reports a fault
	alarmRPO       = "rpo"
)

// alarms are the conditions of one item that are true now. Safe for concurrent use.
type alarms struct {
	mu  sync.Mutex
	now func() time.Time
	set map[string]homeward.Alarm
}

func newAlarms(now func() time.Time) *alarms {
	return &alarms{now: now, set: map[string]homeward.Alarm{}}
}

// raise sets an alarm or, keeping since when, its text.
func (a *alarms) raise(code, text, remedy string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	since := a.now().UTC()
	if old, is := a.set[code]; is {
		since = old.Since
	}
	a.set[code] = homeward.Alarm{Code: code, Text: text, Remedy: remedy, Since: since}
}

// raiseError is raise with what an error tells.
func (a *alarms) raiseError(code string, err error) {
	a.raise(code, err.Error(), homeward.RemedyOf(err))
}

func (a *alarms) clear(codes ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range codes {
		delete(a.set, c)
	}
}

// reset clears all.
func (a *alarms) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.set)
}

// list is sorted by code.
func (a *alarms) list() []homeward.Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.set), func(x, y homeward.Alarm) int { return cmp.Compare(x.Code, y.Code) })
}
