// Package api is the vault's face: an HTTP server over the contract vault.Vault,
// and a Client that implements the same contract over HTTPS. Nobody can tell one
// from the other: package api/apitest runs one conformance suite against both.
//
// One file per part of the contract (sites.go, nodes.go, items.go, actions.go,
// policies.go, jobs.go, oversight.go, events.go, tokens.go) holds the routes and,
// beside them, the client's calls of the same routes.
//
// server.go is how requests come in, and what bounds them; exchange.go joins huma
// (routes, validation, OpenAPI) with the problem documents of package wire; auth.go
// says who asks; metrics.go is what Prometheus reads; client.go and call.go are how
// the client's requests go out. docs/openapi.yaml is generated.
package api
