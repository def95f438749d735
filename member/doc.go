// Package member is what every node is besides its role: it answers heartbeats
// (Health) and measures the way to its peers (Probe).
//
//	member.go    New, Health
//	probe.go     Probe: round-trip time and throughput to a peer's data face
//	face.go      Face: the endpoint of a data face that probes are sent to
//	volumes.go   Volumes: the mounted file systems, and what of ours lies on them
//	mounts.go    /proc/self/mountinfo
//
// It knows no role: what one tells about itself comes by Config.Tell. What could
// not be found out is said to be unknown, never left out.
package member
