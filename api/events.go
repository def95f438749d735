package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/wire"
)

// problemEvent is the name of the last event of a stream that ends with an error;
// its data is a problem document.
const problemEvent = "problem"

// streamBuffer is how many events wait for a slow client before the vault does.
const streamBuffer = 64

type watchInput struct {
	After string   `query:"after" doc:"Id of the last event that was seen; absent: from now on."`
	Last  string   `header:"Last-Event-ID" doc:"The same, as browsers send it when they connect again; it counts more."`
	Kinds []string `query:"kinds" doc:"Only these kinds, separated by commas."`
}

func (in *watchInput) request() (vault.WatchRequest, error) {
	req := vault.WatchRequest{Kinds: in.Kinds}
	field, value := "Last-Event-ID", in.Last
	if value == "" {
		field, value = "after", in.After
	}
	if value == "" {
		return req, nil
	}
	after, err := strconv.ParseInt(value, 10, 64)
	if err != nil || after < 0 {
		return req, homeward.Errorf("watch", homeward.Invalid, field, "give the id of an event, or leave it out", "%q", value)
	}
	req.After = after
	return req, nil
}

func (s *Server) events(r *routes) {
	event := r.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[vault.Event](), true, "Event")
	o := route{method: http.MethodGet, path: "/events", id: "watch", summary: "Watch changes", access: vault.Reader,
		detail: "Server-sent events: the id is that of the event, the data is an Event as JSON. Comments keep the stream alive. " +
			"A last event named \"problem\" tells why the stream ended: not-found when the id is older than what is kept. " +
			"A client that does not read is cut off."}
	handle(r, o, func(_ context.Context, in *watchInput) (*huma.StreamResponse, error) {
		req, err := in.request()
		if err != nil {
			return nil, err
		}
		if !s.streams.take() {
			return nil, homeward.Errorf("watch", homeward.Busy, "events", "close another stream, or try again later", "%d streams are open", s.limits.Streams)
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			defer s.streams.give()
			s.stream(ctx.Context(), ctx.(*exchange).writer, req)
		}}, nil
	}, func(op *huma.Operation) {
		op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: event}}}}
	})
}

// told is an event, or why there are no more.
type told struct {
	event vault.Event
	err   error
}

// stream sends events until the client is gone, too slow, or the server closes.
// A client that takes nothing for the write timeout is cut off, with at most
// streamBuffer events waiting for it; nobody else notices.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, req vault.WatchRequest) {
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan told, streamBuffer)
	var wg sync.WaitGroup
	wg.Go(func() { s.watch(ctx, req, queue) })
	defer wg.Wait()
	defer cancel()

	control := http.NewResponseController(w)
	send := func(text string) bool {
		if control.SetWriteDeadline(time.Now().Add(s.limits.StreamWrite)) != nil {
			return false
		}
		_, err := io.WriteString(w, text)
		return err == nil && control.Flush() == nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if control.SetReadDeadline(time.Time{}) != nil || !send(": watching\n\n") {
		return
	}
	beat := time.NewTicker(s.limits.Heartbeat)
	defer beat.Stop()
	for {
		text := ": alive\n\n"
		last := false
		select {
		case <-ctx.Done():
			return
		case <-s.closing:
			text, last = frameProblem(homeward.Errorf("watch", homeward.Unavailable, "events", "connect again", "the vault is shutting down")), true
		case t, open := <-queue:
			if !open {
				return
			}
			text, last = frame(t), t.err != nil
		case <-beat.C:
			if err := stillAdmitted(ctx); err != nil {
				text, last = frameProblem(err), true
			}
		}
		if !send(text) || last {
			return
		}
	}
}

type admittedKey struct{}

// stillAdmitted is why whoever opened a stream may not have it any more: the token
// was deleted, or has expired. That it cannot be found out now ends nothing.
func stillAdmitted(ctx context.Context) error {
	again, ok := ctx.Value(admittedKey{}).(func() error)
	if !ok {
		return nil
	}
	err := again()
	switch homeward.KindOf(err) {
	case homeward.Unauthentic, homeward.Forbidden:
		return err
	}
	return nil
}

