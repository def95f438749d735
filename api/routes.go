package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/homeward-dr/homeward/vault"
)

// routes registers the operations of the contract, one file per part of it.
type routes struct {
	api     huma.API
	vault   vault.Vault
	problem *huma.Response // of every operation

	bodyTimeout time.Duration
}

// route is one operation. Path is below /v1.
type route struct {
	method, path, id string
	summary, detail  string
	access           vault.Access
	status           int // of success; 0: 200
}

func (r *routes) register() {
	r.sites()
	r.nodes()
	r.items()
	r.actions()
	r.policies()
	r.jobs()
	r.oversight()
	r.tokens()
}

// handle registers an operation whose errors are those of the vault.
func handle[I, O any](r *routes, o route, do func(context.Context, *I) (*O, error), more ...func(*huma.Operation)) {
	op := huma.Operation{
		Method: o.method, Path: "/v1" + o.path, OperationID: o.id, Summary: o.summary,
		Description:   strings.TrimSpace(o.detail + "\n\nTakes access: " + string(o.access) + "."),
		DefaultStatus: o.status,
		MaxBodyBytes:  maxBody,
		Tags:          []string{strings.Split(o.path, "/")[1]},
		Security:      []map[string][]string{{"token": {}}},
	}
	op.BodyReadTimeout = r.bodyTimeout
	op.Responses = map[string]*huma.Response{}
	for _, change := range more {
		change(&op)
	}
	op.Responses["default"] = r.problem
	huma.Register(r.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			return nil, &refusal{err}
		}
		return out, nil
	})
}

// nothing is the input or output of operations without one.
type nothing struct{}

// named selects a resource by its name.
type named struct {
	Name string `path:"name"`
}

// identified selects a resource by its id.
type identified struct {
	ID string `path:"id"`
}

// document is an answer.
type document[T any] struct {
	Body T
}

// versioned is an answer with the revision that If-Match takes.
type versioned[T any] struct {
	ETag string `header:"ETag" doc:"Revision of the resource; If-Match takes it."`
	Body T
}

// answer makes a document of what the vault said.
func answer[T any](v T, err error) (*document[T], error) {
	return &document[T]{Body: v}, err
}

// answerAt is answer with a revision.
func answerAt[T any](v T, meta func(T) vault.Meta, err error) (*versioned[T], error) {
	return &versioned[T]{Body: v, ETag: etag(meta(v).Revision)}, err
}

// listing is the input of lists.
type listing struct {
	Limit int    `query:"limit" doc:"Most entries of the page: 1 to 1000. Default: 100."`
	After string `query:"after" doc:"Value of next of the page before."`
	Site  string `query:"site" doc:"Only those of this site."`
	Item  string `query:"item" doc:"Only those of this item."`
	State string `query:"state" doc:"Only those in this state."`
	Role  string `query:"role" doc:"Only those of this role."`
	url   *url.URL
}

// Resolve keeps the address of the page for the link to the next one.
func (l *listing) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	l.url = &u
	return nil
}

func (l *listing) query() vault.Query {
	return vault.Query{Limit: l.Limit, After: l.After, Site: l.Site, Item: l.Item, State: l.State, Role: l.Role}
}

// page is one page of a list.
type page[T any] struct {
	Link string `header:"Link" doc:"Address of the next page, rel=next."`
	Body vault.Page[T]
}

// list registers a list; filters are those that mean something to its entries, the
// vault refuses the others.
func list[T any](r *routes, o route, get func(context.Context, vault.Query) (vault.Page[T], error), filters ...string) {
	o.method = http.MethodGet
	if o.access == "" {
		o.access = vault.Reader
	}
	handle(r, o, func(ctx context.Context, in *listing) (*page[T], error) {
		entries, err := get(ctx, in.query())
		if err != nil {
			return nil, err
		}
		if entries.Entries == nil {
			entries.Entries = []T{}
		}
		out := &page[T]{Body: entries}
		if entries.Next != "" {
			q := in.url.Query()
			q.Set("after", entries.Next)
			out.Link = "<" + in.url.EscapedPath() + "?" + q.Encode() + `>; rel="next"`
		}
		return out, nil
	})
	op := r.api.OpenAPI().Paths["/v1"+o.path].Get
	op.Parameters = slices.DeleteFunc(op.Parameters, func(p *huma.Param) bool {
		return p.Name != "limit" && p.Name != "after" && !slices.Contains(filters, p.Name)
	})
}

// listed is the client's side of list.
func listed[T any](ctx context.Context, c *Client, q vault.Query, path ...string) (vault.Page[T], error) {
	return read[vault.Page[T]](ctx, c, values(q), path...)
}
