// Package ship carries deltas from one hop of the data path to the next over
// HTTP: a handler in front of any homeward.Sink, and a client that is one.
//
//	PUT /v1/items/{item}/deltas                          body: a delta (package delta), at most homeward.MaxDelta bytes
//	GET /v1/items/{item}/standing?applied=POS&wait=30s   both parameters optional; wait at most 60s
//
// A PUT answers 200 (applied) or 202 (spooled) with a homeward.Ack, a GET 200
// with a homeward.Standing; failures are problem documents (package wire).
// Deltas of one item may be put on several connections at once: the sink takes
// them in the order of their positions and leaves the others unread meanwhile,
// so that TCP holds the sender back.
//
// By hand, with a client certificate, this is
//
//	curl --cert me.pem --key me.key --cacert ca.pem -H 'Expect: 100-continue' \
//	     -T some.delta https://target:7443/v1/items/web01/deltas
//	curl … 'https://target:7443/v1/items/web01/standing'
package ship
