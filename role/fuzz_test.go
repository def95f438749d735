package role

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

func fuzzBody(t *testing.T, body []byte) {
	mux := http.NewServeMux()
	mux.Handle("/v1/agent/", AgentHandler(fakeAgent{&recorder{}}))
	mux.Handle("/v1/site/", SiteHandler(fakeSite{&recorder{}}))
	mux.Handle("/v1/member/", MemberHandler(fakeMember{&recorder{}}))
	for _, path := range []string{
		"agent/prepare", "agent/handover", "agent/digest", "agent/hold", "agent/mark-changed",
		"site/create", "site/power-off", "site/guard", "site/options", "member/health", "member/probe",
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/"+path, bytes.NewReader(body)))
		resp := w.Result()
		if resp.StatusCode == http.StatusOK {
			continue
		}
		if err := wire.ReadProblem(resp); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("%s: %q: %v", path, body, err)
		}
	}
}
