package api

import (
	"bufio"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/wire"
)

// told is a problem document, as far as tests look at it.
type toldProblem struct {
	Type, Title, Detail, Kind, Subject, Remedy, Request, Job string
	Status                                                   int
	Allowed                                                  []string
}

func problemIn(t *testing.T, resp *http.Response, body string) (p toldProblem) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.Header.Get("Content-Type") != wire.ProblemType {
		t.Fatalf("no problem document: %s %q", resp.Status, body)
	}
	if p.Status != resp.StatusCode || p.Type != "urn:homeward:error:"+p.Kind || p.Remedy == "" || p.Request != resp.Header.Get(wire.RequestHeader) || p.Request == "" {
		t.Errorf("problem %+v with %s", p, resp.Status)
	}
	return p
}

// TestServer_WrongRequests sends what no client of ours would.
func TestServer_WrongRequests(t *testing.T) {
	f, _ := memory(t)
	long := strings.Repeat("x", maxBody)
	for name, test := range map[string]struct {
		method, path, body string
		header             []string
		kind               homeward.Kind
		subject            string
	}{
		"unknown path":       {"GET", "/v1/nothing", "", nil, homeward.NotFound, "GET /v1/nothing"},
		"unknown method":     {"POST", "/v1/sites", "{}", nil, homeward.NotFound, "POST /v1/sites"},
		"way up":             {"GET", "/v1/sites/%2E%2E", "", nil, homeward.NotFound, "site .."},
		"unknown query":      {"GET", "/v1/sites?colour=red", "", nil, homeward.Invalid, "colour"},
		"filter of others":   {"GET", "/v1/policies?role=agent", "", nil, homeward.Invalid, "role"},
		"limit is no number": {"GET", "/v1/sites?limit=many", "", nil, homeward.Invalid, "limit"},
		"limit is too high":  {"GET", "/v1/sites?limit=100000", "", nil, homeward.Invalid, "limit"},
		"unknown field":      {"PUT", "/v1/sites/a", `{"lable":"x"}`, nil, homeward.Invalid, "lable"},
		"wrong type":         {"PUT", "/v1/sites/a", `{"label":7}`, nil, homeward.Invalid, "label"},
		"field in settings":  {"PUT", "/v1/policies/a", `{"settings":{"rpo":7}}`, nil, homeward.Invalid, "settings.rpo"},
		"missing":            {"POST", "/v1/tokens", `{"name":"x"}`, nil, homeward.Invalid, "access"},
		"no JSON":            {"PUT", "/v1/sites/a", `{"label":`, nil, homeward.Invalid, "body"},
		"two documents":      {"PUT", "/v1/sites/a", `{} {}`, nil, homeward.Invalid, "body"},
		"no body":            {"POST", "/v1/tokens", "", nil, homeward.Invalid, ""},
		"other type":         {"PUT", "/v1/sites/a", "<label/>", []string{"Content-Type", "text/xml"}, homeward.Invalid, "Content-Type"},
		"too long":           {"PUT", "/v1/sites/a", `{"label":"` + long + `"}`, nil, homeward.Invalid, "body"},
		"no ETag":            {"PUT", "/v1/sites/a", "{}", []string{"If-Match", "7"}, homeward.Invalid, "If-Match"},
		"weak ETag":          {"PUT", "/v1/sites/a", "{}", []string{"If-Match", `W/"7"`}, homeward.Invalid, "If-Match"},
		"key with spaces":    {"POST", "/v1/items/a/actions/commit", "", []string{"Idempotency-Key", "a b"}, homeward.Invalid, "Idempotency-Key"},
		"input of others":    {"POST", "/v1/items/a/actions/commit", `{"network":"lab"}`, nil, homeward.Invalid, "network"},
		"machine of others":  {"POST", "/v1/items/a/plans/commit", `{"machine":"home/1"}`, nil, homeward.Invalid, "machine"},
		"no machine":         {"POST", "/v1/items/a/actions/enable", `{"policy":"gold"}`, nil, homeward.Invalid, "machine"},
		"no event":           {"GET", "/v1/events?after=last", "", nil, homeward.Invalid, "after"},
		"no event header":    {"GET", "/v1/events", "", []string{"Last-Event-ID", "x"}, homeward.Invalid, "Last-Event-ID"},
	} {
		t.Run(name, func(t *testing.T) {
			header := append([]string{"Content-Type", "application/json"}, test.header...)
			resp, body := f.raw(vault.Administrator, test.method, test.path, test.body, header...)
			p := problemIn(t, resp, body)
			if p.Kind != string(test.kind) || p.Subject != test.subject || p.Status != homeward.Table[test.kind].HTTP {
				t.Errorf("%d %+v", resp.StatusCode, p)
			}
			if len(body) > 4096 {
				t.Errorf("a wrong request is answered with %d bytes", len(body))
			}
		})
	}
}

