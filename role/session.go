package role

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// serve is the controller's side of one connection, from its first byte to its
// end. greeted is called once the node has been let in or sent away.
func (h *Hub) serve(ctx context.Context, raw net.Conn, greeted func()) {
	s, hello, err := h.greet(ctx, raw)
	greeted()
	if err != nil {
		h.options.Log.Warn("a connection was refused", "from", raw.RemoteAddr().String(), "error", err)
		_ = raw.Close()
		return
	}
	defer s.unwatch()
	defer func() { _ = s.conn.Close() }() // broken already, or no longer wanted
	n, replaced, err := h.enter(s, hello)
	if err != nil {
		h.options.Log.Warn("a node was refused", "node", s.peer.String(), "from", raw.RemoteAddr().String(), "error", err)
		dismiss(ctx, s, err)
		return
	}
	if replaced != nil {
		replaced.part(homeward.Errorf("serve node", homeward.Exists, s.peer.String(),
			"if two nodes use this identity, stop one or issue it its own", "a newer connection took its place"))
	}
	if err := h.admit(s); err != nil { // it was revoked while it was greeted
		h.leave(n, s, reasonOf(err))
		dismiss(ctx, s, err)
		return
	}
	h.options.Log.Info("node connected", "node", s.peer.String(), "from", raw.RemoteAddr().String(), "version", hello.Version)
	select {
	case <-s.gone:
		h.leave(n, s, "the connection broke")
	case why := <-s.parting:
		h.options.Log.Warn("a node's connection is closed", "node", s.peer.String(), "reason", reasonOf(why))
		dismiss(ctx, s, why)
	case <-ctx.Done():
		h.leave(n, s, "the controller stops")
	}
}

// greet authenticates both sides and exchanges Welcome and Hello.
func (h *Hub) greet(ctx context.Context, raw net.Conn) (*session, Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	secure := tls.Server(raw, h.options.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, Hello{}, pki.Explain(err, "greet", raw.RemoteAddr().String())
	}
	state := secure.ConnectionState()
	peer, err := pki.PeerOf(&state)
	if err != nil {
		return nil, Hello{}, err
	}
	if state.NegotiatedProtocol != http2 {
		return nil, Hello{}, homeward.Errorf("greet", homeward.Unsupported, peer.String(),
			"only roles dial this port", "it does not speak the role protocol")
	}
	s, err := h.turn(ctx, secure, peer)
	if err != nil {
		return nil, Hello{}, pki.Explain(err, "greet", peer.String())
	}
	s.cert = state.PeerCertificates[0] // there is one: PeerOf read it
	s.unwatch = h.options.Watch(secure)
	hello, err := h.welcome(ctx, s)
	if err != nil {
		dismiss(ctx, s, err)
		_ = s.conn.Close()
		s.unwatch()
		return nil, Hello{}, err
	}
	return s, hello, nil
}

// welcome admits a node and hears who it says it is.
func (h *Hub) welcome(ctx context.Context, s *session) (Hello, error) {
	if err := h.admit(s); err != nil {
		return Hello{}, err
	}
	w := Welcome{Protocol: Protocol, Version: h.options.Version, Epoch: h.options.Epoch}
	hello, err := exchangeWithin[Hello](ctx, s, helloPath, w, maxHello)
	if homeward.KindOf(err) == homeward.Invalid && w.Epoch != 0 { // a role that does not know the field
		w.Epoch = 0
		hello, err = exchangeWithin[Hello](ctx, s, helloPath, w, maxHello)
	}
	if err == nil {
		err = understands(hello.Protocol, s.peer.String())
	}
	if err == nil && hello.Peer != s.peer {
		err = homeward.Errorf("greet", homeward.Forbidden, s.peer.String(),
			"start the node with the role and name of its identity", "it calls itself %s", hello.Peer)
	}
	return hello, err
}

func (h *Hub) admit(s *session) error {
	if h.options.Admit == nil {
		return nil
	}
	return h.options.Admit(s.peer, s.cert)
}

// turn makes the side that was dialled the client of the connection.
func (h *Hub) turn(ctx context.Context, secure *tls.Conn, peer pki.Peer) (*session, error) {
	t := &http.Transport{
		DialTLSContext:     func(context.Context, string, string) (net.Conn, error) { return secure, nil },
		DisableCompression: true,
		Protocols:          new(http.Protocols),
		HTTP2:              &http.HTTP2Config{SendPingTimeout: h.options.Ping, PingTimeout: h.options.Ping},
	}
	t.Protocols.SetHTTP2(true)
	conn, err := t.NewClientConn(ctx, "https", peer.Name+":443")
	if err != nil {
		return nil, err
	}
	s := &session{peer: peer, conn: conn, gone: make(chan struct{}), parting: make(chan error, 1)}
	var once sync.Once
	conn.SetStateHook(func(c *http.ClientConn) {
		if c.Err() != nil {
			once.Do(func() { close(s.gone) })
		}
	})
	return s, nil
}

// dismiss tells the role why its connection is closed. When it does not listen,
// there is nobody to tell.
func dismiss(ctx context.Context, s *session, why error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _ = exchange[homeward.Done](ctx, s, goodbyePath, Goodbye{Reason: reasonOf(why), Remedy: homeward.RemedyOf(why)})
}

// reasonOf is what an error tells to people who know its subject.
func reasonOf(err error) string {
	if cause := errors.Unwrap(err); cause != nil {
		return cause.Error()
	}
	return err.Error()
}

// enter makes s the connection of its node; replaced is the one before, if it is
// still there.
func (h *Hub) enter(s *session, hello Hello) (n *Node, replaced *session, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n = h.nodes[s.peer.Name]
	if n == nil {
		n = &Node{name: s.peer.Name}
		h.nodes[n.name] = n
	}
	n.mu.Lock()
	if n.last.Peer != (pki.Peer{}) && n.last.Role != s.peer.Role {
		n.mu.Unlock()
		return nil, nil, homeward.Errorf("enter node", homeward.Exists, s.peer.String(),
			"give every node a name of its own", "%s has this name", n.last.Peer)
	}
	replaced, n.current, n.last, n.since = n.current, s, hello, time.Now()
	n.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
	h.publish(Event{Status: n.Status()})
	return n, replaced, nil
}

// leave ends a connection that no newer one has replaced.
func (h *Hub) leave(n *Node, s *session, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n.mu.Lock()
	mine := n.current == s
	if mine {
		n.current, n.since = nil, time.Now()
	}
	n.mu.Unlock()
	if !mine {
		return
	}
	h.options.Log.Warn("node lost", "node", s.peer.String(), "reason", reason)
	h.publish(Event{Status: n.Status(), Reason: reason})
}
