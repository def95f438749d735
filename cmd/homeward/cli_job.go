package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

var jobs = resource[vault.Job]{
	noun: "job", events: []string{"job"}, filters: []string{"item", "state"}, list: vault.Vault.Jobs, get: vault.Vault.Job,
	key:     func(j vault.Job) string { return j.ID },
	heading: []any{"JOB", "TITLE", "ITEM", "STATE", "STARTED", "TOOK", "PROGRESS", "BY", "ERROR"},
	row: func(j vault.Job) []any {
		took, why := "", ""
		if !j.Started.IsZero() && !j.Ended.IsZero() {
			took = span(j.Ended.Sub(j.Started))
		}
		if j.Error != nil {
			why = j.Error.Message
		}
		return []any{j.ID, j.Title, j.Item, j.State, when(j.Started), took, jobProgress(j), j.Caller, why}
	},
	show: showJob,
}

// jobProgress is how far it is; of one that has ended only what was told last is
// known, which is no result.
func jobProgress(j vault.Job) string {
	if j.State.Ended() {
		return ""
	}
	return progress(j.Progress)
}

func showJob(r *remote, j vault.Job) error {
	if err := r.details("job", j.ID, "title", j.Title, "scenario", j.Scenario, "item", j.Item, "state", j.State, "begun by", j.Parent, "caller", j.Caller,
		"started", when(j.Started), "ended", when(j.Ended), "progress", jobProgress(j), "can be told", words(j.Actions)); err != nil {
		return err
	}
	for _, l := range taskLines(j.Tasks, "  ") {
		if err := r.line("%s", l); err != nil {
			return err
		}
	}
	if e := j.Error; e != nil {
		if err := r.line("\nerror %s: %s", e.Code, e.Message); err != nil {
			return err
		}
		if err := r.bullets("Possible causes", e.Causes); err != nil {
			return err
		}
		if err := r.line("what to do: %s", e.Remedy); err != nil {
			return err
		}
	}
	if err := r.predicted(j); err != nil {
		return err
	}
	rows, _ := artefacts.rows(j.Artefacts)
	return r.section("Made outside the vault", rows)
}

// predicted tells what was foreseen of a reprotect or resync beside what it took.
func (r *remote) predicted(j vault.Job) error {
	if j.Predicted == nil {
		return nil
	}
	e := j.Predicted
	text := fmt.Sprintf("predicted: %s (%s), %s over the link", size(e.Bytes), e.Certainty, size(e.WireBytes))
	if e.Seconds > 0 {
		text += ", " + seconds(e.Seconds)
	}
	var took recovery.Reversal
	if len(j.Took) > 0 && json.Unmarshal(j.Took, &took) == nil {
		text += fmt.Sprintf("\ntook:      %s, %s over the link, %s", size(took.Changed), size(took.WireBytes), seconds(took.Seconds))
	}
	return r.line("%s", text)
}

var artefacts = resource[vault.Artefact]{
	noun: "artefact", filters: []string{"item", "site"}, list: vault.Vault.Artefacts,
	key:     func(a vault.Artefact) string { return a.ID },
	heading: []any{"ARTEFACT", "KIND", "WHERE", "SUBJECT", "PURPOSE", "GOES", "MADE", "GONE"},
	row: func(a vault.Artefact) []any {
		return []any{a.ID, a.Kind, a.Where, a.Subject, a.Purpose, a.Rule, when(a.Made), when(a.Gone)}
	},
}

func jobCommands(r *remote) *cobra.Command {
	wait := jobs.completed(r, r.verb("wait JOB", "Show a job's tasks until it, and the jobs it begins, have ended", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		return r.waitWithChildren(ctx, v, args[0])
	}))
	return group("job", "What runs and ran",
		jobs.listCommand(r, "List the jobs, newest first"), jobs.showCommand(r, "JOB", "Show a job and its tasks"), wait,
		jobTell(r, "cancel", vault.JobCancel, "Cancel a job", "Cancel job %s?"),
		jobRetry(r),
		jobTell(r, "skip", vault.JobSkip, "Skip the task that a suspended job waits at", "Skip the task that job %s waits at?"),
		jobTell(r, "abort", vault.JobAbort, "End a suspended job where it stands", "Abort job %s where it stands?"),
		group("artefact", "What jobs made outside the vault", artefacts.listCommand(r, "List what is still there")))
}

func jobTell(r *remote, use string, action vault.JobAction, short, ask string) *cobra.Command {
	var wait bool
	cmd := r.verb(use+" JOB", short, 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if err := r.confirm(fmt.Sprintf(ask, args[0]), nil); err != nil {
			return err
		}
		return r.tell(ctx, v, vault.JobRequest{ID: args[0], Action: action}, wait)
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended")
	return jobs.completed(r, cmd)
}

func jobRetry(r *remote) *cobra.Command {
	var wait bool
	var input string
	cmd := r.verb("retry JOB", "Go on with a suspended or failed job; facts are read anew", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		req := vault.JobRequest{ID: args[0], Action: vault.JobRetry}
		if input != "" {
			if !json.Valid([]byte(input)) {
				return homeward.Errorf("read flags", homeward.Invalid, "--input", `give JSON, such as {"datastore":"ds2"}`, "not JSON")
			}
			req.Input = json.RawMessage(input)
		}
		return r.tell(ctx, v, req, wait)
	})
	cmd.Flags().StringVar(&input, "input", "", "corrected inputs as `JSON`, by the names that 'homeward job show --json' gives")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended")
	return jobs.completed(r, cmd)
}

func (r *remote) tell(ctx context.Context, v vault.Vault, req vault.JobRequest, wait bool) error {
	j, err := v.TellJob(ctx, req)
	if err != nil {
		return err
	}
	if wait {
		return r.waitWithChildren(ctx, v, j.ID)
	}
	return r.print(j, "job %s: %s", j.ID, j.State)
}