func TestServer_Conflict(t *testing.T) {
	f, m := memory(t)
	release := m.Hold("EnableProtectionTask")
	defer release()
	enable := `{"machine":"home/vm-1","target_site":"dr","policy":"gold"}`
	resp, body := f.raw(vault.Contributor, "POST", "/v1/items/web01/actions/enable", enable, "Idempotency-Key", "k1")
	if resp.StatusCode != http.StatusAccepted || !strings.HasPrefix(resp.Header.Get("Location"), "/v1/jobs/job-") {
		t.Fatalf("%s %s", resp.Status, body)
	}
	job := strings.TrimPrefix(resp.Header.Get("Location"), "/v1/jobs/")
	again, _ := f.raw(vault.Contributor, "POST", "/v1/items/web01/actions/enable", enable, "Idempotency-Key", "k1")
	if again.Header.Get("Location") != resp.Header.Get("Location") {
		t.Errorf("the same key made %s", again.Header.Get("Location"))
	}
	resp, body = f.raw(vault.Contributor, "POST", "/v1/items/web01/actions/failover", "")
	if p := problemIn(t, resp, body); p.Status != 409 || p.Job != job || p.Allowed == nil {
		t.Errorf("%+v", p)
	}
	if _, body := f.raw(vault.Reader, "POST", "/v1/items/web01/plans/failover", ""); !strings.Contains(body, `"allowed":false`) {
		t.Errorf("plan %s", body)
	}
}

func TestServer_Revisions(t *testing.T) {
	f, _ := memory(t)
	resp, _ := f.raw(vault.Contributor, "PUT", "/v1/sites/a", `{"label":"x"}`)
	tag := resp.Header.Get("ETag")
	if tag != `"1"` {
		t.Fatalf("ETag %s", tag)
	}
	if resp, _ := f.raw(vault.Contributor, "PUT", "/v1/sites/a", `{"label":"y"}`, "If-Match", tag); resp.StatusCode != 200 || resp.Header.Get("ETag") != `"2"` {
		t.Errorf("%s, ETag %s", resp.Status, resp.Header.Get("ETag"))
	}
	resp, body := f.raw(vault.Contributor, "PUT", "/v1/sites/a", `{"label":"z"}`, "If-Match", tag)
	if p := problemIn(t, resp, body); p.Status != 409 {
		t.Errorf("%+v", p)
	}
	if resp, _ := f.raw(vault.Contributor, "PUT", "/v1/sites/a", `{}`, "If-Match", "*"); resp.StatusCode != 200 {
		t.Errorf("any: %s", resp.Status)
	}
}

func TestServer_Pages(t *testing.T) {
	f, _ := memory(t)
	path, seen := "/v1/nodes?limit=3&site=home", 0
	for path != "" {
		resp, body := f.raw(vault.Reader, "GET", path, "")
		var page vault.Page[vault.Node]
		must(t, json.Unmarshal([]byte(body), &page))
		seen += len(page.Entries)
		link, rel, _ := strings.Cut(resp.Header.Get("Link"), ">; ")
		if path = strings.TrimPrefix(link, "<"); path != "" && rel != `rel="next"` || (path == "") != (page.Next == "") {
			t.Fatalf("link %q, next %q", resp.Header.Get("Link"), page.Next)
		}
	}
	if seen != 4 {
		t.Errorf("%d nodes", seen)
	}
	if _, body := f.raw(vault.Reader, "GET", "/v1/items", ""); strings.TrimSpace(body) != `{"entries":[]}` {
		t.Errorf("an empty list is %s", body)
	}
}

