package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
)

// ProblemType is the media type of a problem document.
const ProblemType = "application/problem+json"

const (
	maxProblem   = 64 << 10 // bytes of a problem document that are read
	defaultRetry = 2 * time.Second
)

type problem struct {
	Kind       homeward.Kind        `json:"kind"`
	Op         string               `json:"op,omitempty"`
	Subject    string               `json:"subject,omitempty"`
	Message    string               `json:"message"`
	Remedy     string               `json:"remedy,omitempty"`
	Position   *homeward.Position   `json:"position,omitempty"`
	Generation *homeward.Generation `json:"generation,omitempty"`
}

// WriteProblem answers a request with err. It must be the first thing written.
// An error on the way to the client is not reported: there is nobody to tell.
func WriteProblem(w http.ResponseWriter, err error) {
	p := problem{Kind: homeward.KindOf(err), Message: message(err), Remedy: homeward.RemedyOf(err)}
	var e *homeward.Error
	if errors.As(err, &e) {
		p.Op, p.Subject = e.Op, e.Subject
		p.Message = message(e.Err)
		if e.Err == nil {
			p.Message = string(e.Kind)
		}
	}
	var position *homeward.PositionError
	if errors.As(err, &position) {
		p.Position = &position.True
	}
	var fenced *homeward.FencedError
	if errors.As(err, &fenced) {
		p.Generation = &fenced.InForce
	}
	if p.Kind == homeward.Busy || p.Kind == homeward.NoSpace {
		after := max(RetryAfter(err), time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	outcome, known := homeward.Table[p.Kind]
	if !known {
		outcome = homeward.Table[homeward.Internal]
	}
	writeDocument(w, outcome.HTTP, ProblemType, p)
}

// message is the text of err without the remedies of the homeward errors in it:
// the outermost remedy travels in a field of its own.
func message(err error) string {
	e, ok := err.(*homeward.Error) //nolint:errorlint // the outermost layer alone is meant
	switch {
	case err == nil:
		return ""
	case !ok:
		return err.Error()
	case e.Err == nil:
		return strings.TrimSpace(e.Op+" "+e.Subject) + ": " + string(e.Kind)
	}
	return strings.TrimSpace(e.Op+" "+e.Subject) + ": " + message(e.Err)
}

// ReadProblem makes the error of an answer whose status says that the request
// failed (400 or above); it reads the body but does not close it. The result is
// always a *homeward.Error; PositionError and FencedError are in its chain as
// they were on the far side. An answer that is no problem document (from a proxy,
// say) gets its kind from the status.
func ReadProblem(resp *http.Response) error {
	data, readErr := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	var p problem
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if readErr != nil || media != ProblemType || json.Unmarshal(data, &p) != nil {
		return foreign(resp, data)
	}
	if _, known := homeward.Table[p.Kind]; !known {
		p.Kind = kindOf(resp.StatusCode)
	}
	c := &cause{message: p.Message}
	if p.Position != nil {
		c.details = append(c.details, &homeward.PositionError{True: *p.Position})
	}
	if p.Generation != nil {
		c.details = append(c.details, &homeward.FencedError{InForce: *p.Generation})
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		c.details = append(c.details, &RetryError{After: time.Duration(min(seconds, 3600)) * time.Second})
	}
	return &homeward.Error{Op: p.Op, Kind: p.Kind, Subject: p.Subject, Remedy: p.Remedy, Err: c}
}

func foreign(resp *http.Response, body []byte) error {
	subject := "answer"
	if resp.Request != nil && resp.Request.URL != nil {
		subject = resp.Request.URL.Redacted()
	}
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), 200)]), "?")), " ")
	return homeward.Errorf("call peer", kindOf(resp.StatusCode), subject,
		"check that the URL is that of a Homeward role and that no proxy stands in between",
		"it answered %s and no problem document: %q", resp.Status, text)
}

// kindOf is what a status means when nothing else is known.
func kindOf(status int) homeward.Kind {
	switch status {
	case http.StatusUnauthorized:
		return homeward.Unauthentic
	case http.StatusForbidden, http.StatusProxyAuthRequired:
		return homeward.Forbidden
	case http.StatusNotFound, http.StatusGone:
		return homeward.NotFound
	case http.StatusTooManyRequests:
		return homeward.Busy
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return homeward.Timeout
	case http.StatusInternalServerError:
		return homeward.Internal
	case http.StatusNotImplemented:
		return homeward.Unsupported
	case http.StatusInsufficientStorage:
		return homeward.NoSpace
	}
	if status >= 500 {
		return homeward.Unavailable
	}
	return homeward.Invalid
}

// cause is the cause of an error as the far side worded it.
type cause struct {
	message string
	details []error
}

func (c *cause) Error() string   { return c.message }
func (c *cause) Unwrap() []error { return c.details }

// RetryError in the chain of a Busy or NoSpace error says when to try again.
type RetryError struct {
	After time.Duration
}

func (e *RetryError) Error() string { return fmt.Sprintf("try again in %v", e.After) }

// RetryAfter is when to try again after err: what its RetryError says, else two
// seconds.
func RetryAfter(err error) time.Duration {
	var e *RetryError
	if errors.As(err, &e) {
		return e.After
	}
	return defaultRetry
}
