// Package stage is two sites on one machine, driven by a straight list of calls
// (package recovery) without a vault: the whole-system tests of the data path put
// every role, the link and the guest where they can be killed, hung and looked into.
package stage
