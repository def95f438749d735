package vault

import "strings"

// ConflictError in the chain of a Conflict says what is possible instead of what
// was asked for. It travels over HTTP as members of the problem document.
type ConflictError struct {
	Job     string   `json:"job,omitempty"`     // the running one that stands in the way
	Allowed []string `json:"allowed,omitempty"` // actions that are allowed now, of the item or of the job
}

func (e *ConflictError) Error() string {
	var says []string
	if e.Job != "" {
		says = append(says, "job "+e.Job+" is running")
	}
	allowed := "nothing"
	if len(e.Allowed) > 0 {
		allowed = strings.Join(e.Allowed, ", ")
	}
	return strings.Join(append(says, "allowed now: "+allowed), "; ")
}

// ProblemMembers are the members of the problem document (package wire).
func (e *ConflictError) ProblemMembers() map[string]any {
	members := map[string]any{"allowed": append([]string{}, e.Allowed...)}
	if e.Job != "" {
		members["job"] = e.Job
	}
	return members
}
