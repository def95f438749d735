package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// actionBody is the body of an action and of its plan: the fields of vault.Input
// that belong to the action, in one object with the machine of enable.
type actionBody struct {
	Machine string `json:"machine,omitempty" doc:"Id of the machine that is protected."`
	vault.Input
}

type actInput struct {
	Item    homeward.ItemID `path:"item"`
	IfMatch string          `header:"If-Match" doc:"ETag of the resource as it was read; if it has changed since, the answer is 409. Absent or *: any."`
	Key     string          `header:"Idempotency-Key" doc:"The same request under the same key, within a day, answers the job that it made; another one is refused."`
	Body    *actionBody
}

type planInput struct {
	Item homeward.ItemID `path:"item"`
	Body *actionBody
}

// begun answers with the job that was begun.
type begun struct {
	Location string `header:"Location" doc:"Where the job is."`
	Body     vault.Job
}

func begin(j vault.Job, err error) (*begun, error) {
	return &begun{Location: "/v1/jobs/" + url.PathEscape(j.ID), Body: j}, err
}

var actionSummaries = map[vault.Action]string{
	vault.Enable:            "Protect a machine",
	vault.TestFailover:      "Start a copy in an isolated network",
	vault.CleanUpTest:       "Remove the test machine",
	vault.Failover:          "Start the machine at its recovery site",
	vault.ChangePoint:       "Go to another recovery point before commit",
	vault.Commit:            "Commit a failover or failback",
	vault.Reprotect:         "Replicate back",
	vault.Resync:            "Compare both sides and replicate what differs",
	vault.FailbackAction:    "Bring the machine home",
	vault.CancelFailover:    "Undo a failover or failback before commit",
	vault.Disable:           "Stop protecting the machine",
	vault.CompleteMigration: "Leave the machine where it runs, for good",
	vault.Pause:             "Pause replication",
	vault.Resume:            "Resume replication",
}

func (r *routes) actions() {
	for _, action := range vault.Actions() {
		body := r.bodyOf(action)
		takes := func(op *huma.Operation) { op.RequestBody = body }
		ask := func(item homeward.ItemID, b *actionBody) vault.ActionRequest {
			req := vault.ActionRequest{Item: item, Action: action}
			if b != nil {
				req.Machine, req.Input = b.Machine, b.Input
			}
			return req
		}
		handle(r, route{method: http.MethodPost, path: "/items/{item}/actions/" + string(action), id: string(action), summary: actionSummaries[action],
			access: action.Access(), status: http.StatusAccepted,
			detail: "Begins a job. 409 when the action is not allowed now, with the job that runs and the actions that are allowed."},
			func(ctx context.Context, in *actInput) (*begun, error) {
				req := ask(in.Item, in.Body)
				var err error
				if req.Revision, err = revisionOf(in.IfMatch); err != nil {
					return nil, err
				}
				if err := checkKey(in.Key); err != nil {
					return nil, err
				}
				req.Key = in.Key
				return begin(r.vault.Act(ctx, req))
			}, takes)
		handle(r, route{method: http.MethodPost, path: "/items/{item}/plans/" + string(action), id: "plan-" + string(action), summary: "Dry run: " + actionSummaries[action],
			access: vault.Reader, detail: "Tells what the action would do, and changes nothing."},
			func(ctx context.Context, in *planInput) (*document[vault.Plan], error) {
				return answer(r.vault.Plan(ctx, ask(in.Item, in.Body)))
			}, takes)
	}
	type placement struct {
		Item homeward.ItemID `path:"item"`
		From string          `query:"from" doc:"Site that the direction starts at; empty: what follows from the item's state."`
		To   string          `query:"to" doc:"Site that it leads to."`
	}
	handle(r, route{method: http.MethodGet, path: "/items/{item}/placement", id: "get-placement", summary: "Get the inputs of the next reprotect or enable", access: vault.Reader},
		func(ctx context.Context, in *placement) (*document[vault.PlacementFields], error) {
			return answer(r.vault.Placement(ctx, vault.PlacementRequest{Item: in.Item, Direction: homeward.Direction{From: in.From, To: in.To}}))
		})
	type reassociate struct {
		Body vault.ReassociateRequest
	}
	handle(r, route{method: http.MethodPost, path: "/reassociations", id: "reassociate", summary: "Move items from one node to another of the same site", access: vault.Operator, status: http.StatusAccepted},
		func(ctx context.Context, in *reassociate) (*begun, error) {
			return begin(r.vault.Reassociate(ctx, in.Body))
		})
	handle(r, route{method: http.MethodPost, path: "/reassociations/plan", id: "plan-reassociate", summary: "Dry run: move items from one node to another", access: vault.Reader,
		detail: "Tells of each item what would be done, and changes nothing."},
		func(ctx context.Context, in *reassociate) (*document[vault.Page[vault.Plan]], error) {
			return answer(r.vault.PlanReassociate(ctx, in.Body))
		})
}

