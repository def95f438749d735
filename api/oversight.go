package api

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward/vault"
)

func (r *routes) oversight() {
	list(r, route{path: "/alerts", id: "list-alerts", summary: "List alerts"}, r.vault.Alerts, "state")
	handle(r, route{method: http.MethodPost, path: "/alerts/{id}/acknowledge", id: "acknowledge-alert", summary: "Say that an alert is known", access: vault.Operator,
		detail: "It stays until its cause is gone."},
		func(ctx context.Context, in *identified) (*document[vault.Alert], error) {
			return answer(r.vault.AcknowledgeAlert(ctx, in.ID))
		})
	list(r, route{path: "/audit", id: "list-audit", summary: "List what was asked for, and what became of it"}, r.vault.Audit)
	handle(r, route{method: http.MethodGet, path: "/status", id: "get-status", summary: "Get how the vault stands", access: vault.Reader},
		func(ctx context.Context, _ *nothing) (*document[vault.Status], error) {
			return answer(r.vault.Status(ctx))
		})
}

// Alerts lists what somebody should know.
func (c *Client) Alerts(ctx context.Context, q vault.Query) (vault.Page[vault.Alert], error) {
	return listed[vault.Alert](ctx, c, q, "alerts")
}

// AcknowledgeAlert says that it is known.
func (c *Client) AcknowledgeAlert(ctx context.Context, id string) (vault.Alert, error) {
	return call[vault.Alert](ctx, c, request{method: http.MethodPost, path: []string{"alerts", id, "acknowledge"}})
}

// Audit lists what was asked for, and what became of it.
func (c *Client) Audit(ctx context.Context, q vault.Query) (vault.Page[vault.AuditEntry], error) {
	return listed[vault.AuditEntry](ctx, c, q, "audit")
}

// Status is how the vault stands.
func (c *Client) Status(ctx context.Context) (vault.Status, error) {
	return read[vault.Status](ctx, c, nil, "status")
}
