package role

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/wire"
)

// Node is a role as its controller knows it. It stands for the node whether or
// not it is connected: calls go over the connection of the moment, and are
// Unavailable while there is none.
type Node struct {
	name string

	mu      sync.Mutex
	last    Hello     // of the newest connection; before the first, who is expected
	since   time.Time // when that began, or ended; before the first, since it is expected
	current *session  // nil: not connected
}

// Status is how a node stands.
type Status struct {
	pki.Peer
	Version   string    `json:"version"`  // of its build, as it last said
	Protocol  int       `json:"protocol"` // that it last spoke
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"` // when it connected, or was lost
}

// Name is the node's own, from its certificate.
func (n *Node) Name() string { return n.name }

// Status is how the node stands now.
func (n *Node) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return Status{Peer: n.last.Peer, Version: n.last.Version, Protocol: n.last.Protocol, Connected: n.current != nil, Since: n.since}
}

func (n *Node) session() *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current
}

// call is every call of every contract. Besides what the role answers: Unavailable
// when the node is not connected or its connection breaks (the work may have been
// done: call again), Canceled and Timeout when ctx ends, Invalid when the request
// is longer than MaxBody.
func call[Resp any](ctx context.Context, n *Node, method string, req any) (Resp, error) {
	return callWithin[Resp](ctx, n, method, req, MaxBody)
}

// callWithin is call for answers of at most so many bytes.
func callWithin[Resp any](ctx context.Context, n *Node, method string, req any, most int64) (Resp, error) {
	var none Resp
	op := "call " + method
	s := n.session()
	if s == nil {
		return none, homeward.Errorf(op, homeward.Unavailable, n.name,
			"start the node, or wait until it dials in again", "it is not connected")
	}
	resp, err := exchangeWithin[Resp](ctx, s, method, req, most)
	return resp, homeward.Wrap(err, op, n.name)
}

// session is one connection of a node.
type session struct {
	peer pki.Peer // from the certificate
	cert *x509.Certificate
	conn *http.ClientConn
	gone chan struct{} // closed when the connection is no longer usable
	// unwatch says that the connection is closed.
	unwatch func()
	// parting gets why the connection is to end: somebody took it from its node.
	parting chan error
}

// part asks for the end of a connection that was its node's until just now, so it
// happens once.
func (s *session) part(why error) { s.parting <- why }

func exchange[Resp any](ctx context.Context, s *session, method string, req any) (Resp, error) {
	return exchangeWithin[Resp](ctx, s, method, req, MaxBody)
}

// exchangeWithin takes an answer of at most so many bytes.
func exchangeWithin[Resp any](ctx context.Context, s *session, method string, req any, most int64) (Resp, error) {
	var out, none Resp
	body, err := json.Marshal(req)
	if err != nil {
		return none, homeward.Errorf("encode request", homeward.Internal, method, "", "%w", err)
	}
	if len(body) > MaxBody {
		return none, homeward.Errorf("encode request", homeward.Invalid, method,
			"send maps in several calls", "%d bytes, at most %d can be sent", len(body), MaxBody)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.peer.Name+"/v1/"+method, bytes.NewReader(body))
	if err != nil {
		return none, homeward.Errorf("encode request", homeward.Internal, method, "", "%w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.conn.RoundTrip(r)
	if err == nil {
		defer func() { _ = resp.Body.Close() }() // read whole, or given up
		err = wire.ReadDocument(resp, most, &out)
	}
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil: // whatever it looked like on the way
		return none, ctx.Err()
	case resp == nil:
		return none, homeward.Errorf("send request", homeward.Unavailable, s.peer.String(),
			"call again: the work may or may not have been done", "%w", err)
	}
	return none, err
}