// bodyOf describes the body of an action: only the fields that belong to it, so
// that any other is refused by name.
func (r *routes) bodyOf(action vault.Action) *huma.RequestBody {
	registry := r.api.OpenAPI().Components.Schemas
	all := registry.Schema(inputType, false, "Input").Properties
	schema := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{}}
	for _, field := range action.Inputs() {
		schema.Properties[field] = all[field]
	}
	if action == vault.Enable {
		schema.Properties["machine"] = all["machine"]
		schema.Required = []string{"machine"}
	}
	schema.PrecomputeMessages()
	return &huma.RequestBody{
		Required: action == vault.Enable,
		Content:  map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}
}

// Placement tells the inputs of the item's next reprotect or enable.
func (c *Client) Placement(ctx context.Context, req vault.PlacementRequest) (vault.PlacementFields, error) {
	q := url.Values{}
	if req.Direction != (homeward.Direction{}) {
		q.Set("from", req.Direction.From)
		q.Set("to", req.Direction.To)
	}
	return read[vault.PlacementFields](ctx, c, q, "items", string(req.Item), "placement")
}

// Plan tells what Act would do, and changes nothing.
func (c *Client) Plan(ctx context.Context, req vault.ActionRequest) (vault.Plan, error) {
	r, err := actionRequest(req, "plans")
	if err != nil {
		return vault.Plan{}, err
	}
	return call[vault.Plan](ctx, c, r)
}

// Act starts the action's job.
func (c *Client) Act(ctx context.Context, req vault.ActionRequest) (vault.Job, error) {
	r, err := actionRequest(req, "actions")
	if err != nil {
		return vault.Job{}, err
	}
	r.revision, r.key = req.Revision, req.Key
	return call[vault.Job](ctx, c, r)
}

func actionRequest(req vault.ActionRequest, kind string) (request, error) {
	// An unknown action has no path; the vault could only say that the path is unknown.
	if err := req.Validate(); err != nil {
		return request{}, err
	}
	return request{method: http.MethodPost, path: []string{"items", string(req.Item), kind, string(req.Action)},
		body: actionBody{Machine: req.Machine, Input: req.Input}}, nil
}

// Reassociate moves items from one node to another of the same site.
func (c *Client) Reassociate(ctx context.Context, req vault.ReassociateRequest) (vault.Job, error) {
	return call[vault.Job](ctx, c, request{method: http.MethodPost, path: []string{"reassociations"}, body: req})
}

// PlanReassociate tells what Reassociate would do, and changes nothing.
func (c *Client) PlanReassociate(ctx context.Context, req vault.ReassociateRequest) (vault.Page[vault.Plan], error) {
	return call[vault.Page[vault.Plan]](ctx, c, request{method: http.MethodPost, path: []string{"reassociations", "plan"}, body: req})
}
