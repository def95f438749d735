package api

import (
	"bytes"
	"flag"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/vault"
)

var update = flag.Bool("update", false, "write docs/openapi.yaml anew")

// TestOpenAPI_Committed keeps docs/openapi.yaml what the server serves.
func TestOpenAPI_Committed(t *testing.T) {
	const path = "../docs/openapi.yaml"
	s, err := NewServer(ServerOptions{Vault: &spy{}, Authenticator: plainTokens{}, Version: "1"})
	must(t, err)
	if *update {
		must(t, durable.WriteFile(durable.OS(), path, s.OpenAPI(), 0o644))
	}
	committed, err := durable.ReadFile(durable.OS(), path)
	if err != nil || !bytes.Equal(committed, s.OpenAPI()) {
		t.Errorf("%s is not what the server serves: run 'go test ./api -run OpenAPI -update' (%v)", path, err)
	}
}

// TestOpenAPI_Actions: each action is an operation with its own input and no other.
func TestOpenAPI_Actions(t *testing.T) {
	s, err := NewServer(ServerOptions{Vault: &spy{}, Authenticator: plainTokens{}})
	must(t, err)
	for _, action := range vault.Actions() {
		for _, kind := range []string{"actions", "plans"} {
			item := s.paths["/v1/items/{item}/"+kind+"/"+string(action)]
			if item == nil || item.Post == nil {
				t.Errorf("%s has no operation in %s", action, kind)
				continue
			}
			fields := item.Post.RequestBody.Content["application/json"].Schema.Properties
			want := action.Inputs()
			if action == vault.Enable {
				want = append(want, "machine")
			}
			if len(fields) != len(want) {
				t.Errorf("%s takes %d fields, want %v", action, len(fields), want)
			}
			for _, f := range want {
				if fields[f] == nil {
					t.Errorf("%s does not take %s", action, f)
				}
			}
		}
	}
	if strings.Contains(string(s.OpenAPI()), "ErrorModel") {
		t.Error("an error document that is never sent is described")
	}
}

// TestOpenAPI_Defaults: what is always told may still be left out of a request.
func TestOpenAPI_Defaults(t *testing.T) {
	f, _ := memory(t)
	resp, body := f.raw(vault.Contributor, "PUT", "/v1/policies/p", `{"settings":{"rpo_threshold":60000000000,"retention":[{"for":3600000000000}]}}`)
	if resp.StatusCode != 200 || !strings.Contains(body, `"min_interval":1000000000`) {
		t.Errorf("%s %s", resp.Status, body)
	}
	_, err := f.client(vault.Contributor).PutPolicy(t.Context(), vault.PolicyRequest{Name: "q", Settings: homeward.Policy{}})
	must(t, err)
}
