// Package lifecycle decides what may be done with a replicated item, and what
// that makes of it. It is one pure table over state, action and facts: no I/O, no
// clock, no other truth than what it is given.
//
// Read in this order: facts.go (what it is given), table.go (the rows, one per
// action), tasks.go (the steps each action's job consists of), decide.go (how a
// row is read). docs/lifecycle.md is generated from it.
package lifecycle

//go:generate go test -run TestDocument -update .
