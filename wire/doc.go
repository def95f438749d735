// Package wire is how answers and errors of every role travel over HTTP: JSON
// documents, and problem documents that the far side turns back into the same
// homeward errors. The mapping of kinds to status codes is homeward.Table.
//
// # Problem document
//
// Media type application/problem+json; the status code is that of the kind.
//
//	{
//	  "kind": "conflict",            // homeward.Kind
//	  "op": "put delta",             // operation that failed
//	  "subject": "item web01",
//	  "message": "…",                // the cause, for people
//	  "remedy": "…",                 // what to do
//	  "position": "…",               // of a *homeward.PositionError; "" is the zero position
//	  "generation": {"number": 3, "id": "…"}  // of a *homeward.FencedError
//	}
//
// Kinds that may be retried because something is full or busy carry the header
// Retry-After, in seconds.
package wire
