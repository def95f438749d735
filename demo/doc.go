// Package demo is the round trip on one machine, with nothing pretended: every
// role is a process of its own, they speak mutual TLS over loopback through an
// emulated link, the machines are real guests (or the built-in workload) writing
// real disks, and the loss of their site is a kill -9 of everything there. What is
// done is done by commands of the CLI, which are shown.
//
// story.go is the round trip up to the loss and back, reverse.go a reprotect with its
// proof, report.go the result as data, ending.go what is said at the end. Package lab
// starts and ends the processes.
package demo
