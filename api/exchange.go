package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

// exchange is one request and its answer as huma sees them. Huma has an error
// document of its own; refuse answers with that of package wire instead, and from
// then on whatever huma writes goes nowhere.
type exchange struct {
	humaContext
	writer  http.ResponseWriter
	log     *slog.Logger
	refused bool
}

// humaContext has the name that leaves Context, the method, free.
type humaContext = huma.Context

func (x *exchange) refuse(err error) {
	if x.refused {
		return
	}
	x.refused = true
	switch homeward.KindOf(err) {
	case homeward.Internal, homeward.IO, homeward.Corrupt, homeward.NoSpace:
		x.log.Error("a request failed", "id", x.writer.Header().Get(wire.RequestHeader), "err", err)
	}
	wire.WriteProblem(x.writer, err)
}

// SetStatus begins the answer.
func (x *exchange) SetStatus(code int) {
	if !x.refused {
		x.humaContext.SetStatus(code)
	}
}

// BodyWriter is where the answer goes.
func (x *exchange) BodyWriter() io.Writer {
	if x.refused {
		return io.Discard
	}
	return x.humaContext.BodyWriter()
}

// adapter puts huma's operations on a mux.
type adapter struct {
	mux *http.ServeMux
	log *slog.Logger
}

// Handle registers an operation.
func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	a.mux.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
		handler(&exchange{humaContext: humago.NewContext(op, r, w), writer: w, log: a.log})
	})
}

// ServeHTTP is part of huma.Adapter.
func (a adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// refusal carries an error of the vault through huma.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// GetStatus is part of huma.StatusError.
func (r *refusal) GetStatus() int { return homeward.Table[homeward.KindOf(r.err)].HTTP }

// problems is the transformer that answers with problem documents: for errors of
// the vault, and for what huma itself found wrong with a request.
func problems(ctx huma.Context, _ string, v any) (any, error) {
	x, ours := ctx.(*exchange)
	if !ours {
		return v, nil
	}
	switch e := v.(type) {
	case *refusal:
		x.refuse(e.err)
	case *huma.ErrorModel:
		x.refuse(wrongRequest(e))
	}
	return v, nil
}

// wrongRequest names the first field that is wrong, and tells of all.
func wrongRequest(e *huma.ErrorModel) error {
	const op = "read request"
	switch {
	case e.Status >= 500:
		return homeward.Errorf(op, homeward.Internal, "", "look for the request id in the log of the vault", "%s", e.Detail)
	case e.Status == http.StatusRequestEntityTooLarge:
		return homeward.Errorf(op, homeward.Invalid, "body", "send less", "longer than %d bytes", maxBody)
	case e.Status == http.StatusRequestTimeout:
		return homeward.Errorf(op, homeward.Timeout, "body", "send it faster", "it did not arrive in time")
	case e.Status == http.StatusUnsupportedMediaType || unknownMedia(e):
		return homeward.Errorf(op, homeward.Invalid, "Content-Type", "send application/json", "the body has another type")
	case len(e.Errors) == 0:
		return homeward.Errorf(op, homeward.Invalid, "", "see /openapi.yaml", "%s", strings.ToLower(e.Detail))
	}
	field, says := "", make([]string, 0, len(e.Errors))
	for _, detail := range e.Errors {
		if detail == nil {
			continue
		}
		name := fieldOf(detail)
		if field == "" {
			field = name
		}
		says = append(says, name+": "+detail.Message)
	}
	return homeward.Errorf(op, homeward.Invalid, field, "correct it; /openapi.yaml tells what this operation takes", "%s", strings.Join(says, "; "))
}

func unknownMedia(e *huma.ErrorModel) bool {
	for _, detail := range e.Errors {
		if detail != nil && strings.HasPrefix(detail.Message, huma.ErrUnknownContentType.Error()) {
			return true
		}
	}
	return false
}

// fieldOf is the name of a field as the client wrote it, or should have.
func fieldOf(d *huma.ErrorDetail) string {
	name := d.Location
	for _, in := range []string{"body.", "query.", "path.", "header."} {
		if inside, cut := strings.CutPrefix(d.Location, in); cut {
			name = inside
		}
	}
	var missing string
	if n, _ := fmt.Sscanf(d.Message, validation.MsgExpectedRequiredProperty, &missing); n == 1 {
		return strings.TrimPrefix(name+"."+missing, "body.")
	}
	return name
}

// jsonFormat is the only format of requests and answers.
func jsonFormat() huma.Format {
	return huma.Format{
		Marshal: func(w io.Writer, v any) error {
			if err := json.NewEncoder(w).Encode(v); err != nil {
				return fmt.Errorf("encode the answer: %w", err)
			}
			return nil
		},
		Unmarshal: func(data []byte, v any) error {
			err := json.Unmarshal(data, v)
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				return fmt.Errorf("not JSON at byte %d: %w", syntax.Offset, err)
			}
			return err
		},
	}
}