func TestServer_OpenPaths(t *testing.T) {
	f, m := memory(t)
	c := f.client("")
	get := func(path string) int {
		t.Helper()
		resp, err := c.http.Get(f.url + path)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: nobody learns how to authenticate", path)
		}
		return resp.StatusCode
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/openapi.json": 200, "/openapi.yaml": 200, "/metrics": 401, "/v1/sites": 401, "/": 401, "/v1/events": 401} {
		if got := get(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	m.Restored("mt-home")
	eventually(t, "readiness to tell that it is read-only", func() bool {
		_, body := f.raw("", "GET", "/readyz", "")
		return strings.Contains(body, `"read_only":true`)
	})
}

func TestServer_NotReady(t *testing.T) {
	f, _ := memory(t, func(o *ServerOptions) {
		o.Ready = func(context.Context) error {
			return homeward.Errorf("open", homeward.IO, "disk", "secret", "of no concern to strangers")
		}
	})
	resp, body := f.raw(vault.Reader, "GET", "/readyz", "")
	if p := problemIn(t, resp, body); p.Status != 503 || strings.Contains(body, "strangers") {
		t.Errorf("%+v", p)
	}
}

// odd is a vault that panics, and blocks until it is let go.
type odd struct {
	vault.Vault
	entered, release chan struct{}
}

func (o *odd) Status(context.Context) (vault.Status, error) { panic("the secret is 42") }

func (o *odd) Watch(ctx context.Context, req vault.WatchRequest) iter.Seq2[vault.Event, error] {
	return func(func(vault.Event, error) bool) {
		if len(req.Kinds) == 0 {
			panic("the secret is 43")
		}
		<-ctx.Done()
	}
}

func (o *odd) Site(ctx context.Context, name string) (vault.Site, error) {
	o.entered <- struct{}{}
	select {
	case <-o.release:
		return vault.Site{Name: name}, nil
	case <-ctx.Done():
		return vault.Site{}, ctx.Err()
	}
}

func (o *odd) PutSite(ctx context.Context, req vault.SiteRequest) (vault.Site, error) {
	return o.Site(ctx, req.Name)
}

func TestServer_Panics(t *testing.T) {
	f := serve(t, &odd{})
	resp, body := f.raw(vault.Reader, "GET", "/v1/status", "")
	if p := problemIn(t, resp, body); p.Kind != "internal" || strings.Contains(body, "is 42") || !strings.Contains(p.Remedy, p.Request) {
		t.Errorf("%s", body)
	}
	for _, err := range f.client(vault.Reader).Watch(t.Context(), vault.WatchRequest{}) {
		if homeward.KindOf(err) != homeward.Internal || strings.Contains(err.Error(), "is 43") {
			t.Errorf("%v", err)
		}
	}
	if resp, _ := f.raw(vault.Reader, "GET", "/healthz", ""); resp.StatusCode != 200 {
		t.Errorf("it does not serve any more: %s", resp.Status)
	}
}

// TestServer_TooMany fills the server: one more is told so at once, and whether it
// lives can still be asked.
func TestServer_TooMany(t *testing.T) {
	o := &odd{entered: make(chan struct{}), release: make(chan struct{})}
	f := serve(t, o, func(o *ServerOptions) { o.Limits.Requests = 2 })
	c := f.client(vault.Reader)
	ended := make(chan error, 2)
	for range 2 {
		go func() { _, err := c.Site(t.Context(), "home"); ended <- err }()
		<-o.entered
	}
	resp, body := f.raw(vault.Reader, "GET", "/v1/sites/home", "")
	if p := problemIn(t, resp, body); p.Kind != "busy" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%+v", p)
	}
	if resp, _ := f.raw(vault.Reader, "GET", "/healthz", ""); resp.StatusCode != 200 {
		t.Errorf("health: %s", resp.Status)
	}
	close(o.release)
	for range 2 {
		must(t, <-ended)
	}
}

// TestServer_LongCall: the deadline for a body to arrive does not end a call that
// takes longer than that.
func TestServer_LongCall(t *testing.T) {
	o := &odd{entered: make(chan struct{}), release: make(chan struct{})}
	const body = 30 * time.Millisecond
	f := serve(t, o, func(o *ServerOptions) { o.Limits.Body, o.Limits.Header = body, body })
	c := f.client(vault.Reader)
	for name, call := range map[string]func() error{
		"with a body":    func() error { _, err := c.PutSite(t.Context(), vault.SiteRequest{Name: "home"}); return err },
		"without a body": func() error { _, err := c.Site(t.Context(), "home"); return err },
	} {
		ended := make(chan error, 1)
		go func() { ended <- call() }()
		<-o.entered
		time.AfterFunc(5*body, func() { o.release <- struct{}{} })
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServer_Slowloris: a client that sends a byte now and then is cut off, header
// or body, while others are served.
func TestServer_Slowloris(t *testing.T) {
	f, _ := memory(t, func(o *ServerOptions) { o.Limits.Header, o.Limits.Body = 100*time.Millisecond, 100*time.Millisecond })
	for name, start := range map[string]string{
		"header": "GET /v1/sites HTTP/1.1\r\nHost: vault\r\nX-Slow: ",
		"body": "PUT /v1/sites/a HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer " + f.secret[vault.Contributor] +
			"\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
	} {
		conn := f.dial()
		if _, err := conn.Write([]byte(start)); err != nil { // so slow that it was cut already
			conn.Close()
			continue
		}
		_, err := f.client(vault.Reader).Sites(t.Context(), vault.Query{})
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		rest := bufio.NewReader(conn)
		for {
			if _, err = rest.ReadByte(); err != nil {
				break
			}
		}
		if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
			t.Errorf("%s: it is still connected after a minute", name)
		}
		conn.Close()
	}
	if _, err := f.client(vault.Reader).Site(t.Context(), "a"); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("half a request did something: %v", err)
	}
}

