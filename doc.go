// Package homeward is the vocabulary of Homeward and the contracts at which its
// data path and its control plane meet. It imports the standard library alone.
//
// Homeward replicates the disks of machines from the site where they run to
// another one, fails them over, reprotects them in the reverse direction and
// fails them back. The words are those of the field: a mobility agent captures
// writes and cuts them into deltas, a process server spools and forwards deltas,
// a master target applies them to replicas and keeps recovery points.
//
// Read in this order: id.go and position.go (what names a state of a disk),
// machine.go and mark.go (what a point is), sink.go (how every hop of the data
// path looks), agent.go, processserver.go and mastertarget.go (what each role
// can be told), site.go (where machines run), errors.go (how things fail).
package homeward
