// Package lab runs a small installation on one machine: the processes of roles, the
// addresses they listen on, the guest and what it says on its console. The demo and
// the whole-system tests are built on it.
package lab
