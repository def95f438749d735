package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
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
	Type       string               `json:"type"`
	Title      string               `json:"title"`
	Status     int                  `json:"status"`
	Detail     string               `json:"detail"`
	Kind       homeward.Kind        `json:"kind"`
	Op         string               `json:"op,omitempty"`
	Subject    string               `json:"subject,omitempty"`
	Remedy     string               `json:"remedy,omitempty"`
	Request    string               `json:"request,omitempty"`
	Position   *homeward.Position   `json:"position,omitempty"`
	Generation *homeward.Generation `json:"generation,omitempty"`
}

// RequestHeader carries the id of a request; a problem document names it.
const RequestHeader = "X-Request-Id"

// Extended is a cause that travels as members of its own of the problem document;
// the far side finds them as a *MembersError.
type Extended interface {
	error
	ProblemMembers() map[string]any
}

// MembersError in the chain of an error that came over HTTP holds the members of
// its problem document that this package does not know.
type MembersError struct {
	Members map[string]json.RawMessage
}

func (e *MembersError) Error() string { return fmt.Sprintf("%d more members", len(e.Members)) }

// WriteProblem answers a request with err. It must be the first thing written.
// An error on the way to the client is not reported: there is nobody to tell.
func WriteProblem(w http.ResponseWriter, err error) {
	if kind := homeward.KindOf(err); kind == homeward.Busy || kind == homeward.NoSpace {
		after := max(RetryAfter(err), time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	doc := problemOf(err, w.Header().Get(RequestHeader))
	writeDocument(w, doc.Status, ProblemType, doc.withMembers(err))
}

// EncodeProblem is the problem document of err for a stream, where there is no
// status code; request may be empty.
func EncodeProblem(err error, request string) ([]byte, error) {
	data, bad := json.Marshal(problemOf(err, request).withMembers(err))
	return data, homeward.Wrap(bad, "encode problem", request)
}

// DecodeProblem turns a document of EncodeProblem back into the error; anything
// else is an error too.
func DecodeProblem(data []byte) error {
	p, members, err := parseProblem(data)
	if err != nil {
		return homeward.Errorf("read problem", homeward.Invalid, "", "check that the URL is that of a Homeward role", "no problem document: %w", err)
	}
	if _, known := homeward.Table[p.Kind]; !known {
		p.Kind = kindOf(p.Status)
	}
	return p.error(members)
}

func problemOf(err error, request string) problem {
	p := problem{Kind: homeward.KindOf(err), Detail: message(err), Remedy: homeward.RemedyOf(err), Request: request}
	var e *homeward.Error
	if errors.As(err, &e) {
		p.Op, p.Subject = e.Op, e.Subject
		p.Detail = message(e.Err)
		if e.Err == nil {
			p.Detail = string(e.Kind)
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
	outcome, known := homeward.Table[p.Kind]
	if !known {
		outcome = homeward.Table[homeward.Internal]
	}
	p.Status, p.Type = outcome.HTTP, "urn:homeward:error:"+string(p.Kind)
	p.Title = strings.ReplaceAll(string(p.Kind), "-", " ")
	return p
}

// withMembers is the document itself, or with those of an Extended cause.
func (p problem) withMembers(err error) any {
	var extended Extended
	if !errors.As(err, &extended) {
		return p
	}
	document := map[string]any{}
	for name, value := range extended.ProblemMembers() {
		document[name] = value
	}
	data, bad := json.Marshal(p)
	if bad == nil {
		bad = json.Unmarshal(data, &document) // a member of ours is not overridden
	}
	if bad != nil {
		return p
	}
	return document
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
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	p, members, err := parseProblem(data)
	if readErr != nil || media != ProblemType || err != nil {
		return foreign(resp, data)
	}
	if _, known := homeward.Table[p.Kind]; !known {
		p.Kind = kindOf(resp.StatusCode)
	}
	var more []error
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		more = append(more, &RetryError{After: time.Duration(min(seconds, 3600)) * time.Second})
	}
	return p.error(members, more...)
}

func parseProblem(data []byte) (p problem, members map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(data, &p); err != nil {
		return p, nil, err
	}
	if err := json.Unmarshal(data, &members); err != nil {
		return p, nil, err
	}
	known := reflect.TypeFor[problem]()
	for i := range known.NumField() {
		name, _, _ := strings.Cut(known.Field(i).Tag.Get("json"), ",")
		delete(members, name)
	}
	return p, members, nil
}

func (p problem) error(members map[string]json.RawMessage, more ...error) error {
	c := &cause{message: p.Detail, details: more}
	if p.Position != nil {
		c.details = append(c.details, &homeward.PositionError{True: *p.Position})
	}
	if p.Generation != nil {
		c.details = append(c.details, &homeward.FencedError{InForce: *p.Generation})
	}
	if len(members) > 0 {
		c.details = append(c.details, &MembersError{Members: members})
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
