package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/wire"
)

const (
	maxAnswer = 64 << 20 // bytes of one answer: a page of 1000 large jobs
	attempts  = 4        // of a read while the vault is unavailable
)

// request is one call on its way to the vault.
type request struct {
	method   string
	path     []string // below /v1, each one segment; an empty one is refused
	query    url.Values
	revision int64  // If-Match; 0: none
	key      string // Idempotency-Key
	body     any    // nil: none
}

// read calls GET and decodes the answer.
func read[T any](ctx context.Context, c *Client, query url.Values, path ...string) (T, error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path, query: query})
}

// call sends r and decodes the answer into a T; a T of []byte takes it as it is.
func call[T any](ctx context.Context, c *Client, r request) (answer T, err error) {
	target, err := c.url(r)
	if err != nil {
		return answer, err
	}
	var body []byte
	if r.body != nil {
		if body, err = json.Marshal(r.body); err != nil {
			return answer, homeward.Errorf("call vault", homeward.Invalid, r.method+" "+target, "give plain values", "%w", err)
		}
	}
	for attempt := 1; ; attempt++ {
		err = c.once(ctx, r, target, body, &answer)
		if r.method != http.MethodGet || homeward.KindOf(err) != homeward.Unavailable || attempt == attempts {
			return answer, err
		}
		c.log.Warn("the vault is unavailable, trying again", "url", target, "attempt", attempt, "err", err)
		if c.wait(ctx, attempt) != nil {
			return answer, err
		}
	}
}

func (c *Client) once(ctx context.Context, r request, target string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.newRequest(ctx, r, target, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to the end, or given up
	switch into := answer.(type) {
	case *[]byte:
		*into, err = readRaw(resp)
	case *struct{}:
		if resp.StatusCode >= 300 {
			err = wire.ReadProblem(resp)
		}
	default:
		err = notRedirected(resp)
		if err == nil {
			err = wire.ReadDocument(resp, maxAnswer, answer)
		}
	}
	if err != nil && ctx.Err() != nil {
		return c.explain(ctx, err)
	}
	return asTold(err)
}

func (c *Client) newRequest(ctx context.Context, r request, target string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, homeward.Errorf("call vault", homeward.Invalid, target, "check the URL of the vault", "%w", err)
	}
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.revision != 0 {
		req.Header.Set("If-Match", etag(r.revision))
	}
	if r.key != "" {
		if err := checkKey(r.key); err != nil {
			return nil, err
		}
		req.Header.Set("Idempotency-Key", r.key)
	}
	return req, nil
}

func (c *Client) url(r request) (string, error) {
	var b strings.Builder
	b.WriteString(c.base + "/v1")
	for _, segment := range r.path {
		if segment == "" {
			return "", homeward.Errorf("call vault", homeward.Invalid, strings.Join(r.path, "/"), "name what is meant", "a name is empty")
		}
		// A segment of dots alone would be taken for a way up.
		b.WriteString("/" + strings.ReplaceAll(url.PathEscape(segment), ".", "%2E"))
	}
	if len(r.query) > 0 {
		b.WriteString("?" + r.query.Encode())
	}
	return b.String(), nil
}

func notRedirected(resp *http.Response) error {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return wire.ReadProblem(resp)
	}
	return nil
}

func readRaw(resp *http.Response) ([]byte, error) {
	if resp.StatusCode >= 300 {
		return nil, wire.ReadProblem(resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		return nil, homeward.Errorf("read answer", homeward.Invalid, "", "check that the URL is that of a vault", "longer than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, homeward.Errorf("read answer", homeward.Unavailable, "", "retry; look at the link if it happens again", "%w", err)
	}
	return data, nil
}

// asTold puts a *vault.ConflictError back into the chain of an error that was one
// at the vault.
func asTold(err error) error {
	var told *homeward.Error
	var members *wire.MembersError
	if !errors.As(err, &told) || told.Kind != homeward.Conflict || !errors.As(err, &members) {
		return err
	}
	var conflict vault.ConflictError
	_, allowed := members.Members["allowed"]
	if !allowed || json.Unmarshal(members.Members["allowed"], &conflict.Allowed) != nil {
		return err
	}
	if job, named := members.Members["job"]; named && json.Unmarshal(job, &conflict.Job) != nil {
		return err
	}
	again := *told
	again.Err = &toldCause{error: told.Err, conflict: &conflict}
	return &again
}

// toldCause is a cause as the vault worded it, with what it was made of.
type toldCause struct {
	error
	conflict *vault.ConflictError
}

func (c *toldCause) Unwrap() []error { return []error{c.error, c.conflict} }

// backOff waits 0.2, 0.4 and 0.8 s; it ends early with ctx.
func backOff(ctx context.Context, attempt int) error {
	timer := time.NewTimer(100 * time.Millisecond << attempt)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// values are the query parameters of q.
func values(q vault.Query) url.Values {
	v := url.Values{}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	for name, value := range map[string]string{"after": q.After, "site": q.Site, "item": q.Item, "state": q.State, "role": q.Role} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// etag is how a revision travels.
func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// revisionOf reads an If-Match header; empty and "*" mean any.
func revisionOf(header string) (int64, error) {
	if header == "" || header == "*" {
		return 0, nil
	}
	inner, quoted := strings.CutPrefix(header, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	revision, err := strconv.ParseInt(inner, 10, 64)
	if !quoted || !closed || err != nil || revision < 1 {
		return 0, homeward.Errorf("read request", homeward.Invalid, "If-Match", `give the ETag of the resource as it was read, such as "3"`, "%q", header)
	}
	return revision, nil
}

// maxKey is the longest idempotency key in bytes.
const maxKey = 200

func checkKey(key string) error {
	bad := strings.ContainsFunc(key, func(r rune) bool { return r < '!' || r > '~' })
	if bad || len(key) > maxKey {
		return homeward.Errorf("read request", homeward.Invalid, "Idempotency-Key", "give up to 200 printable characters without spaces, a fresh UUID for instance", "%q", key[:min(len(key), maxKey)])
	}
	return nil
}
