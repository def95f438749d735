//go:build previous

package role

import (
	"bytes"
	_ "embed" // for the vocabulary
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

// A build with the tag previous is a role of the version before, as far as others can
// tell: it knows the calls of that version, refuses a field of a request that came later,
// and answers without those that came later. The tests of neighbouring versions use it.

// Protocol is the number of the protocol before.
const Protocol = 2

//go:embed protocol/2.txt
var vocabulary string

var words = strings.Split(strings.TrimSpace(vocabulary), "\n")

// spoken is an endpoint as the version before served it.
func (e endpoint) spoken(call string) (h http.Handler, known bool) {
	if !slices.Contains(words, call) {
		return nil, false
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if later := foreign(call+" > ", body, nil); len(later) > 0 {
			wire.WriteProblem(w, homeward.Errorf("read request", homeward.Invalid, r.URL.Path,
				"send the JSON document of this call, of the version this role speaks", "unknown field %q", later[0]))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		said := &answer{ResponseWriter: w, status: http.StatusOK}
		e.ServeHTTP(said, r)
		out := said.body.Bytes()
		if said.status == http.StatusOK {
			foreign(call+" < ", out, &out)
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(said.status)
		_, _ = w.Write(out) // a caller that has gone is none
	}), true
}

// answer keeps what a handler says.
type answer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// foreign lists the fields of a document that the vocabulary does not have, and writes
// it without them if told where.
func foreign(scope string, document []byte, without *[]byte) (later []string) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		return nil // the handler says what is wrong with it
	}
	prune(scope, "", v, &later)
	if without != nil && len(later) > 0 {
		*without, _ = json.Marshal(v) // was JSON
	}
	return later
}

// prune removes what the vocabulary does not have below a path.
func prune(scope, path string, v any, later *[]string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			prune(scope, path+"[]", e, later)
		}
	case map[string]any:
		if slices.Contains(words, scope+path+".*") {
			for _, e := range v {
				prune(scope, path+".*", e, later)
			}
			return
		}
		prefix := path + "."
		if path == "" {
			prefix = ""
		} else if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, scope+prefix) }) {
			return // it writes itself: a position, a time
		}
		for name, e := range v {
			if !slices.Contains(words, scope+prefix+name) {
				*later = append(*later, prefix+name)
				delete(v, name)
				continue
			}
			prune(scope, prefix+name, e, later)
		}
	}
}
