package api

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// ofItem selects an item.
type ofItem struct {
	Item homeward.ItemID `path:"item"`
}

// pinBody names a point, and who holds it.
type pinBody struct {
	Point homeward.Position `json:"point"`
	Name  string            `json:"name" doc:"Who holds it: hold:audit, for instance."`
}

func itemMeta(i vault.Item) vault.Meta { return i.Meta }

func (r *routes) items() {
	list(r, route{path: "/items", id: "list-items", summary: "List replicated items"}, r.vault.Items, "site", "state")
	handle(r, route{method: http.MethodGet, path: "/items/{item}", id: "get-item", summary: "Get an item", access: vault.Reader,
		detail: "With the actions that are allowed now, and why the others are not."},
		func(ctx context.Context, in *ofItem) (*versioned[vault.Item], error) {
			i, err := r.vault.Item(ctx, in.Item)
			return answerAt(i, itemMeta, err)
		})
	handle(r, route{method: http.MethodGet, path: "/items/{item}/points", id: "list-points", summary: "List an item's recovery points", access: vault.Reader},
		func(ctx context.Context, in *ofItem) (*document[homeward.PointList], error) {
			return answer(r.vault.Points(ctx, in.Item))
		})
	type pin struct {
		Item homeward.ItemID `path:"item"`
		Body pinBody
	}
	pinned := func(in *pin) homeward.PinRequest {
		return homeward.PinRequest{Item: in.Item, Point: in.Body.Point, Name: in.Body.Name}
	}
	handle(r, route{method: http.MethodPost, path: "/items/{item}/pin", id: "pin-point", summary: "Hold a recovery point against thinning", access: vault.Operator, status: http.StatusNoContent},
		func(ctx context.Context, in *pin) (*nothing, error) { return nil, r.vault.Pin(ctx, pinned(in)) })
	handle(r, route{method: http.MethodPost, path: "/items/{item}/unpin", id: "unpin-point", summary: "Let a held recovery point go", access: vault.Operator, status: http.StatusNoContent},
		func(ctx context.Context, in *pin) (*nothing, error) { return nil, r.vault.Unpin(ctx, pinned(in)) })
	handle(r, route{method: http.MethodGet, path: "/items/{item}/readiness", id: "get-readiness", summary: "Get an item's failback readiness", access: vault.Reader},
		func(ctx context.Context, in *ofItem) (*document[vault.Readiness], error) {
			return answer(r.vault.Readiness(ctx, in.Item))
		})
	handle(r, route{method: http.MethodPost, path: "/items/{item}/proof", id: "prove-item", summary: "Digest both sides at one point", access: vault.Operator, status: http.StatusAccepted},
		func(ctx context.Context, in *ofItem) (*begun, error) { return begin(r.vault.Prove(ctx, in.Item)) })
	type proof struct {
		ContentType string `header:"Content-Type"`
		Body        []byte `contentType:"application/json"`
	}
	handle(r, route{method: http.MethodGet, path: "/items/{item}/proof", id: "get-proof", summary: "Get the newest signed proof", access: vault.Reader,
		detail: "The signature is over the bytes as they are."},
		func(ctx context.Context, in *ofItem) (*proof, error) {
			data, err := r.vault.Proof(ctx, in.Item)
			return &proof{ContentType: "application/json", Body: data}, err
		})
	type tune struct {
		Item homeward.ItemID `path:"item"`
		Body vault.TuneRequest
	}
	handle(r, route{method: http.MethodPatch, path: "/items/{item}", id: "tune-item", summary: "Change priority, pause or resume replication", access: vault.Operator},
		func(ctx context.Context, in *tune) (*versioned[vault.Item], error) {
			i, err := r.vault.Tune(ctx, in.Item, in.Body)
			return answerAt(i, itemMeta, err)
		})
}

// Items lists the replicated items.
func (c *Client) Items(ctx context.Context, q vault.Query) (vault.Page[vault.Item], error) {
	return listed[vault.Item](ctx, c, q, "items")
}

// Item tells of one.
func (c *Client) Item(ctx context.Context, id homeward.ItemID) (vault.Item, error) {
	return read[vault.Item](ctx, c, nil, "items", string(id))
}

// Points lists an item's recovery points.
func (c *Client) Points(ctx context.Context, id homeward.ItemID) (homeward.PointList, error) {
	return read[homeward.PointList](ctx, c, nil, "items", string(id), "points")
}

// Pin holds a point against thinning.
func (c *Client) Pin(ctx context.Context, req homeward.PinRequest) error {
	return c.pin(ctx, req, "pin")
}

// Unpin lets it go.
func (c *Client) Unpin(ctx context.Context, req homeward.PinRequest) error {
	return c.pin(ctx, req, "unpin")
}

func (c *Client) pin(ctx context.Context, req homeward.PinRequest, verb string) error {
	_, err := call[struct{}](ctx, c, request{method: http.MethodPost, path: []string{"items", string(req.Item), verb}, body: pinBody{Point: req.Point, Name: req.Name}})
	return err
}

// Readiness is the standing failback score with its findings.
func (c *Client) Readiness(ctx context.Context, id homeward.ItemID) (vault.Readiness, error) {
	return read[vault.Readiness](ctx, c, nil, "items", string(id), "readiness")
}

// Prove digests both sides at one point.
func (c *Client) Prove(ctx context.Context, id homeward.ItemID) (vault.Job, error) {
	return call[vault.Job](ctx, c, request{method: http.MethodPost, path: []string{"items", string(id), "proof"}})
}

// Proof is the newest signed report.
func (c *Client) Proof(ctx context.Context, id homeward.ItemID) ([]byte, error) {
	return read[[]byte](ctx, c, nil, "items", string(id), "proof")
}

// Tune changes priority, or pauses and resumes replication.
func (c *Client) Tune(ctx context.Context, id homeward.ItemID, req vault.TuneRequest) (vault.Item, error) {
	return call[vault.Item](ctx, c, request{method: http.MethodPatch, path: []string{"items", string(id)}, body: req})
}
