package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
)

// meanings say what a kind of error is, for people; the numbers are in
// homeward.Table.
var meanings = map[homeward.Kind]string{
	homeward.Invalid:     "the request is wrong: correct it",
	homeward.NotFound:    "no such thing",
	homeward.Exists:      "it is there already, and different",
	homeward.InUse:       "somebody else holds it",
	homeward.Conflict:    "not possible in the present state",
	homeward.Fenced:      "an older generation: stop, never retry",
	homeward.Unauthentic: "certificate or token not accepted",
	homeward.Forbidden:   "known, but not allowed",
	homeward.NoSpace:     "a disk or a budget is full: free some, then retry",
	homeward.Busy:        "too much at once: retry after a while",
	homeward.Unavailable: "a peer cannot be reached: retry",
	homeward.Timeout:     "a deadline passed: retry",
	homeward.Canceled:    "it was interrupted",
	homeward.Corrupt:     "bytes are not what was written",
	homeward.IO:          "the medium failed",
	homeward.Unsupported: "this build, disk or site cannot do it",
	homeward.Internal:    "a defect of Homeward: report it",
}

// Exit codes of commands that ended well themselves, but have bad news.
const (
	exitJobFailed    = 20
	exitJobPaused    = 21
	exitJobCancelled = 22
	exitNotReady     = 23
)

// news says what these codes mean.
var news = []struct {
	code    int
	name    string
	meaning string
}{
	{exitJobFailed, "job failed", "the job that was waited for failed; its error is told"},
	{exitJobPaused, "job suspended", "the job waits for a person: retry, skip or abort it"},
	{exitJobCancelled, "job cancelled", "the job that was waited for was cancelled"},
	{exitNotReady, "not ready", "'homeward readiness': something stands in the way"},
}

// exitError is an error with an exit code that is not its kind's.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exitCodes is a help topic: a command that does nothing.
func exitCodes() *cobra.Command {
	var b strings.Builder
	b.WriteString("Homeward ends with 0 when it did what it was told, else with:\n\n")
	kinds := make([]homeward.Kind, 0, len(homeward.Table))
	for kind := range homeward.Table {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b homeward.Kind) int {
		return cmp.Compare(homeward.Table[a].Exit, homeward.Table[b].Exit)
	})
	for _, kind := range kinds {
		fmt.Fprintf(&b, "  %2d  %-13s %s\n", homeward.Table[kind].Exit, kind, meanings[kind])
	}
	b.WriteString("\nand, where it waited or asked for something that went otherwise, with:\n\n")
	for _, n := range news {
		fmt.Fprintf(&b, "  %2d  %-13s %s\n", n.code, n.name, n.meaning)
	}
	b.WriteString("\nThe word is the \"kind\" of the error with --json, and of problem documents over HTTP.")
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: b.String()}
}
