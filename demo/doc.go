// Package demo is the round trip on one machine, with nothing pretended: every
// role is a process of its own, they speak mutual TLS over loopback through an
// emulated link, the machine is a real guest (or the built-in workload) writing
// real disks, and the loss of its site is a kill -9 of everything there.
//
// stage.go builds the two sites, process.go starts and ends their roles, guest.go
// listens to the machine's console, story.go is the round trip itself, screen.go
// what is printed meanwhile, report.go what is printed at the end.
package demo
