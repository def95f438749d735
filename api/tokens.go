package api

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward/vault"
)

// reconcileBody ends the read-only state.
type reconcileBody struct {
	Force bool `json:"force,omitempty" doc:"Also while nodes have not reported."`
}

func (r *routes) tokens() {
	list(r, route{path: "/tokens", id: "list-tokens", summary: "List API tokens", access: vault.Administrator, detail: "Their secrets are told only when they are made."}, r.vault.Tokens)
	type create struct {
		Body vault.TokenRequest
	}
	handle(r, route{method: http.MethodPost, path: "/tokens", id: "create-token", summary: "Make an API token", access: vault.Administrator,
		detail: "The lifetime is in nanoseconds; 0: it never expires.", status: http.StatusCreated},
		func(ctx context.Context, in *create) (*document[vault.APIToken], error) {
			return answer(r.vault.CreateToken(ctx, in.Body))
		})
	handle(r, route{method: http.MethodDelete, path: "/tokens/{name}", id: "delete-token", summary: "Delete an API token", access: vault.Administrator, status: http.StatusNoContent},
		func(ctx context.Context, in *named) (*nothing, error) { return nil, r.vault.DeleteToken(ctx, in.Name) })
	type reconcile struct {
		Body *reconcileBody
	}
	handle(r, route{method: http.MethodPost, path: "/reconcile", id: "reconcile", summary: "End the read-only state of a restored vault", access: vault.Administrator},
		func(ctx context.Context, in *reconcile) (*document[vault.Status], error) {
			return answer(r.vault.Reconcile(ctx, in.Body != nil && in.Body.Force))
		})
}

// CreateToken makes an API token; only this answer tells its secret.
func (c *Client) CreateToken(ctx context.Context, req vault.TokenRequest) (vault.APIToken, error) {
	return call[vault.APIToken](ctx, c, request{method: http.MethodPost, path: []string{"tokens"}, body: req})
}

// Tokens lists the API tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context, q vault.Query) (vault.Page[vault.APIToken], error) {
	return listed[vault.APIToken](ctx, c, q, "tokens")
}

// DeleteToken ends a token.
func (c *Client) DeleteToken(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, request{method: http.MethodDelete, path: []string{"tokens", name}})
	return err
}

// Reconcile ends the read-only state of a restored vault.
func (c *Client) Reconcile(ctx context.Context, force bool) (vault.Status, error) {
	return call[vault.Status](ctx, c, request{method: http.MethodPost, path: []string{"reconcile"}, body: reconcileBody{Force: force}})
}
