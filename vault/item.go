package vault

import (
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
)

// State is where a replicated item stands. Together with Item.ActiveSite it is the
// row of the lifecycle table (asr.md 2.7); what runs at the moment is Item.Job.
type State string

// The states.
const (
	Enabling      State = "enabling"      // the enable job has not ended
	Synchronizing State = "synchronizing" // replication is enabled in Direction, its first point does not stand yet
	Protected     State = "protected"     // recovery points come
	FailedOver    State = "failed-over"   // runs at the other site, commit pending
	Committed     State = "committed"     // runs there, unprotected
	Disabling     State = "disabling"
	Migrated      State = "migrated" // migration completed: no way back (R25)
)

// TestState of an item's test failover.
type TestState string

// The test states.
const (
	TestNone    TestState = "none"
	TestOpen    TestState = "waiting-for-completion" // the test machine runs
	TestRunning TestState = "running"
	TestClosing TestState = "marked-for-deletion"
)

// End is one site of an item: which nodes serve it there, and where its copy lies.
type End struct {
	Site          string   `json:"site"`
	Agent         string   `json:"agent"`          // nodes
	ProcessServer string   `json:"process_server"` // takes what leaves this site
	MasterTarget  string   `json:"master_target"`  // takes what comes here
	Datastore     string   `json:"datastore,omitempty"`
	Retention     string   `json:"retention_volume,omitempty"` // mount path at the master target; empty: its default
	Disks         []string `json:"disks"`                      // references of this site's copies, in the machine's order
}

// Leg is one direction of an item: it has both for life.
type Leg struct {
	Direction     homeward.Direction `json:"direction"`
	ProcessServer string             `json:"process_server"`
	MasterTarget  string             `json:"master_target"`
	Policy        string             `json:"policy"`
}

// Item is a replicated item: one protected machine, under one id for life.
type Item struct {
	Meta
	ID          homeward.ItemID    `json:"id"`
	Machine     string             `json:"machine"` // Machine.ID at Original's site
	Name        string             `json:"name"`
	State       State              `json:"state"`
	Original    End                `json:"original"`    // where it was first protected
	Recovery    End                `json:"recovery"`    // where it is protected to
	Direction   homeward.Direction `json:"direction"`   // of the leg in force, or the last one
	ActiveSite  string             `json:"active_site"` // where the machine runs
	Policy      string             `json:"policy"`      // forward policy
	Replication Replication        `json:"replication"`
	Test        Test               `json:"test"`
	Job         string             `json:"job,omitempty"`    // that runs on it now
	Doomed      *Doomed            `json:"doomed,omitempty"` // removed once the leg in force is in sync (R169)
	Score       Score              `json:"failback_score"`
	Health      []Finding          `json:"health,omitempty"`
	Proof       string             `json:"proof,omitempty"` // id of the newest signed proof
	// Record is the way there and back as it stands; only the vault reads it.
	Record *recovery.Record `json:"-"`
	// Computed when it is asked for, from the lifecycle table.
	Legs    []Leg     `json:"legs,omitempty"`
	Allowed []Action  `json:"allowed,omitempty"`
	Refused []Refusal `json:"refused,omitempty"`
}

// Replication is how an item's leg in force stands.
type Replication struct {
	Phase      string            `json:"phase,omitempty"` // as the agent says
	Progress   homeward.Progress `json:"progress"`
	RPO        float64           `json:"rpo_seconds"` // age of the newest applied point; -1: not known
	Points     int               `json:"points"`
	Newest     time.Time         `json:"newest_point,omitzero"`
	LagBytes   int64             `json:"lag_bytes"` // not yet applied
	SpoolBytes int64             `json:"spool_bytes"`
	Retention  int64             `json:"retention_bytes"`
	Paused     bool              `json:"paused"`
	// Priority, 0 (first) to 9 (default 5), is who goes first of the jobs that wait for a
	// limit, and the item's part of bandwidth: 0 weighs ten times what 9 does.
	Priority int `json:"priority"`
	// Weight, 1 to 10, is its part of bandwidth as its process server has it: 10 less the
	// priority, at the latest some seconds after that was changed; 0: not known, or none.
	Weight int       `json:"weight,omitempty"`
	As     time.Time `json:"as_of,omitzero"`
	Why    string    `json:"why,omitempty"` // why it is not known, or does not advance
}

// Test is an item's test failover.
type Test struct {
	State     TestState `json:"state"`
	Machine   string    `json:"machine,omitempty"` // native id of the test machine
	Network   string    `json:"network,omitempty"`
	Point     string    `json:"point,omitempty"`
	Opened    time.Time `json:"opened,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	Succeeded time.Time `json:"succeeded,omitzero"` // the newest one that was cleaned up after it worked (R171)
}

// Doomed is a copy whose machine a committed failback removed (R118), and whose
// disks go only once the new direction is in sync (R169, C8).
type Doomed struct {
	Site string         `json:"site"`
	Refs []homeward.Ref `json:"refs"`
}

// Score is the standing answer to "could we come home now?".
type Score struct {
	Ready    bool      `json:"ready"`
	Blockers int       `json:"blockers"`
	Warnings int       `json:"warnings"`
	Unknown  int       `json:"unknown"`
	At       time.Time `json:"at,omitzero"`
}

// Refusal says why an action is not possible now, and what would make it.
type Refusal struct {
	Action Action `json:"action"`
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
	Rule   string `json:"rule,omitempty"`
	Job    string `json:"job,omitempty"` // the running one that stands in the way
}

// Point is a recovery point of an item, as the master target in force lists it.
type Point = homeward.Point
