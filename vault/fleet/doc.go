// Package fleet is what the vault knows of its nodes: who is enrolled, who lives,
// who reaches whom, and what is wrong with them. It gives clients of roles by the
// name of their node.
//
// Read in this order: fleet.go (what it is made of, and its one loop), live.go (a
// node in memory), beat.go (heartbeats), believe.go (what is taken from them),
// judge.go (alerts), flush.go (what is written, and when), probe.go (ways between
// nodes), roles.go (clients), admit.go (who may connect; revocation).
package fleet
