package job

import (
	"errors"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Fault is an error with what a person should know besides: the rule that it
// breaks, and what may have caused it.
type Fault struct {
	Code   string // rule id, as "R35"; empty: the kind
	Causes []string
	Err    error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// FailureOf is how an error is told to a person (R47); nil for nil.
func FailureOf(err error) *vault.Failure {
	if err == nil {
		return nil
	}
	kind := homeward.KindOf(err)
	f := &vault.Failure{Code: string(kind), Kind: kind, Message: err.Error(), Remedy: homeward.RemedyOf(err)}
	var fault *Fault
	if errors.As(err, &fault) {
		f.Causes = fault.Causes
		if fault.Code != "" {
			f.Code = fault.Code
		}
	}
	if f.Remedy == "" {
		f.Remedy = "retry the job; if it fails again, report it with 'homeward bundle'"
	}
	return f
}

// skipped and paused are what a task returns instead of an error.
type skipped struct{ why string }

func (s *skipped) Error() string { return "skipped: " + s.why }

type paused struct{ why, remedy string }

func (p *paused) Error() string { return "waits for a person: " + p.why }

// uncertain reports whether a call of the store that failed may have taken effect
// all the same: no answer is no refusal.
func uncertain(err error) bool {
	switch homeward.KindOf(err) {
	case "", homeward.Invalid, homeward.NotFound, homeward.Exists, homeward.InUse, homeward.Conflict, homeward.Forbidden:
		return false
	}
	return true
}