func TestServer_Tokens(t *testing.T) {
	f, _ := memory(t)
	admin := f.client(vault.Administrator)
	short, err := admin.CreateToken(t.Context(), vault.TokenRequest{Name: "short", Access: vault.Administrator, Lifetime: time.Nanosecond})
	must(t, err)
	gone, err := admin.CreateToken(t.Context(), vault.TokenRequest{Name: "gone", Access: vault.Administrator})
	must(t, err)
	must(t, admin.DeleteToken(t.Context(), "gone"))
	_, err = admin.CreateToken(t.Context(), vault.TokenRequest{Name: "gone", Access: vault.Reader})
	must(t, err)
	for name, secret := range map[string]string{"expired": short.Secret, "deleted": gone.Secret, "wrong": "hw.reader.00", "none": "", "long": strings.Repeat("x", 2000)} {
		c := f.client("", func(o *ClientOptions) { o.Token = secret })
		if _, err := c.Status(t.Context()); homeward.KindOf(err) != homeward.Unauthentic || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	resp, body := f.raw(vault.Reader, "GET", "/v1/status", "", "Authorization", "Basic "+f.secret[vault.Reader])
	if p := problemIn(t, resp, body); p.Kind != "unauthentic" {
		t.Errorf("%+v", p)
	}
}

// TestServer_BreakGlass: whoever owns the vault needs no token at its socket; with
// one, the token counts.
func TestServer_BreakGlass(t *testing.T) {
	f, _ := memory(t)
	local := f.client("", func(o *ClientOptions) { o.URL, o.Token, o.CA = "unix://"+f.socket, "", "" })
	_, err := local.CreateToken(t.Context(), vault.TokenRequest{Name: "rescue", Access: vault.Administrator})
	must(t, err)
	log, err := local.Audit(t.Context(), vault.Query{Limit: 1})
	must(t, err)
	if e := log.Entries[0]; e.Caller != LocalCaller || !strings.HasPrefix(e.From, "uid ") {
		t.Errorf("audit entry %+v", e)
	}
	asReader := f.client(vault.Reader, func(o *ClientOptions) { o.URL = "unix://" + f.socket })
	if _, err := asReader.PutSite(t.Context(), vault.SiteRequest{Name: "x"}); homeward.KindOf(err) != homeward.Forbidden {
		t.Errorf("with a reader's token: %v", err)
	}
	remote := f.client("", func(o *ClientOptions) { o.Token = "" })
	if _, err := remote.Status(t.Context()); homeward.KindOf(err) != homeward.Unauthentic {
		t.Errorf("from afar without a token: %v", err)
	}
}

func TestServer_Options(t *testing.T) {
	if _, err := NewServer(ServerOptions{}); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("nothing given: %v", err)
	}
}

// A browser takes whatever is answered for what it says it is, and loads nothing for it,
// from here or elsewhere.
func TestServer_NothingForBrowsersToLoad(t *testing.T) {
	f, _ := memory(t, func(o *ServerOptions) { o.OpenMetrics = true })
	for _, path := range []string{"/", "/openapi.json", "/openapi.yaml", "/healthz", "/readyz", "/metrics", "/v1/items", "/docs", "/v1/items/%3Cscript%3E"} {
		resp, body := f.raw(vault.Reader, "GET", path, "")
		media := resp.Header.Get("Content-Type")
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") ||
			strings.Contains(media, "html") || media == "" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if strings.Contains(body, "<script") {
			t.Errorf("%s answers %q", path, body)
		}
	}
}
