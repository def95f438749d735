// Package world is two sites in one process, for proofs about the whole system: at
// each an agent, a process server and a master target over storage that can lose
// what was not synced, and machines whose every write is known.
//
//	world.go      two sites, a network, machines; what a test makes
//	site.go       storage and roles of one site: started, killed, without power
//	process.go    what the life of a role is; storage.go what it does to files and
//	              disks ends with it, between two operations
//	network.go    hops between roles: slow, cut, doubled, late, over HTTP or direct
//	proxy.go      roles as package recovery calls them, whichever instance runs
//	hypervisor.go homeward.Site: boots guests
//	guest.go      a machine that writes; timeline.go what its disks may hold at
//	              any instant; sector.go how a write is told from another
//	points.go     recovery points as they are served
//
// # The property
//
// Every sector of a guest carries the number of the write that made it. A state of
// all its disks is right if there is an instant at which every completed write is
// in it, nothing that was not yet begun is, and of writes in flight any sectors:
// see Timeline.
//
// # Deaths
//
// A killed role goes on running as a ghost, but nothing it does reaches storage or
// network: its storage fails from one operation to the next, its connections are
// cut, and the live maps (tmpfs) are copied at that instant for its successor.
package world
