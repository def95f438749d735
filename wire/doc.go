// Package wire is how answers and errors of every role travel over HTTP: JSON
// documents, and problem documents that the far side turns back into the same
// homeward errors. The mapping of kinds to status codes is homeward.Table.
//
// # Problem document
//
// As in RFC 9457: media type application/problem+json; the status code is that of
// the kind.
//
//	{
//	  "type": "urn:homeward:error:conflict",
//	  "title": "conflict",           // the kind in words
//	  "status": 409,
//	  "detail": "…",                 // the cause, for people
//	  "kind": "conflict",            // homeward.Kind
//	  "op": "put delta",             // operation that failed
//	  "subject": "item web01",
//	  "remedy": "…",                 // what to do
//	  "request": "…",                // of the header X-Request-Id of the answer
//	  "position": "…",               // of a *homeward.PositionError; "" is the zero position
//	  "generation": {"number": 3, "id": "…"}  // of a *homeward.FencedError
//	}
//
// A cause that is Extended adds members of its own.
//
// Kinds that may be retried because something is full or busy carry the header
// Retry-After, in seconds.
package wire
