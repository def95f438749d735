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
	h := AgentHandler(fakeAgent{&recorder{}})
	for _, path := range []string{"prepare", "handover", "digest", "hold", "mark-changed"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/agent/"+path, bytes.NewReader(body)))
		resp := w.Result()
		if resp.StatusCode == http.StatusOK {
			continue
		}
		if err := wire.ReadProblem(resp); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("%s: %q: %v", path, body, err)
		}
	}
}
