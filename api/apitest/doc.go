// Package apitest is the conformance suite of vault.Vault, and a small vault in
// memory.
//
// Run holds for every implementation: the vault itself, the one in memory, and the
// client in front of either. A new promise of the contract gets its test here, so
// that all of them keep it.
//
// Memory behaves like a vault without sites behind it: lists, revisions,
// idempotency keys, access, events and the lifecycle are real, and jobs end at
// once. It is for tests of what speaks to a vault.
package apitest
