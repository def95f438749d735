package role

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

// endpoint serves one call of a contract, and knows of what its requests and answers
// are made.
type endpoint struct {
	http.Handler
	req, resp reflect.Type
}

// method is the endpoint of a call.
func method[Req, Resp any](call func(context.Context, Req) (Resp, error)) endpoint {
	return endpoint{req: reflect.TypeFor[Req](), resp: reflect.TypeFor[Resp](), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := readRequest(w, r, &req); err != nil {
			wire.WriteProblem(w, err)
			return
		}
		resp, err := call(r.Context(), req)
		if err != nil {
			wire.WriteProblem(w, err)
			return
		}
		wire.WriteDocument(w, http.StatusOK, resp)
	})}
}

// served is a contract as it is served.
type served struct {
	http.Handler
	name  string
	calls map[string]endpoint
}

// contract serves methods under /v1/<name>/.
func contract(name string, methods map[string]endpoint) http.Handler {
	mux := http.NewServeMux()
	for m, e := range methods {
		if h, known := e.spoken(name + "/" + m); known {
			mux.Handle("POST /v1/"+name+"/"+m, h)
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		wire.WriteProblem(w, homeward.Errorf("call", homeward.Unsupported, r.Method+" "+r.URL.Path,
			"call a role of the right kind, or update it", "this %s does not know the call", name))
	})
	return served{mux, name, methods}
}

// readRequest reads the one JSON document of a request, strictly.
func readRequest(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("something follows the document")
		}
	}
	op, remedy := "read request", "send the JSON document of this call, of the version this role speaks"
	var ours *homeward.Error
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return homeward.Errorf(op, homeward.Invalid, r.URL.Path,
			"send maps in several calls", "longer than %d bytes", long.Limit)
	case r.Context().Err() != nil:
		return homeward.Wrap(r.Context().Err(), op, r.URL.Path)
	case errors.As(err, &ours): // from the text form of a position or an id: it names the value
		return homeward.Errorf(op, homeward.Invalid, r.URL.Path, ours.Remedy, "%w", err)
	}
	return homeward.Errorf(op, homeward.Invalid, r.URL.Path, remedy, "%w", err)
}

// survive turns a panic of a handler into Internal. The stack is known only here,
// so it is logged here.
func survive(log *slog.Logger, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			switch p {
			case nil:
				return
			case http.ErrAbortHandler:
				panic(p)
			}
			log.Error("a call panicked", "call", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			wire.WriteProblem(w, homeward.Errorf("call", homeward.Internal, r.URL.Path,
				"report it, with the log of this role", "panic: %v", p))
		}()
		h.ServeHTTP(w, r)
	})
}
