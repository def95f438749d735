package api

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward/vault"
)

// siteBody is what of a site can be changed.
type siteBody struct {
	Label string `json:"label,omitempty" doc:"For people."`
}

func siteMeta(s vault.Site) vault.Meta { return s.Meta }

func (r *routes) sites() {
	list(r, route{path: "/sites", id: "list-sites", summary: "List sites"}, r.vault.Sites)
	handle(r, route{method: http.MethodGet, path: "/sites/{name}", id: "get-site", summary: "Get a site", access: vault.Reader},
		func(ctx context.Context, in *named) (*versioned[vault.Site], error) {
			s, err := r.vault.Site(ctx, in.Name)
			return answerAt(s, siteMeta, err)
		})
	type put struct {
		Name    string `path:"name"`
		IfMatch string `header:"If-Match" doc:"ETag of the resource as it was read; if it has changed since, the answer is 409. Absent or *: any."`
		Body    siteBody
	}
	handle(r, route{method: http.MethodPut, path: "/sites/{name}", id: "put-site", summary: "Make or change a site", access: vault.Contributor},
		func(ctx context.Context, in *put) (*versioned[vault.Site], error) {
			revision, err := revisionOf(in.IfMatch)
			if err != nil {
				return nil, err
			}
			s, err := r.vault.PutSite(ctx, vault.SiteRequest{Name: in.Name, Label: in.Body.Label, Revision: revision})
			return answerAt(s, siteMeta, err)
		})
	handle(r, route{method: http.MethodDelete, path: "/sites/{name}", id: "delete-site", summary: "Delete a site", access: vault.Contributor,
		detail: "Refused while nodes or items are there.", status: http.StatusNoContent},
		func(ctx context.Context, in *named) (*nothing, error) {
			return nil, r.vault.DeleteSite(ctx, in.Name)
		})
	handle(r, route{method: http.MethodPost, path: "/sites/{name}/refresh", id: "refresh-site", summary: "Read a site's inventory now", access: vault.Operator},
		func(ctx context.Context, in *named) (*versioned[vault.Site], error) {
			s, err := r.vault.RefreshSite(ctx, in.Name)
			return answerAt(s, siteMeta, err)
		})
	list(r, route{path: "/machines", id: "list-machines", summary: "List machines"}, r.vault.Machines, "site", "item", "state")
	handle(r, route{method: http.MethodGet, path: "/machines/{id}", id: "get-machine", summary: "Get a machine", access: vault.Reader,
		detail: "The id holds a slash, which is written %2F."},
		func(ctx context.Context, in *identified) (*versioned[vault.Machine], error) {
			m, err := r.vault.Machine(ctx, in.ID)
			return answerAt(m, func(m vault.Machine) vault.Meta { return m.Meta }, err)
		})
}

// Sites lists the sites.
func (c *Client) Sites(ctx context.Context, q vault.Query) (vault.Page[vault.Site], error) {
	return listed[vault.Site](ctx, c, q, "sites")
}

// Site tells of one.
func (c *Client) Site(ctx context.Context, name string) (vault.Site, error) {
	return read[vault.Site](ctx, c, nil, "sites", name)
}

// PutSite makes or changes a site.
func (c *Client) PutSite(ctx context.Context, req vault.SiteRequest) (vault.Site, error) {
	return call[vault.Site](ctx, c, request{method: http.MethodPut, path: []string{"sites", req.Name}, revision: req.Revision, body: siteBody{Label: req.Label}})
}

// DeleteSite removes a site without nodes and items.
func (c *Client) DeleteSite(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, request{method: http.MethodDelete, path: []string{"sites", name}})
	return err
}

// RefreshSite reads a site's inventory now.
func (c *Client) RefreshSite(ctx context.Context, name string) (vault.Site, error) {
	return call[vault.Site](ctx, c, request{method: http.MethodPost, path: []string{"sites", name, "refresh"}})
}

// Machines lists what was discovered.
func (c *Client) Machines(ctx context.Context, q vault.Query) (vault.Page[vault.Machine], error) {
	return listed[vault.Machine](ctx, c, q, "machines")
}

// Machine tells of one.
func (c *Client) Machine(ctx context.Context, id string) (vault.Machine, error) {
	return read[vault.Machine](ctx, c, nil, "machines", id)
}
