package homeward

import (
	"context"
	"time"
)

// A site is where machines run: a vCenter, a subscription, a libvirt host, this
// machine. The contract is cut into small interfaces by what they are about;
// Capabilities says which of them, and which of their finer points, a site
// cannot. A call a site cannot do answers Unsupported with the reason.
//
// Operations are idempotent by their key: the same key again answers the handle
// of the operation that runs or ran.

// Site is the whole contract.
type Site interface {
	Inventory
	Power
	DiskKeeper
	Placement
	Guards
	Capabilities(ctx context.Context) (Capabilities, error)
}

// Ref names a thing at a site: its native id, opaque to everyone else, and a
// stable UUID that survives re-creation where the site has one.
type Ref struct {
	Native string `json:"native"`
	UUID   string `json:"uuid,omitempty"`
}

// Inventory tells what is there.
type Inventory interface {
	Machines(ctx context.Context) ([]SiteMachine, error)
	Machine(ctx context.Context, ref Ref) (SiteMachine, error)
	// Facts are what readiness rules ask of a site; a fact it cannot find out is
	// Unknown, never absent.
	Facts(ctx context.Context) ([]Fact, error)
}

// Power starts and stops machines.
type Power interface {
	// Create defines a machine on disks that exist; it is not started.
	Create(ctx context.Context, key string, m Machine, disks []Attachment) (Operation, error)
	PowerOn(ctx context.Context, key string, ref Ref) (Operation, error)
	PowerOff(ctx context.Context, key string, ref Ref, how Stop) (Operation, error)
	Delete(ctx context.Context, key string, ref Ref) (Operation, error) // the machine, never its disks
	Operation(ctx context.Context, id string) (Operation, error)
}

// DiskKeeper makes disks and moves them between machines.
type DiskKeeper interface {
	CreateDisk(ctx context.Context, key string, d Disk, where string) (Operation, error) // Result names the disk
	DeleteDisk(ctx context.Context, key string, ref Ref) (Operation, error)
	Snapshot(ctx context.Context, key string, ref Ref, name string) (Operation, error)
	Attach(ctx context.Context, key string, machine Ref, a Attachment) (Operation, error)
	Detach(ctx context.Context, key string, machine Ref, disk DiskID) (Operation, error)
}

// Placement describes the fields an operator fills in to put a machine here.
type Placement interface {
	Options(ctx context.Context, direction Direction, m Machine) ([]Field, error)
}

// Guards keep people and machines from touching what a job works on. A guard
// belongs to an owner (a job) and stays until released by it.
type Guards interface {
	Guard(ctx context.Context, g Guard) error
	GuardsOf(ctx context.Context, ref Ref) ([]Guard, error)
	Unguard(ctx context.Context, g Guard) error
}

// Capabilities says what a site can.
type Capabilities struct {
	Kind      string            `json:"kind"`                 // "local", "vsphere", …
	BootsFrom []string          `json:"boots_from"`           // schemes of disk references a machine can start from
	Lacks     map[string]string `json:"lacks,omitempty"`      // method → why not
	Firmware  []string          `json:"firmware,omitempty"`   // "bios", "efi"
	Hypervis  string            `json:"hypervisor,omitempty"` // for people
}

// PowerState of a machine; PowerUnknown is never taken for off.
type PowerState string

// The power states.
const (
	PowerOn      PowerState = "on"
	PowerOff     PowerState = "off"
	PowerUnknown PowerState = "unknown"
)

// SiteMachine is a machine at a site.
type SiteMachine struct {
	Ref     Ref          `json:"ref"`
	Machine Machine      `json:"machine"`
	Disks   []Attachment `json:"disks"`
	Power   PowerState   `json:"power"`
	Guards  []Guard      `json:"guards,omitempty"`
	// Snapshots of the machine at its site; nil: the site does not tell.
	Snapshots *int `json:"snapshots,omitempty"`
	// Console is where to read what the guest says (local: a file); may be empty.
	Console string `json:"console,omitempty"`
}

// Attachment is a disk at a machine.
type Attachment struct {
	Disk       DiskID `json:"disk"`
	Ref        string `json:"ref"` // what backs it: "file:/…", "nbd+unix:///…"
	Controller string `json:"controller,omitempty"`
	Slot       int    `json:"slot"`
	ReadOnly   bool   `json:"read_only,omitempty"`
	Temporary  bool   `json:"temporary,omitempty"` // flags of the seeds: such disks are not replicated
	Shared     bool   `json:"shared,omitempty"`
	RDM        bool   `json:"rdm,omitempty"`
	Encrypted  bool   `json:"encrypted,omitempty"`
}

// Stop says how to power off.
type Stop struct {
	Graceful bool          `json:"graceful"` // ask the guest first
	Timeout  time.Duration `json:"timeout"`  // then pull the plug
}

// OperationState of an Operation.
type OperationState string

// The operation states.
const (
	OperationRunning   OperationState = "running"
	OperationSucceeded OperationState = "succeeded"
	OperationFailed    OperationState = "failed"
)

// Operation is a durable, pollable handle.
type Operation struct {
	ID     string         `json:"id"`
	Key    string         `json:"key"`
	State  OperationState `json:"state"`
	Result Ref            `json:"result,omitzero"`
	Error  string         `json:"error,omitempty"`
	Class  ErrorClass     `json:"class,omitempty"`
	Remedy string         `json:"remedy,omitempty"`
}

// ErrorClass says what may be done about a failed operation.
type ErrorClass string

// The classes.
const (
	ClassTransient  ErrorClass = "transient"
	ClassThrottled  ErrorClass = "throttled"
	ClassPermission ErrorClass = "permission" // Remedy names the missing privilege
	ClassLocked     ErrorClass = "locked"
	ClassCapacity   ErrorClass = "capacity"
	ClassGone       ErrorClass = "gone"
)

// Direction of a leg, as the seeds name it by its ends.
type Direction struct {
	From string `json:"from"` // site names
	To   string `json:"to"`
}

// Field is one input of a placement.
type Field struct {
	Name    string   `json:"name"`
	Label   string   `json:"label"`
	Demand  bool     `json:"demand"`            // must be given, even where it is ignored (R40: the datastore)
	Options []Option `json:"options,omitempty"` // empty: free text
}

// Option of a field.
type Option struct {
	Value    string `json:"value"`
	Label    string `json:"label"`
	Eligible bool   `json:"eligible"`
	Why      string `json:"why,omitempty"` // why not eligible, with the rule's id
}

// GuardKind is what a guard forbids.
type GuardKind string

// The guards.
const (
	GuardReadOnly  GuardKind = "read-only"
	GuardNoPowerOn GuardKind = "no-power-on"
)

// Guard keeps something from being touched.
type Guard struct {
	Ref    Ref       `json:"ref"`
	Kind   GuardKind `json:"kind"`
	Owner  string    `json:"owner"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Fact is something known about a site, or known to be unknown.
type Fact struct {
	Name    string    `json:"name"`
	Subject string    `json:"subject,omitempty"`
	Known   bool      `json:"known"`
	Value   string    `json:"value,omitempty"`
	Why     string    `json:"why,omitempty"` // why it is not known
	At      time.Time `json:"at"`
}
