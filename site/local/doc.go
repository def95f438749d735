// Package local is a site on this machine: machines are processes, disks are
// files in datastore directories.
//
// A machine runs as a QEMU guest under software emulation (direct kernel boot, or
// from its disk), or, without QEMU, as the built-in workload (package workload):
// a process that keeps a small checksummed record store on its NBD disks. Both
// print a line for every record they were told is durable, so that whoever reads
// the console knows exactly what a recovery must bring back.
//
// All state is durable under Config.Dir: one file per machine, one per operation.
// A restarted site finds its machines running, because it remembers their
// processes by pid and start time.
package local
