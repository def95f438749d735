package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// jobActions are what a job can be told.
var jobActions = []vault.JobAction{vault.JobCancel, vault.JobRetry, vault.JobSkip, vault.JobAbort}

// retryBody holds the corrected inputs of a retry.
type retryBody struct {
	Input json.RawMessage `json:"input,omitempty" doc:"Corrected inputs of a retry: the whole object."`
}

func jobMeta(j vault.Job) vault.Meta { return j.Meta }

func (r *routes) jobs() {
	list(r, route{path: "/jobs", id: "list-jobs", summary: "List jobs"}, r.vault.Jobs, "item", "state")
	handle(r, route{method: http.MethodGet, path: "/jobs/{id}", id: "get-job", summary: "Get a job with its tasks", access: vault.Reader},
		func(ctx context.Context, in *identified) (*versioned[vault.Job], error) {
			j, err := r.vault.Job(ctx, in.ID)
			return answerAt(j, jobMeta, err)
		})
	type retry struct {
		ID   string `path:"id"`
		Body *retryBody
	}
	for _, action := range jobActions {
		o := route{method: http.MethodPost, path: "/jobs/{id}/actions/" + string(action), id: string(action) + "-job", summary: "Tell a job: " + string(action), access: vault.Operator,
			detail: "409 when the job cannot be told this now, with what it can be told."}
		tell := func(ctx context.Context, id string, input json.RawMessage) (*versioned[vault.Job], error) {
			j, err := r.vault.TellJob(ctx, vault.JobRequest{ID: id, Action: action, Input: input})
			return answerAt(j, jobMeta, err)
		}
		if action != vault.JobRetry {
			handle(r, o, func(ctx context.Context, in *identified) (*versioned[vault.Job], error) { return tell(ctx, in.ID, nil) })
			continue
		}
		handle(r, o, func(ctx context.Context, in *retry) (*versioned[vault.Job], error) {
			if in.Body == nil {
				return tell(ctx, in.ID, nil)
			}
			return tell(ctx, in.ID, in.Body.Input)
		})
	}
	list(r, route{path: "/artefacts", id: "list-artefacts", summary: "List what jobs made outside the store", detail: "Only what is still there."}, r.vault.Artefacts, "site", "state")
}

// Jobs lists what runs and ran.
func (c *Client) Jobs(ctx context.Context, q vault.Query) (vault.Page[vault.Job], error) {
	return listed[vault.Job](ctx, c, q, "jobs")
}

// Job tells of one, with its tasks.
func (c *Client) Job(ctx context.Context, id string) (vault.Job, error) {
	return read[vault.Job](ctx, c, nil, "jobs", id)
}

// TellJob cancels, retries, skips or aborts.
func (c *Client) TellJob(ctx context.Context, req vault.JobRequest) (vault.Job, error) {
	r := request{method: http.MethodPost, path: []string{"jobs", req.ID, "actions", string(req.Action)}}
	switch {
	case !slices.Contains(jobActions, req.Action):
		return vault.Job{}, homeward.Errorf("tell job", homeward.Invalid, "action", fmt.Sprintf("give one of %v", jobActions), "no such action: %q", string(req.Action))
	case req.Action == vault.JobRetry:
		r.body = retryBody{Input: req.Input}
	case len(req.Input) > 0:
		return vault.Job{}, homeward.Errorf("tell job", homeward.Invalid, "input", "leave it out: only retry takes inputs", "does not belong to %s", req.Action)
	}
	return call[vault.Job](ctx, c, r)
}

// Artefacts lists what jobs made outside the store and that is still there.
func (c *Client) Artefacts(ctx context.Context, q vault.Query) (vault.Page[vault.Artefact], error) {
	return listed[vault.Artefact](ctx, c, q, "artefacts")
}
