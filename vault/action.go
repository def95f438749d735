package vault

import (
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
)

// Action is what can be done with an item.
type Action string

// The actions, in the order of the round trip.
const (
	Enable            Action = "enable"
	TestFailover      Action = "test-failover"
	CleanUpTest       Action = "test-failover-cleanup"
	Failover          Action = "failover"
	ChangePoint       Action = "change-recovery-point"
	Commit            Action = "commit"
	Reprotect         Action = "reprotect"
	Resync            Action = "resync"
	FailbackAction    Action = "failback"
	CancelFailover    Action = "cancel-failover" // of a failover, or of a failback, before commit
	Disable           Action = "disable"
	CompleteMigration Action = "complete-migration"
	Pause             Action = "pause"
	Resume            Action = "resume"
	Adopt             Action = "adopt" // the state that the nodes report, where the item was moved without this vault
)

// Actions are all of them.
func Actions() []Action {
	return []Action{Enable, TestFailover, CleanUpTest, Failover, ChangePoint, Commit, Reprotect, Resync, FailbackAction, CancelFailover, Disable, CompleteMigration, Pause, Resume, Adopt}
}

// Which point to recover to.
const (
	Latest    = "latest"                // processes everything that is on its way first, if its source can be asked
	LatestApp = "latest-app-consistent" // some loss (R125)
	// LostWrites is the branch: the last state of the side that stands by, from when the
	// machine ran there.
	LostWrites = recovery.BranchName
)

// Location says where a reprotect brings the machine back to (R29).
const (
	OriginalLocation  = "original"  // the machine's own disks: only what changed travels (R114)
	AlternateLocation = "alternate" // a new machine and a full copy (R36)
)

// Input is what an action is given; fields that do not belong to the action are
// refused by name.
type Input struct {
	// Enable: the machine is ActionRequest.Machine.
	Target        string `json:"target_site,omitempty"`
	Policy        string `json:"policy,omitempty"`
	Agent         string `json:"agent,omitempty"`            // of the machine's site; empty: the only one there
	MasterTarget  string `json:"master_target,omitempty"`    // also of Reprotect (R39)
	ProcessServer string `json:"process_server,omitempty"`   // also of Reprotect (R39, R120)
	Datastore     string `json:"datastore,omitempty"`        // also of Reprotect: demanded, ignored where disks exist (R40)
	Retention     string `json:"retention_volume,omitempty"` // also of Reprotect (R41)

	// Failover, failback, change point, test failover.
	Point    string `json:"point,omitempty"`    // Latest, LatestApp, LostWrites, a position, or "-30s": the newest that old
	Shutdown bool   `json:"shutdown,omitempty"` // failover: shut the source down first; goes on if that fails
	Probe    *Probe `json:"probe,omitempty"`    // what "booted" means; nil: the machine's agent sees it at its disks

	// Test failover.
	Network  string        `json:"network,omitempty"`  // an isolated one; production's is refused
	Lifetime time.Duration `json:"lifetime,omitempty"` // 0: 24 h; at most 14 days; then it is cleaned up by itself

	// Reprotect.
	Direction homeward.Direction `json:"direction,omitzero"` // preselected (R38)
	Location  string             `json:"location,omitempty"` // OriginalLocation (default) or AlternateLocation

	// Disable: also when its source cannot be told. Failback: go on without what its
	// source does not do within a minute. Adopt: also when the side where the machine does
	// not run cannot be asked.
	Force bool `json:"force,omitempty"`
	// Disable, while the item synchronizes: the only state of the side that stands by that
	// boots, the branch, goes too.
	DiscardBranch bool `json:"discard_branch,omitempty"`

	// Overrides let checks pass that may be overridden, each with a reason, audited.
	Overrides map[string]string `json:"overrides,omitempty"` // rule id → reason
}

// Probe asks whether a machine is up.
type Probe struct {
	TCP     string        `json:"tcp,omitempty"`     // host:port that must accept
	HTTP    string        `json:"http,omitempty"`    // URL that must answer 2xx or 3xx
	Command []string      `json:"command,omitempty"` // run at the site's configuration server; exit code 0: up
	Timeout time.Duration `json:"timeout,omitempty"` // 0: 5 min; then the job pauses: retry, skip, abort
}

// ActionRequest asks for an action.
type ActionRequest struct {
	Item    homeward.ItemID `json:"item"`
	Machine string          `json:"machine,omitempty"` // Enable only: Machine.ID
	Action  Action          `json:"action"`
	Input   Input           `json:"input"`
	// Key makes the request idempotent: the same again, within a day, answers the job
	// it made; with another content it is refused.
	Key      string `json:"key,omitempty"`
	Revision int64  `json:"revision,omitempty"` // of the item that was looked at; 0: any
}

// Plan is what an action would do, by the same code that would do it: the answer
// to --dry-run.
type Plan struct {
	Item     homeward.ItemID    `json:"item"`
	Action   Action             `json:"action"`
	Allowed  bool               `json:"allowed"`
	Why      string             `json:"why,omitempty"` // not allowed
	Tasks    []Task             `json:"tasks"`
	Findings []Finding          `json:"findings,omitempty"` // of the checks that bear on it; blockers stop it
	Estimate *homeward.Estimate `json:"estimate,omitempty"`
	Seeds    *SeedsEstimate     `json:"seeds_estimate,omitempty"`
	Losses   []string           `json:"losses,omitempty"`
	Adoption *recovery.Adoption `json:"adoption,omitempty"` // of Adopt: what is recorded, what was found, and what will change
}

// SeedsEstimate is the seeds' own formula beside ours (R161 to R167), in seconds:
// checksum + transfer + a fifth of both + autoscale.
type SeedsEstimate struct {
	Checksum   float64 `json:"checksum_seconds"`   // the enable job's duration (R162)
	Transfer   float64 `json:"transfer_seconds"`   // changed bytes at 23 % of disk throughput (R163)
	Processing float64 `json:"processing_seconds"` // a fifth of both (R165)
	Autoscale  float64 `json:"autoscale_seconds"`  // 20 to 30 min (R166); the larger
	Total      float64 `json:"total_seconds"`
	Known      bool    `json:"known"`
	Why        string  `json:"why,omitempty"` // why it is not known
}
