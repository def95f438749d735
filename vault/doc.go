// Package vault is the vocabulary of the control plane and the contract of the
// vault: what an operator can see and ask for. It holds no behaviour but the
// checking of input.
//
// The vault itself (package vault/service) and the HTTP client (package api)
// both implement Vault, so that nobody can tell one in the same process from one
// across the world; both run one conformance suite (package api/apitest).
//
// Read in this order: site.go and node.go (where things are), policy.go, item.go
// and action.go (what is protected, and what can be done with it), job.go (how it
// is done), readiness.go (what stands in the way), contract.go (all calls).
//
// The packages beside this one: lifecycle (which action is possible when: a pure
// table), readiness (the seeds' rules as pure checks over facts), job (the engine
// that runs stored plans), fleet (enrolled nodes and their health), service (the
// vault that joins them with the store).
package vault
