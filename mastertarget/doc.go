// Package mastertarget keeps replicas: it applies deltas with an undo journal,
// keeps recovery points, serves any of them over NBD while replication goes on,
// and makes a served point the replica when it has to run.
//
// On the retention volume:
//
//	lock                         one master target at a time
//	<item>/fence                 the generation in force
//	<item>/item                  what the item is and where it stands (record.go)
//	<item>/position              where the replica stands (tip.go): the commit of every step
//	<item>/pins                  points held against thinning
//	<item>/undo/*.undo           the chain of undo deltas (package history)
//	<item>/diverged-<gen>/<n>    blocks given up by a failover or roll-back, a map per disk
//	<item>/overlay-<gen>/<n>.*   what a failed-over machine wrote (package overlay)
//	<item>/past/<n>.*            what a promoted machine overwrote
//	<item>/scratch/<view>.<n>.*  what tests wrote; gone after a restart
//
// Where to look: target.go the role, item.go one replica of it, recover.go what
// opening does after a crash, prepare.go a new leg; put.go and apply.go a delta;
// points.go, pins.go, thin.go and space.go points and room; point_disk.go and
// view.go serving; failover.go, promote.go and rollback.go running the copy;
// guard.go keeping older points under a running machine; diverged.go the maps of
// I-0; digest.go and verify.go proof; offline.go with nothing else alive.
//
// Bounds, whatever disks and history: deltas in memory Config.ApplyBytes; open
// segments history.MaxOpen; points maxPoints per item, some 500 bytes each; digest
// trees maxTrees at 32 bytes per MiB of disk. A map is one bit per block: 32 MiB
// per TiB of the one disk that is handled, and only where blocks are set.
package mastertarget
