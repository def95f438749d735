// Package enrol is how a node becomes one of an installation, and stays one: both
// ends of the enrolment protocol.
//
// An operator makes a token at the vault and gives it to the node, which shows it
// once and is given a certificate for a key that it made itself:
//
//	node ── TLS 1.3, no certificate yet; the vault must show the authority whose
//	        fingerprint is in the token ──▶ vault
//	POST /enrol/v1/node    NodeRequest (token, request, role, name) → Answer
//	POST /enrol/v1/renew   RenewRequest (request) → Answer; mutual TLS, where an
//	                       expired certificate will do, a revoked one will not
//
// The token's text is
//
//	hw1.<id, 16 hex digits>.<secret, 32 random bytes>.<SHA-256 of the authority's certificate>
//
// with the last two in unpadded base64url. The vault keeps a hash of the secret.
//
// Requests and answers are JSON of at most MaxBody bytes; unknown fields of a
// request are refused. Errors are problem documents (package wire). A node offers the
// ALPN protocol "homeward-enrol/1" beside HTTP/1.1, so that enrolment can share the
// vault's one port with the role protocol: see Split.
//
// Read in this order: token.go, protocol.go, server.go (what the vault decides),
// client.go (what the node does), keep.go (renewal while the node runs).
package enrol
