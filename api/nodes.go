package api

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// addressesBody replaces a node's addresses.
type addressesBody struct {
	Addresses []vault.Address `json:"addresses" maxItems:"16"`
}

func nodeMeta(n vault.Node) vault.Meta { return n.Meta }

func (r *routes) nodes() {
	list(r, route{path: "/nodes", id: "list-nodes", summary: "List nodes"}, r.vault.Nodes, "site", "role", "state")
	handle(r, route{method: http.MethodGet, path: "/nodes/{name}", id: "get-node", summary: "Get a node", access: vault.Reader},
		func(ctx context.Context, in *named) (*versioned[vault.Node], error) {
			n, err := r.vault.Node(ctx, in.Name)
			return answerAt(n, nodeMeta, err)
		})
	handle(r, route{method: http.MethodPost, path: "/nodes/{name}/revoke", id: "revoke-node", summary: "Revoke a node's certificate", access: vault.Contributor,
		detail: "It may not come back; enrol it anew."},
		func(ctx context.Context, in *named) (*versioned[vault.Node], error) {
			n, err := r.vault.RevokeNode(ctx, in.Name)
			return answerAt(n, nodeMeta, err)
		})
	type addresses struct {
		Name string `path:"name"`
		Body addressesBody
	}
	handle(r, route{method: http.MethodPut, path: "/nodes/{name}/addresses", id: "set-addresses", summary: "Replace a node's addresses", access: vault.Contributor,
		detail: "What peers use to reach it."},
		func(ctx context.Context, in *addresses) (*versioned[vault.Node], error) {
			n, err := r.vault.SetAddresses(ctx, in.Name, in.Body.Addresses)
			return answerAt(n, nodeMeta, err)
		})
	type limit struct {
		Name string `path:"name"`
		Body homeward.LimitRequest
	}
	handle(r, route{method: http.MethodPut, path: "/nodes/{name}/limit", id: "set-limit", summary: "Set a process server's bandwidth schedule", access: vault.Operator,
		detail: "It counts at once.", status: http.StatusNoContent},
		func(ctx context.Context, in *limit) (*nothing, error) {
			return nil, r.vault.Limit(ctx, in.Name, in.Body)
		})
	list(r, route{path: "/enrolments", id: "list-enrolments", summary: "List enrolment tokens", detail: "Their secrets are told only when they are made."}, r.vault.Enrolments, "site", "role")
	type enrol struct {
		Body vault.EnrolmentRequest
	}
	handle(r, route{method: http.MethodPost, path: "/enrolments", id: "create-enrolment", summary: "Make a token that admits one node once", access: vault.Contributor,
		detail: "The lifetime is in nanoseconds.", status: http.StatusCreated},
		func(ctx context.Context, in *enrol) (*document[vault.EnrolmentToken], error) {
			return answer(r.vault.CreateEnrolment(ctx, in.Body))
		})
}

// Nodes lists the enrolled roles.
func (c *Client) Nodes(ctx context.Context, q vault.Query) (vault.Page[vault.Node], error) {
	return listed[vault.Node](ctx, c, q, "nodes")
}

// Node tells of one.
func (c *Client) Node(ctx context.Context, name string) (vault.Node, error) {
	return read[vault.Node](ctx, c, nil, "nodes", name)
}

// CreateEnrolment makes a token that admits one node once.
func (c *Client) CreateEnrolment(ctx context.Context, req vault.EnrolmentRequest) (vault.EnrolmentToken, error) {
	return call[vault.EnrolmentToken](ctx, c, request{method: http.MethodPost, path: []string{"enrolments"}, body: req})
}

// Enrolments lists the tokens, without their secrets.
func (c *Client) Enrolments(ctx context.Context, q vault.Query) (vault.Page[vault.EnrolmentToken], error) {
	return listed[vault.EnrolmentToken](ctx, c, q, "enrolments")
}

// RevokeNode revokes a node's certificate.
func (c *Client) RevokeNode(ctx context.Context, name string) (vault.Node, error) {
	return call[vault.Node](ctx, c, request{method: http.MethodPost, path: []string{"nodes", name, "revoke"}})
}

// SetAddresses replaces what peers use to reach a node.
func (c *Client) SetAddresses(ctx context.Context, name string, a []vault.Address) (vault.Node, error) {
	return call[vault.Node](ctx, c, request{method: http.MethodPut, path: []string{"nodes", name, "addresses"}, body: addressesBody{Addresses: a}})
}

// Limit sets the bandwidth schedule of a process server, now.
func (c *Client) Limit(ctx context.Context, node string, req homeward.LimitRequest) error {
	_, err := call[struct{}](ctx, c, request{method: http.MethodPut, path: []string{"nodes", node, "limit"}, body: req})
	return err
}
