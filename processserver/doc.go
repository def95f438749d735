// Package processserver is the process server: it receives the deltas of agents,
// spools them within bounds, compresses what compresses, and forwards them in
// order, under bandwidth caps shared by weight, to the master target of their item. Towards the
// agent it is a homeward.Sink, towards the target it uses one.
//
// A delta goes three ways at once as it comes in: checked (CRCs, order, chain),
// into its spool file, and on to the target. See Server.Put.
//
// # Spool directory
//
//	lock                       held while a Server is open
//	incarnation.json           the random id of this spool
//	limits.json                bandwidth schedules by target
//	items/<item>/route.json    where the item's deltas go, and its generation
//	items/<item>/<sequence, 16 hex digits>-<cut id>-<attempt>.delta
//	                           a spooled delta as received; *.tmp while it is
//
// # Memory
//
// At most 256 MiB, for any number of items and targets: 32 deltas being received
// (four of one item; a header of 1 MiB and a frame of 1 MiB each at most; those that
// trickle in at less than 64 KiB a second are given up), 12 being sent (some
// 6 MiB each to recode, and a chunk) and three whole deltas that a failing spool disk did not
// take. More puts wait, their bodies unread; more sends wait for a slot.
package processserver
