package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/wire"
)

var inputType = reflect.TypeFor[actionBody]()

// problemDocument describes, for OpenAPI alone, what package wire writes.
type problemDocument struct {
	Type    string   `json:"type" example:"urn:homeward:error:conflict"`
	Title   string   `json:"title" doc:"The kind in words."`
	Status  int      `json:"status"`
	Detail  string   `json:"detail" doc:"What went wrong, for people."`
	Kind    string   `json:"kind" doc:"What a caller can do about it."`
	Op      string   `json:"op,omitempty" doc:"Operation that failed."`
	Subject string   `json:"subject,omitempty" doc:"The resource, or the field of the request that is wrong."`
	Remedy  string   `json:"remedy,omitempty" doc:"What to do."`
	Request string   `json:"request,omitempty" doc:"Id of the request in the log of the vault."`
	Job     string   `json:"job,omitempty" doc:"Of a conflict: the job that stands in the way."`
	Allowed []string `json:"allowed,omitempty" doc:"Of a conflict: what is possible now instead."`
}

// config is huma's, without what it adds by itself.
func config(version string) huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Homeward vault", Version: version, Description: "Protect machines, fail them over, and bring them home. " +
				"Errors are problem documents (RFC 9457). Durations are in nanoseconds unless their name says otherwise."},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "Secret of an API token."}},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()}, // and any +json
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{problems},
	}
}

// schemaName tells words of the root package from those of the vault that are
// spelt the same.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[homeward.Policy]():
		return "PolicySettings"
	case reflect.TypeFor[homeward.Machine]():
		return "MachineManifest"
	case reflect.TypeFor[problemDocument]():
		return "Problem"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// optional are fields that a request may leave out although they are always told.
var optional = map[string][]string{
	"PolicySettings": {"min_interval"},
	"Tier":           {"every"},
}

// finish takes out what huma put in that is not so, once all is registered.
func finish(a huma.API) {
	schemas := a.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	for name, fields := range optional {
		s := schemas[name]
		s.Required = slices.DeleteFunc(s.Required, func(f string) bool { return slices.Contains(fields, f) })
		s.PrecomputeMessages()
	}
}

// problemResponse is what every operation may answer instead.
func problemResponse(a huma.API) *huma.Response {
	schema := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problemDocument](), true, "Problem")
	return &huma.Response{Description: "Problem", Content: map[string]*huma.MediaType{wire.ProblemType: {Schema: schema}}}
}

// serveOpenAPI answers with the description, made once.
func serveOpenAPI(mux *http.ServeMux, a huma.API) (yaml []byte, err error) {
	inJSON, err := json.MarshalIndent(a.OpenAPI(), "", "  ")
	if err == nil {
		yaml, err = a.OpenAPI().YAML()
	}
	if err != nil {
		return nil, homeward.Errorf("describe API", homeward.Internal, "openapi", "", "%w", err)
	}
	for path, doc := range map[string][]byte{"/openapi.json": inJSON, "/openapi.yaml": yaml} {
		media := "application/openapi+" + path[len("/openapi."):]
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			_, _ = w.Write(doc) // the client is gone: nobody to tell
		})
	}
	return yaml, nil
}