// watch puts what the vault tells into queue, and closes it at the end.
func (s *Server) watch(ctx context.Context, req vault.WatchRequest, queue chan<- told) {
	defer close(queue)
	put := func(t told) bool {
		select {
		case queue <- t:
			return true
		case <-ctx.Done():
			return false
		}
	}
	defer func() {
		if p := recover(); p != nil {
			put(told{err: s.panicked(ctx, p)})
		}
	}()
	for event, err := range s.vault.Watch(ctx, req) {
		if !put(told{event, err}) || err != nil {
			return
		}
	}
}

func frame(t told) string {
	if t.err != nil {
		return frameProblem(t.err)
	}
	data, err := json.Marshal(t.event)
	if err != nil {
		return frameProblem(err)
	}
	return fmt.Sprintf("id: %d\ndata: %s\n\n", t.event.ID, data)
}

func frameProblem(err error) string {
	data, bad := wire.EncodeProblem(err, "")
	if bad != nil {
		data = []byte("{}")
	}
	return "event: " + problemEvent + "\ndata: " + string(data) + "\n\n"
}

const (
	silence     = 3 * defaultHeartbeat // after that long without a byte a stream is taken for dead
	reconnects  = 20                   // in a row, without anything heard in between
	maxEventLen = 1 << 20              // bytes of a line of a stream
)

// Watch tells of changes. When the stream breaks it goes on after the last event
// that it told; if there was none yet, or the vault stays away, it ends with
// Unavailable: look at everything again and watch anew.
func (c *Client) Watch(ctx context.Context, req vault.WatchRequest) iter.Seq2[vault.Event, error] {
	return func(yield func(vault.Event, error) bool) {
		s := &stream{client: c, after: req.After, kinds: req.Kinds, yield: yield}
		for attempt := 1; ; attempt++ {
			err := s.once(ctx)
			if s.stopped || ctx.Err() != nil {
				return
			}
			if s.heard {
				attempt = 1
			}
			again := homeward.KindOf(err) == homeward.Unavailable && attempt < reconnects && (s.after != 0 || !s.opened)
			if !again {
				yield(vault.Event{}, err)
				return
			}
			c.log.Warn("the stream of events broke, connecting again", "after", s.after, "err", err)
			if c.wait(ctx, min(attempt, 6)) != nil {
				return
			}
		}
	}
}

// stream is a Watch under way.
type stream struct {
	client  *Client
	after   int64
	kinds   []string
	yield   func(vault.Event, error) bool
	opened  bool // once
	heard   bool // something, in this connection
	stopped bool // the consumer has enough
}

// once follows one connection to its end.
func (s *stream) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.heard = false
	dead := time.AfterFunc(silence, cancel)
	defer dead.Stop()
	q := url.Values{}
	if len(s.kinds) > 0 {
		q.Set("kinds", strings.Join(s.kinds, ","))
	}
	r := request{method: http.MethodGet, path: []string{"events"}, query: q}
	target, err := s.client.url(r)
	if err != nil {
		return err
	}
	req, err := s.client.newRequest(ctx, r, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.after != 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(s.after, 10))
	}
	resp, err := s.client.http.Do(req)
	if err != nil {
		return s.broken(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // given up
	if resp.StatusCode != http.StatusOK {
		return wire.ReadProblem(resp)
	}
	s.opened = true
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventLen)
	name := ""
	for lines.Scan() {
		dead.Reset(silence)
		s.heard = true
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "":
			name = ""
		case "event":
			name = value
		case "data":
			if err := s.take(name, value); err != nil || s.stopped {
				return err
			}
		}
	}
	return s.broken(ctx, errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

func (s *stream) take(name, data string) error {
	if name == problemEvent {
		return wire.DecodeProblem([]byte(data))
	}
	var event vault.Event
	if err := json.Unmarshal([]byte(data), &event); err != nil {
		return homeward.Errorf("watch", homeward.Invalid, "event", "check that the URL is that of a vault", "no event: %w", err)
	}
	s.after = event.ID
	s.stopped = !s.yield(event, nil)
	return nil
}

// broken is why a connection ended. One that this side gave up as dead is like one
// that broke.
func (s *stream) broken(ctx context.Context, err error) error {
	if told := s.client.explain(ctx, err); homeward.KindOf(told) != homeward.Canceled {
		return told
	}
	return homeward.Errorf("watch", homeward.Unavailable, s.client.base, "look at everything again, and watch anew", "the stream was silent: %w", err)
}
