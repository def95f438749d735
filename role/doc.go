// Package role is the role control protocol: how a controller (the vault, the
// demo, a test) tells agents, process servers, master targets and configuration
// servers what to do.
//
// A role dials its controller (Serve) over mutual TLS 1.3 and dials again for
// ever. On that connection the role is the HTTP/2 server and the controller the
// client (Hub), so that roles need no open port and calls run side by side:
//
//	role ── dials, TLS 1.3, both certificates ──▶ controller
//	role ◀── POST /v1/session/hello   Welcome → Hello, must match the certificate
//	role ◀── POST /v1/agent/cut       CutRequest → CutReport, or a problem document
//	role ◀── POST /v1/member/health   HealthRequest → HealthReport: of every role
//	role ◀── POST /v1/session/goodbye why the controller closes the connection
//
// Each of the root package's contracts (Agent, ProcessServer, MasterTarget, Site and,
// beside each of them, Member) has a handler (AgentHandler) that serves
// an implementation and a client (Agent) that is one: a caller cannot tell a
// role in the same process from one across the world, but for the errors.
//
// Requests and answers are JSON of at most MaxBody bytes. An unknown field of a
// request is refused, because to overlook an instruction is dangerous; one of an
// answer is ignored, because a newer role may know more.
package role
