package vault

import (
	"context"
	"iter"

	"github.com/homeward-dr/homeward"
)

// Vault is everything an operator can see and ask for. The caller is in the
// context (WithCaller). Lists are in a stable order. Errors are those of the root
// package, with its kinds: Invalid names the field, NotFound the id, Conflict what
// is allowed instead, Forbidden the access that it takes.
//
// Safe for concurrent use.
type Vault interface {
	Sites
	Nodes
	Items
	Recoveries
	Policies
	Jobs
	Oversight
	Admission
}

// Sites are where machines run.
type Sites interface {
	Sites(ctx context.Context, q Query) (Page[Site], error)
	Site(ctx context.Context, name string) (Site, error)
	PutSite(ctx context.Context, req SiteRequest) (Site, error)
	DeleteSite(ctx context.Context, name string) error // refused while nodes or items are there
	// RefreshSite reads a site's inventory now ("refresh configuration server").
	RefreshSite(ctx context.Context, name string) (Site, error)
	Machines(ctx context.Context, q Query) (Page[Machine], error)
	Machine(ctx context.Context, id string) (Machine, error)
}

// Nodes are the enrolled roles.
type Nodes interface {
	Nodes(ctx context.Context, q Query) (Page[Node], error)
	Node(ctx context.Context, name string) (Node, error)
	CreateEnrolment(ctx context.Context, req EnrolmentRequest) (EnrolmentToken, error)
	Enrolments(ctx context.Context, q Query) (Page[EnrolmentToken], error)
	RevokeNode(ctx context.Context, name string) (Node, error)
	// SetAddresses replaces what peers use to reach a node.
	SetAddresses(ctx context.Context, name string, a []Address) (Node, error)
}

// Items are the protected machines.
type Items interface {
	Items(ctx context.Context, q Query) (Page[Item], error)
	Item(ctx context.Context, id homeward.ItemID) (Item, error)
	Points(ctx context.Context, id homeward.ItemID) (homeward.PointList, error)
	Pin(ctx context.Context, req homeward.PinRequest) error
	Unpin(ctx context.Context, req homeward.PinRequest) error
	Readiness(ctx context.Context, id homeward.ItemID) (Readiness, error)
	// Prove digests both sides at one point and answers the signed report (package pki).
	Prove(ctx context.Context, id homeward.ItemID) (Job, error)
	Proof(ctx context.Context, id homeward.ItemID) ([]byte, error)
}

// Recoveries are what is done with items.
type Recoveries interface {
	// Placement tells the inputs of the item's next reprotect (or enable).
	Placement(ctx context.Context, req PlacementRequest) (PlacementFields, error)
	// Plan tells what Act would do, and changes nothing.
	Plan(ctx context.Context, req ActionRequest) (Plan, error)
	// Act starts the action's job. Conflict when the action is not allowed now.
	Act(ctx context.Context, req ActionRequest) (Job, error)
	// Tune changes an item's priority (its part of bandwidth, and its turn among jobs
	// that wait for a limit), or pauses and resumes its replication.
	Tune(ctx context.Context, id homeward.ItemID, req TuneRequest) (Item, error)
	// Limit sets the bandwidth schedule of a process server, now.
	Limit(ctx context.Context, node string, req homeward.LimitRequest) error
	// Reassociate moves items from one process server or master target to another of
	// the same site.
	Reassociate(ctx context.Context, req ReassociateRequest) (Job, error)
	// PlanReassociate tells what Reassociate would do with each item, and changes nothing.
	PlanReassociate(ctx context.Context, req ReassociateRequest) (Page[Plan], error)
}

// TuneRequest changes how an item replicates.
type TuneRequest struct {
	Paused   *bool `json:"paused,omitempty"`
	Priority *int  `json:"priority,omitempty"` // 0 (first) to 9
}

// ReassociateRequest moves items between nodes. What follows To is for replicas that
// leave a master target: each by a job of its own, under the machine that runs.
type ReassociateRequest struct {
	Items []homeward.ItemID `json:"items,omitempty"` // empty: all at From that can leave it
	From  string            `json:"from"`
	To    string            `json:"to,omitempty"` // empty: the only other one that is ready
	// SameDisks: To opens the disks that the replicas are on, and what is not known to be
	// the same is compared; the recovery points go at once. Else new disks are made,
	// everything travels, and the old replicas can be failed over to until then.
	SameDisks bool `json:"same_disks,omitempty"`
	// OldIsOff, with SameDisks: somebody has seen that From is off and stays off.
	OldIsOff  bool   `json:"old_is_off,omitempty"`
	Datastore string `json:"datastore,omitempty"`        // of new disks; empty: the site's default
	Retention string `json:"retention_volume,omitempty"` // mount path at To; empty: its default
}

// Policies are how items replicate.
type Policies interface {
	Policies(ctx context.Context, q Query) (Page[Policy], error)
	Policy(ctx context.Context, name string) (Policy, error)
	// PutPolicy makes a forward policy with its failback policy, or changes a forward one.
	PutPolicy(ctx context.Context, req PolicyRequest) (Policy, error)
	DeletePolicy(ctx context.Context, name string) error // refused while items use it
}

// Jobs are what runs and ran.
type Jobs interface {
	Jobs(ctx context.Context, q Query) (Page[Job], error)
	Job(ctx context.Context, id string) (Job, error)
	TellJob(ctx context.Context, req JobRequest) (Job, error)
	// Artefacts lists what jobs made outside the store and that is still there.
	Artefacts(ctx context.Context, q Query) (Page[Artefact], error)
}

// Oversight is watching.
type Oversight interface {
	Alerts(ctx context.Context, q Query) (Page[Alert], error)
	AcknowledgeAlert(ctx context.Context, id string) (Alert, error)
	Audit(ctx context.Context, q Query) (Page[AuditEntry], error)
	// Watch tells of changes until ctx ends or the consumer stops. A consumer that
	// falls too far behind gets an error and starts again.
	Watch(ctx context.Context, req WatchRequest) iter.Seq2[Event, error]
	Status(ctx context.Context) (Status, error)
}

// Admission is who may call.
type Admission interface {
	CreateToken(ctx context.Context, req TokenRequest) (APIToken, error)
	Tokens(ctx context.Context, q Query) (Page[APIToken], error)
	DeleteToken(ctx context.Context, name string) error
	// Reconcile ends the read-only state of a restored vault: with force also while
	// nodes have not reported. Status.Moved are the items that were moved since the
	// backup: Adopt is what makes them the vault's again.
	Reconcile(ctx context.Context, force bool) (Status, error)
}

// Status is how the vault stands.
type Status struct {
	Version   string    `json:"version"`
	Epoch     uint64    `json:"epoch"` // rises with every restore; nodes refuse an older one
	ReadOnly  bool      `json:"read_only"`
	Why       string    `json:"why,omitempty"`     // why it is read-only
	Unheard   []string  `json:"unheard,omitempty"` // nodes that have not reported since the restore
	Store     string    `json:"store"`             // "sqlite" or "postgresql"
	Nodes     int       `json:"nodes"`
	Items     int       `json:"items"`
	Running   int       `json:"running_jobs"`
	Moved     []string  `json:"moved,omitempty"`     // items that were moved without this vault, 100 at most: adopt their state
	Addresses []Address `json:"addresses,omitempty"` // of the vault
}
