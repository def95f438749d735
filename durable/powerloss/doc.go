// Package powerloss is test support: a file system and disks in memory that lose
// what was not synced, and that fail when told to.
//
// The medium is as unkind as POSIX allows. Of every 4 KiB page written since the
// last sync, any version may be there after a crash, torn at 512 bytes or whole,
// and each page is decided for itself; so is the size of each file, and every
// creation, rename and removal since the last SyncDir of its directory. A failed
// sync leaves the pages clean in the cache and undecided on the medium: syncing
// again succeeds and persists nothing, as on Linux.
//
// [FS.Crash] and [Disk.Crash] make what is found after the power returns, and
// leave the original as it is: one state can be crashed in many ways.
package powerloss
