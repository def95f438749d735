package ship

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

const (
	// idleTimeout is how long either end waits for the next bytes of a body. It is
	// longer than a sink waits for a delta's predecessor with the body unread.
	idleTimeout = 30 * time.Second
	// maxWait is the longest a handler lets a GET of a standing wait.
	maxWait = 60 * time.Second
)

type handler struct {
	sink      homeward.Sink
	authorize func(*http.Request, homeward.ItemID) error
}

// NewHandler serves sink. authorize is asked before anything of a request is
// read or done, and its error is the answer; nil: everybody may. Items are
// validated before. Safe for concurrent use, as far as sink is.
//
// Memory per request: the buffers of net/http; bodies are handed on as they come.
func NewHandler(sink homeward.Sink, authorize func(*http.Request, homeward.ItemID) error) http.Handler {
	h := &handler{sink: sink, authorize: authorize}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/items/{item}/deltas", h.admit(h.put))
	mux.HandleFunc("GET /v1/items/{item}/standing", h.admit(h.standing))
	return mux
}

func (h *handler) admit(serve func(http.ResponseWriter, *http.Request, homeward.ItemID)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		item := homeward.ItemID(r.PathValue("item"))
		err := item.Validate()
		if err == nil && h.authorize != nil {
			err = h.authorize(r, item)
		}
		if err != nil {
			h.refuse(w, err)
			return
		}
		serve(w, r, item)
	}
}

func (h *handler) put(w http.ResponseWriter, r *http.Request, item homeward.ItemID) {
	if r.ContentLength > homeward.MaxDelta {
		h.refuse(w, tooLarge(item))
		return
	}
	body := &requestBody{
		item:  item,
		from:  http.MaxBytesReader(w, r.Body, homeward.MaxDelta),
		left:  r.ContentLength,
		clock: http.NewResponseController(w),
	}
	ack, err := h.sink.Put(r.Context(), item, body)
	if err != nil {
		h.refuse(w, err)
		return
	}
	status := http.StatusAccepted
	if ack.Applied {
		status = http.StatusOK
	}
	h.answer(w, status, ack)
}

func (h *handler) standing(w http.ResponseWriter, r *http.Request, item homeward.ItemID) {
	req := homeward.StandingRequest{Item: item}
	query := r.URL.Query()
	bad := func(field, fix string, err error) {
		h.refuse(w, homeward.Errorf("read standing", homeward.Invalid, "parameter "+field, fix, "%w", err))
	}
	if s := query.Get("applied"); s != "" {
		if err := req.Applied.UnmarshalText([]byte(s)); err != nil {
			bad("applied", "give a position as an acknowledgement stated it", err)
			return
		}
	}
	if s := query.Get("wait"); s != "" {
		wait, err := time.ParseDuration(s)
		if err != nil {
			bad("wait", "give a duration, such as 30s", err)
			return
		}
		req.Wait = min(max(wait, 0), maxWait)
	}
	st, err := h.sink.Standing(r.Context(), req)
	if err != nil {
		h.refuse(w, err)
		return
	}
	h.answer(w, http.StatusOK, st)
}

func (h *handler) answer(w http.ResponseWriter, status int, v any) {
	h.limitAnswer(w)
	wire.WriteDocument(w, status, v)
}

func (h *handler) refuse(w http.ResponseWriter, err error) {
	h.limitAnswer(w)
	wire.WriteProblem(w, err)
}

// limitAnswer gives the client idleTimeout to take the answer; net/http lifts it
// before the next request.
func (h *handler) limitAnswer(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(idleTimeout)) // a recorder in a test has no deadlines
}

func tooLarge(item homeward.ItemID) error {
	return homeward.Errorf("put delta", homeward.Invalid, "item "+string(item),
		"send the changes as several deltas, all but the last closed by mark none",
		"larger than the %d bytes a delta may have", homeward.MaxDelta)
}

// requestBody gives every read of a body its own deadline, and its errors the
// kind that tells the sink what happened: a body that stops is not a corrupt one.
type requestBody struct {
	item  homeward.ItemID
	from  io.Reader
	left  int64 // of the stated length; negative: none was stated
	clock *http.ResponseController
}

// Len is the number of unread bytes, or -1 when the sender did not say.
func (b *requestBody) Len() int { return int(b.left) }

func (b *requestBody) Read(p []byte) (int, error) {
	// A recorder in a test has no deadlines; a real connection always has.
	_ = b.clock.SetReadDeadline(time.Now().Add(idleTimeout))
	n, err := b.from.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if err == nil {
		return n, nil
	}
	_ = b.clock.SetReadDeadline(time.Time{}) // the server now waits for the client's next request, or its going
	return n, b.explain(err)
}

// explain does not wrap an unexpected end: who reads on would take it for the
// end of a damaged delta.
func (b *requestBody) explain(err error) error {
	var large *http.MaxBytesError
	const op = "receive delta"
	subject := "item " + string(b.item)
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.As(err, &large):
		return tooLarge(b.item)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return homeward.Errorf(op, homeward.Timeout, subject, "look at the sender and the link", "no byte came for %v", idleTimeout)
	}
	return homeward.Errorf(op, homeward.Unavailable, subject, "send it again", "the sender went away: %v", err)
}
