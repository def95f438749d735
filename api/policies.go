package api

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// policyBody is what of a policy can be changed.
type policyBody struct {
	Settings homeward.Policy  `json:"settings" doc:"Durations are in nanoseconds; what is left out has its default."`
	Resync   vault.ResyncRule `json:"resync,omitempty" doc:"automatic (the default), manual, or the hours of the vault's local day in which a resync may begin by itself, as 18:00-08:00."`
}

func policyMeta(p vault.Policy) vault.Meta { return p.Meta }

func (r *routes) policies() {
	list(r, route{path: "/policies", id: "list-policies", summary: "List policies"}, r.vault.Policies)
	handle(r, route{method: http.MethodGet, path: "/policies/{name}", id: "get-policy", summary: "Get a policy", access: vault.Reader},
		func(ctx context.Context, in *named) (*versioned[vault.Policy], error) {
			p, err := r.vault.Policy(ctx, in.Name)
			return answerAt(p, policyMeta, err)
		})
	type put struct {
		Name    string `path:"name"`
		IfMatch string `header:"If-Match" doc:"ETag of the resource as it was read; if it has changed since, the answer is 409. Absent or *: any."`
		Body    policyBody
	}
	handle(r, route{method: http.MethodPut, path: "/policies/{name}", id: "put-policy", summary: "Make or change a forward policy", access: vault.Contributor,
		detail: "Its failback policy comes with it, and cannot be edited."},
		func(ctx context.Context, in *put) (*versioned[vault.Policy], error) {
			revision, err := revisionOf(in.IfMatch)
			if err != nil {
				return nil, err
			}
			p, err := r.vault.PutPolicy(ctx, vault.PolicyRequest{Name: in.Name, Settings: in.Body.Settings, Resync: in.Body.Resync, Revision: revision})
			return answerAt(p, policyMeta, err)
		})
	handle(r, route{method: http.MethodDelete, path: "/policies/{name}", id: "delete-policy", summary: "Delete a forward policy and its failback policy", access: vault.Contributor,
		detail: "Refused while items use it.", status: http.StatusNoContent},
		func(ctx context.Context, in *named) (*nothing, error) { return nil, r.vault.DeletePolicy(ctx, in.Name) })
}

// Policies lists the policies.
func (c *Client) Policies(ctx context.Context, q vault.Query) (vault.Page[vault.Policy], error) {
	return listed[vault.Policy](ctx, c, q, "policies")
}

// Policy tells of one.
func (c *Client) Policy(ctx context.Context, name string) (vault.Policy, error) {
	return read[vault.Policy](ctx, c, nil, "policies", name)
}

// PutPolicy makes or changes a forward policy.
func (c *Client) PutPolicy(ctx context.Context, req vault.PolicyRequest) (vault.Policy, error) {
	return call[vault.Policy](ctx, c, request{method: http.MethodPut, path: []string{"policies", req.Name}, revision: req.Revision, body: policyBody{Settings: req.Settings, Resync: req.Resync}})
}

// DeletePolicy removes a forward policy that no item uses.
func (c *Client) DeletePolicy(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, request{method: http.MethodDelete, path: []string{"policies", name}})
	return err
}
