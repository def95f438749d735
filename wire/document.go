package wire

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/homeward-dr/homeward"
)

// WriteDocument answers with v as JSON. It must be the first thing written.
func WriteDocument(w http.ResponseWriter, status int, v any) {
	writeDocument(w, status, "application/json", v)
}

func writeDocument(w http.ResponseWriter, status int, media string, v any) {
	data, err := json.Marshal(v)
	if err != nil { // every document is plain data of ours: this is a defect
		status, media = http.StatusInternalServerError, "text/plain; charset=utf-8"
		data = []byte("cannot encode the answer: " + err.Error())
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client is gone: nobody to tell
}

// ReadDocument reads an answer of at most max bytes into v. A status of 400 or
// above becomes the error that ReadProblem makes of it. It does not close the body.
func ReadDocument(resp *http.Response, max int64, v any) error {
	if resp.StatusCode >= 400 {
		return ReadProblem(resp)
	}
	const op = "read answer"
	data, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err != nil {
		return homeward.Errorf(op, homeward.Unavailable, "", "retry; look at the link if it happens again", "%w", err)
	}
	if int64(len(data)) > max {
		return homeward.Errorf(op, homeward.Invalid, "", "check that the URL is that of a Homeward role", "longer than %d bytes", max)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return homeward.Errorf(op, homeward.Invalid, "", "check that the URL is that of a Homeward role", "no JSON document (status %d): %w", resp.StatusCode, err)
	}
	return nil
}
