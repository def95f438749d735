package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
)

// watch are the open connections of an identity's node, by whom the peer showed
// itself to be.
type watch struct {
	mu   sync.Mutex
	open map[*tls.Conn]*x509.Certificate
}

// Watch closes a connection, whose handshake is over, as soon as this node learns that
// the peer's certificate was revoked, be it now; and it takes the connection out of its
// listener's Lobby. Whoever closes the connection calls stop, else it is kept in memory.
func (id *Identity) Watch(c *tls.Conn) (stop func()) {
	Seat(c)
	state := c.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return func() {}
	}
	id.watch.mu.Lock()
	if id.watch.open == nil {
		id.watch.open = map[*tls.Conn]*x509.Certificate{}
	}
	id.watch.open[c] = state.PeerCertificates[0]
	id.watch.mu.Unlock()
	// A list that came between the handshake and now did not see it.
	id.cut(c)
	return func() {
		id.watch.mu.Lock()
		defer id.watch.mu.Unlock()
		delete(id.watch.open, c)
	}
}

// ConnState is Watch for an http.Server with TLS: set it as its ConnState.
func (id *Identity) ConnState(conn net.Conn, state http.ConnState) {
	c, secure := conn.(*tls.Conn)
	if !secure {
		return
	}
	switch state {
	case http.StateActive:
		if !id.watches(c) {
			id.Watch(c)
		}
	case http.StateClosed, http.StateHijacked:
		id.watch.mu.Lock()
		defer id.watch.mu.Unlock()
		delete(id.watch.open, c)
	}
}

func (id *Identity) watches(c *tls.Conn) bool {
	id.watch.mu.Lock()
	defer id.watch.mu.Unlock()
	return id.watch.open[c] != nil
}

// cutRevoked closes what must not stay open by the newest lists.
func (id *Identity) cutRevoked() {
	id.watch.mu.Lock()
	all := make([]*tls.Conn, 0, len(id.watch.open))
	for c := range id.watch.open {
		all = append(all, c)
	}
	id.watch.mu.Unlock()
	id.cut(all...)
}

// cut closes those of these connections whose peer was revoked. Lists that cannot be
// read cut nobody: the next handshake is refused, and what works goes on working.
func (id *Identity) cut(conns ...*tls.Conn) {
	lists, err := id.lists()
	if err != nil {
		return
	}
	revoked := map[string]bool{}
	cas := id.held.Load().cas
	for _, list := range lists {
		for _, ca := range cas {
			if list.CheckSignatureFrom(ca) != nil {
				continue
			}
			for _, e := range list.RevokedCertificateEntries {
				revoked[string(ca.RawSubject)+string(e.SerialNumber.Bytes())] = true
			}
		}
	}
	id.watch.mu.Lock()
	defer id.watch.mu.Unlock()
	for _, c := range conns {
		if leaf := id.watch.open[c]; leaf != nil && revoked[string(leaf.RawIssuer)+string(leaf.SerialNumber.Bytes())] {
			_ = c.NetConn().Close() // without a word, which could block: its reader sees it
		}
	}
}
