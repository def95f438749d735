// Package store keeps what the vault must not forget, in SQLite (a file of its own)
// or in PostgreSQL, with the same SQL. Resources are documents: a row has a key, a
// revision, the columns that lists are filtered by, and the resource as JSON.
//
// What is told:
//
//   - resources, one [Table] each: fields of [Store], defined in resources.go;
//   - several changes at once: [Store.Tx];
//   - what changed: [Store.Events], written in the transaction of the change;
//   - who asked for what: [Store.Audit], [Store.AuditLog];
//   - small facts by name: [Store.Setting];
//   - proofs and score histories: history.go.
//
// # Lists
//
// Lists come in the order of their keys, byte by byte; jobs, alerts and the audit
// log begin with the newest. A page begins after the last entry of the page before
// it, not at a count, so that whatever was there when a listing began, and stays,
// is told exactly once, however much is added meanwhile. A filter that a table does
// not have is refused.
//
// # Errors
//
// Errors have the kinds of the root package. Unavailable: the store is gone (retry).
// Busy: another program has locked it (retry). NoSpace: its disk is full. Timeout:
// no answer in time. InUse, when opening: another vault has it. Fenced: another
// vault had it meanwhile; this one must be started again. A change whose transaction
// ended with Unavailable, Timeout or Canceled may have happened: read before repeating it.
//
// # Backup, format 1
//
//	 0  7  magic "HWVAULT"
//	 7  1  format version, 1
//	 8     gzip of JSON values, one per line
//	-32 32 BLAKE3 of everything before it
//
// The first line is {"schema": …, "store": …, "made": …}; then for each table
// {"table": …, "columns": […]} and one array per row; the last line is {"rows": …},
// the number of all rows. Events are not in it: they are news, not memory.
package store
