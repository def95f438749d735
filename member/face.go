package member

import (
	"io"
	"net/http"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

const (
	// MaxProbe is the most bytes a probe sends.
	MaxProbe = 16 << 20

	facePath = "/probe"
	// faceTimeout is how long a face lets one probe take: as long as a probe may.
	faceTimeout = maxTimeout
)

// Face serves probes beside h, a role's data face: POST /probe reads a body of at
// most MaxProbe bytes and forgets it. Whom the server's handshake admits may send.
// Memory: one buffer per request; time: 30 s.
func Face(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+facePath, swallow)
	mux.Handle("/", h)
	return mux
}

func swallow(w http.ResponseWriter, r *http.Request) {
	clock := http.NewResponseController(w)
	until := time.Now().Add(faceTimeout)
	_ = clock.SetReadDeadline(until)  // a recorder in a test has no deadlines
	_ = clock.SetWriteDeadline(until) // likewise
	defer func() { _ = clock.SetReadDeadline(time.Time{}) }()
	if r.ContentLength > MaxProbe {
		wire.WriteProblem(w, tooLong())
		return
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, MaxProbe+1))
	switch {
	case n > MaxProbe:
		wire.WriteProblem(w, tooLong())
	case err != nil:
		wire.WriteProblem(w, homeward.Errorf("take probe", homeward.Unavailable, "", "probe again", "the sender went away: %w", err))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func tooLong() error {
	return homeward.Errorf("take probe", homeward.Invalid, "bytes", "send at most 16 MiB", "more than a probe may have")
}
