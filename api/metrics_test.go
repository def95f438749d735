package api

import (
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/vault"
)

func TestMetrics(t *testing.T) {
	f, _ := memory(t)
	c := f.client(vault.Contributor)
	scrape := func() string {
		resp, body := f.raw(vault.Reader, "GET", "/metrics", "")
		if resp.StatusCode != 200 {
			t.Fatalf("%s %s", resp.Status, body)
		}
		return body
	}
	for range 100 { // of paths that do not exist, with names that strangers choose
		f.raw(vault.Reader, "GET", "/v1/"+strings.Repeat("x", 9), "")
	}
	_, err := c.Act(t.Context(), vault.ActionRequest{Item: "web01", Machine: "home/vm-1", Action: vault.Enable, Input: vault.Input{Target: "dr", Policy: "gold"}})
	must(t, err)
	eventually(t, "the metrics to tell of the jobs", func() bool {
		body := scrape()
		return strings.Contains(body, `homeward_job_seconds_count{result="succeeded",scenario="IrCompletion"} 1`) &&
			strings.Contains(body, `homeward_job_seconds_count{result="succeeded",scenario="EnableDr"} 1`) &&
			strings.Contains(body, `homeward_item_points{item="web01"} 2`)
	})
	body := scrape()
	for _, want := range []string{
		`homeward_item_rpo_seconds{item="web01"} `, `homeward_item_lag_bytes{item="web01"} `, `homeward_item_spool_bytes{item="web01"} `,
		`homeward_item_retention_bytes{item="web01"} `, `homeward_item_failback_ready{item="web01"} 0`, `homeward_items_left_out 0`,
		`homeward_nodes{role="agent",state="ready"} 2`, `homeward_jobs_running 0`, `homeward_vault_read_only 0`, `homeward_vault_up 1`,
		`homeward_http_request_seconds_count{code="202",method="POST",route="/v1/items/{item}/actions/enable"} 1`,
		`homeward_http_request_seconds_count{code="404",method="other",route="other"} 100`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not told in\n%s", want, body)
		}
	}
	if strings.Contains(body, "xxxx") {
		t.Error("what strangers ask for makes series")
	}
}

func TestMetrics_Open(t *testing.T) {
	f, _ := memory(t, func(o *ServerOptions) { o.OpenMetrics = true })
	if resp, _ := f.raw("", "GET", "/metrics", ""); resp.StatusCode != 200 {
		t.Errorf("%s", resp.Status)
	}
}

// TestMetrics_Incomplete: a vault that does not answer is told as such.
func TestMetrics_Incomplete(t *testing.T) {
	f := serve(t, &spy{seen: map[string]int{}})
	if _, body := f.raw(vault.Reader, "GET", "/metrics", ""); !strings.Contains(body, "homeward_vault_up 0") {
		t.Error(body)
	}
}
