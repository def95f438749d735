package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

func roundTrip(t *testing.T, err error) (*http.Response, error) {
	t.Helper()
	w := httptest.NewRecorder()
	WriteProblem(w, err)
	resp := w.Result()
	t.Cleanup(func() { resp.Body.Close() })
	return resp, ReadProblem(resp)
}

func TestProblem_EveryKind(t *testing.T) {
	for kind, outcome := range homeward.Table {
		t.Run(string(kind), func(t *testing.T) {
			sent := homeward.Errorf("put delta", kind, "item web01", "do this", "because of %d", 7)
			resp, got := roundTrip(t, sent)
			if resp.StatusCode != outcome.HTTP {
				t.Errorf("status %d, want %d", resp.StatusCode, outcome.HTTP)
			}
			if got.Error() != sent.Error() || homeward.KindOf(got) != kind || homeward.RemedyOf(got) != "do this" {
				t.Errorf("got %q (%s), want %q", got, homeward.KindOf(got), sent)
			}
			wantRetry := kind == homeward.Busy || kind == homeward.NoSpace
			if has := resp.Header.Get("Retry-After") != ""; has != wantRetry {
				t.Errorf("Retry-After present: %v, want %v", has, wantRetry)
			}
		})
	}
}

func TestProblem_Causes(t *testing.T) {
	at := homeward.Position{Generation: homeward.Generation{Number: 2, ID: homeward.NewID()}, Sequence: 9, Cut: homeward.NewID()}
	for _, true_ := range []homeward.Position{at, {}} {
		_, got := roundTrip(t, homeward.Errorf("put", homeward.Conflict, "item a", "cut again", "here: %w", &homeward.PositionError{True: true_}))
		var position *homeward.PositionError
		if !errors.As(got, &position) || position.True != true_ {
			t.Errorf("position lost: %v", got)
		}
	}
	_, got := roundTrip(t, homeward.Wrap(&homeward.Error{Op: "x", Kind: homeward.Fenced, Err: &homeward.FencedError{InForce: at.Generation}}, "put", "item a"))
	var fenced *homeward.FencedError
	if !errors.As(got, &fenced) || fenced.InForce != at.Generation {
		t.Errorf("generation lost: %v", got)
	}
	_, got = roundTrip(t, homeward.Errorf("put", homeward.Busy, "", "wait", "%w", &RetryError{After: 7 * time.Second}))
	if RetryAfter(got) != 7*time.Second {
		t.Errorf("retry after %v", RetryAfter(got))
	}
}

type extended struct{}

func (*extended) Error() string                  { return "more to say" }
func (*extended) ProblemMembers() map[string]any { return map[string]any{"job": "j7", "kind": "mine"} }

func TestProblem_Members(t *testing.T) {
	sent := homeward.Errorf("act", homeward.Conflict, "item a", "wait", "not now: %w", &extended{})
	_, got := roundTrip(t, sent)
	data, err := EncodeProblem(sent, "r1")
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []error{got, DecodeProblem(data)} {
		var members *MembersError
		if !errors.As(got, &members) || len(members.Members) != 1 || string(members.Members["job"]) != `"j7"` {
			t.Errorf("members lost: %v", got)
		}
		if got.Error() != sent.Error() || homeward.KindOf(got) != homeward.Conflict {
			t.Errorf("got %q, want %q", got, sent)
		}
	}
	for _, bad := range []string{"", "{", "[]"} {
		if err := DecodeProblem([]byte(bad)); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestProblem_RequestID(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set(RequestHeader, "r77")
	WriteProblem(w, errors.New("odd"))
	if !strings.Contains(w.Body.String(), `"request":"r77"`) || !strings.Contains(w.Body.String(), `"status":500`) {
		t.Error(w.Body)
	}
}

func TestProblem_PlainErrors(t *testing.T) {
	for err, kind := range map[error]homeward.Kind{
		errors.New("odd"):                                 homeward.Internal,
		fmt.Errorf("x: %w", context.Canceled):             homeward.Canceled,
		context.DeadlineExceeded:                          homeward.Timeout,
		&homeward.Error{Op: "put", Kind: homeward.Busy}:   homeward.Busy,
		homeward.Errorf("a", "kind-of-2090", "", "", "?"): homeward.Internal,
	} {
		if _, got := roundTrip(t, err); homeward.KindOf(got) != kind {
			t.Errorf("%v: kind %s, want %s", err, homeward.KindOf(got), kind)
		}
	}
}

func TestProblem_RemedyOnce(t *testing.T) {
	inner := homeward.Errorf("sync", homeward.NoSpace, "spool", "free some", "full")
	_, got := roundTrip(t, homeward.Wrap(inner, "put delta", "item a"))
	if n := strings.Count(got.Error(), "free some"); n != 1 || homeward.RemedyOf(got) != "free some" {
		t.Errorf("remedy %d times in %q", n, got)
	}
}

func TestReadProblem_Foreign(t *testing.T) {
	for status, kind := range map[int]homeward.Kind{
		401: homeward.Unauthentic, 403: homeward.Forbidden, 404: homeward.NotFound, 429: homeward.Busy,
		502: homeward.Unavailable, 503: homeward.Unavailable, 504: homeward.Timeout, 507: homeward.NoSpace, 418: homeward.Invalid,
	} {
		resp := &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{},
			Body: io.NopCloser(strings.NewReader("<html>\x00\xff hello"))}
		got := ReadProblem(resp)
		if homeward.KindOf(got) != kind || homeward.RemedyOf(got) == "" {
			t.Errorf("%d: %v", status, got)
		}
	}
}

func TestReadDocument(t *testing.T) {
	read := func(status int, body string) (v struct{ A int }, err error) {
		err = ReadDocument(&http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, 16, &v)
		return v, err
	}
	if v, err := read(200, `{"A":3}`); err != nil || v.A != 3 {
		t.Errorf("%v %v", v, err)
	}
	for _, body := range []string{"", "{", strings.Repeat(" ", 17)} {
		if _, err := read(200, body); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func FuzzReadProblem(f *testing.F) {
	f.Add(409, `{"kind":"conflict","detail":"m","allowed":["x"],"position":""}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {ProblemType}}, Body: io.NopCloser(strings.NewReader(body))}
		var e *homeward.Error
		if err := ReadProblem(resp); !errors.As(err, &e) || e.Error() == "" {
			t.Fatalf("not an error of ours: %v", err)
		}
	})
}
