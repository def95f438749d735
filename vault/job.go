package vault

import (
	"encoding/json"
	"time"

	"github.com/homeward-dr/homeward"
)

// JobState of a job.
type JobState string

// The job states.
const (
	JobNotStarted JobState = "not-started"
	JobRunning    JobState = "in-progress"
	JobPaused     JobState = "suspended" // waits for a person: Retry, Skip or Abort
	JobSucceeded  JobState = "succeeded"
	JobFailed     JobState = "failed"
	JobCancelling JobState = "cancelling"
	JobCancelled  JobState = "cancelled"
)

// Ended reports whether nothing more happens by itself.
func (s JobState) Ended() bool { return s == JobSucceeded || s == JobFailed || s == JobCancelled }

// JobAction is what a person may tell a job.
type JobAction string

// The job actions.
const (
	JobCancel JobAction = "cancel"
	JobRetry  JobAction = "retry" // with corrected inputs, if given; facts are read anew
	JobSkip   JobAction = "skip"  // the task it waits at, where that is possible
	JobAbort  JobAction = "abort"
)

// Job is a stored plan: its tasks were written down before its first effect, and
// it goes on where it stood after the vault was killed.
type Job struct {
	Meta
	ID       string            `json:"id"`
	Scenario string            `json:"scenario"` // as the field names it: "SwitchReplicationGroupProtection", … (asr.md 2.8)
	Title    string            `json:"title"`    // "Reprotect"
	Item     homeward.ItemID   `json:"item,omitempty"`
	Action   Action            `json:"action,omitempty"`
	Parent   string            `json:"parent,omitempty"` // the job whose child it is
	State    JobState          `json:"state"`
	Caller   string            `json:"caller"`
	Key      string            `json:"key,omitempty"` // idempotency
	Input    json.RawMessage   `json:"input,omitempty"`
	Started  time.Time         `json:"started,omitzero"`
	Ended    time.Time         `json:"ended,omitzero"`
	Tasks    []Task            `json:"tasks"`
	Error    *Failure          `json:"error,omitempty"`
	Actions  []JobAction       `json:"actions,omitempty"` // allowed now
	Progress homeward.Progress `json:"progress"`
	// Predicted and Took stand beside each other when a reprotect or resync ended.
	Predicted *homeward.Estimate `json:"predicted,omitempty"`
	Took      json.RawMessage    `json:"took,omitempty"` // recovery.Reversal
	Artefacts []Artefact         `json:"artefacts,omitempty"`
}

// TaskState of a task.
type TaskState string

// The task states.
const (
	TaskNotStarted TaskState = "not-started"
	TaskRunning    TaskState = "in-progress"
	TaskSucceeded  TaskState = "succeeded"
	TaskFailed     TaskState = "failed"
	TaskSkipped    TaskState = "skipped"
	TaskPaused     TaskState = "suspended"
	TaskCancelled  TaskState = "cancelled"
)

// Task is one step of a job, idempotent; Children are told while it runs.
type Task struct {
	Name     string            `json:"name"`  // "SwitchReplicationGroupProtectionPreflightTask"
	Title    string            `json:"title"` // "Prerequisite check"
	State    TaskState         `json:"state"`
	Why      string            `json:"why,omitempty"` // why skipped or waiting
	Started  time.Time         `json:"started,omitzero"`
	Ended    time.Time         `json:"ended,omitzero"`
	Progress homeward.Progress `json:"progress"`
	Children []Task            `json:"children,omitempty"`
	Job      string            `json:"job,omitempty"` // the child job it began
	Error    *Failure          `json:"error,omitempty"`
	Attempts int               `json:"attempts,omitempty"`
	// Cancellable: the job can be cancelled while this task runs. If not, it is refused
	// until the task has ended, and taken between two tries of it.
	Cancellable bool `json:"cancellable"`
}

// Failure tells a person what went wrong and what to do about it (R47).
type Failure struct {
	Code    string        `json:"code"` // rule id, or kind
	Kind    homeward.Kind `json:"kind"`
	Message string        `json:"message"`
	Causes  []string      `json:"possible_causes,omitempty"`
	Remedy  string        `json:"recommended_action"`
}

// Artefact is something a job made outside the store. It is entered before it is
// made, so that none is ever forgotten.
type Artefact struct {
	ID      string    `json:"id"`
	Job     string    `json:"job"`
	Kind    string    `json:"kind"`    // "machine", "disk", "view", "guard", "pin"
	Where   string    `json:"where"`   // site or node
	Subject string    `json:"subject"` // what it is called there
	Purpose string    `json:"purpose"`
	Rule    string    `json:"rule"` // when it goes: "with-item", "with-test", "end-of-job", "after-sync", "keep"
	Made    time.Time `json:"made"`
	Gone    time.Time `json:"gone,omitzero"`
}

// JobRequest tells a job something.
type JobRequest struct {
	ID     string          `json:"id"`
	Action JobAction       `json:"action"`
	Input  json.RawMessage `json:"input,omitempty"` // corrected inputs of a retry
}
