// Package recovery is the way there and back as lists of calls to roles and
// sites: protect, fail over, change point, commit, reprotect, fail back, cancel,
// prove, test, relocate, reassociate, pause, disable. It touches no disk and holds nothing but a
// Record, which Item.Save writes down and Load takes up again; everything else it
// needs comes through the contracts of the root package, so the same lists run over
// the role control protocol and, in tests, over roles in one process.
//
// An item has a running side and a standby side. Fail over boots the standby
// side; Commit swaps the two; Reprotect makes the (new) standby side follow the
// (new) running side. Failback is the same list with the sides swapped, preceded
// by a drain that loses nothing. Every call is idempotent, so a list that was cut
// short is simply run again.
//
// The branch, the last state of the side that becomes the standby one, stays pinned
// until that side has run and follows once more, and the first point of that leg
// stands with a branch of its own; or until somebody unpins it. Then it ages like
// any other point. Should the side run meanwhile and its retention volume fill up,
// the branch goes before a write of the machine fails.
package recovery
