package role

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// maxGreeting is how many connections a Hub greets at once: as many as a pki.Lobby
// holds, so that one who says nothing takes nobody's place.
const maxGreeting = pki.MaxLobby

// HubOptions are for NewHub.
type HubOptions struct {
	TLS     *tls.Config // of Identity.ServerTLS with the roles that may connect
	Version string      // of this build, for people
	Epoch   uint64      // of the vault; 0: it has none
	Log     *slog.Logger
	// Admit decides about each connection, by what the handshake has proven: its error
	// is told to the node. It is asked twice, before the node is greeted and after it
	// was entered, so that who revokes a node and then calls Drop misses none. It must
	// not block for long. nil: everybody of TLS.
	Admit func(peer pki.Peer, cert *x509.Certificate) error
	// Watch is Identity.Watch of the identity that TLS is of: connections of a node that
	// is revoked end. nil: they do not, but for Drop.
	Watch func(*tls.Conn) (stop func())
	// Ping is how long a node may be silent before it is asked for a sign of life,
	// and how long it then has; 0: 10 s. After that it counts as disconnected.
	Ping time.Duration
}

// Hub is the controller's end: it takes the connections of roles and knows which
// nodes there are. Safe for concurrent use.
type Hub struct {
	options HubOptions

	mu          sync.Mutex
	nodes       map[string]*Node
	changed     chan struct{} // closed and replaced when a node connects
	subscribers map[chan Event]bool
}

// NewHub makes a Hub that knows no node yet; Serve lets them in.
func NewHub(o HubOptions) *Hub {
	o.TLS = o.TLS.Clone()
	o.TLS.NextProtos = []string{http2}
	if o.Watch == nil {
		o.Watch = func(*tls.Conn) func() { return func() {} }
	}
	if o.Ping == 0 {
		o.Ping = defaultPing
	}
	return &Hub{options: o, nodes: map[string]*Node{}, changed: make(chan struct{}), subscribers: map[chan Event]bool{}}
}

// Serve takes connections from ln until ctx ends; then it closes ln and all
// connections, waits for them and returns nil. It may be called once. Where strangers
// reach ln, it should be a pki.Lobby.
func (h *Hub) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	var sessions sync.WaitGroup
	defer func() {
		cancel()
		stop()
		_ = ln.Close()
		sessions.Wait()
	}()
	greeting := make(chan struct{}, maxGreeting)
	for {
		raw, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = raw.Close()
			}
			return nil
		}
		if err != nil {
			return homeward.Errorf("accept roles", homeward.IO, ln.Addr().String(), "start it again", "%w", err)
		}
		greeting <- struct{}{} // freed within greetTimeout, or when a Lobby closes one
		sessions.Go(func() { h.serve(ctx, raw, func() { <-greeting }) })
	}
}

// Node finds a node that has connected, or is expected. Errors: NotFound.
func (h *Hub) Node(name string) (*Node, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, known := h.nodes[name]
	if !known {
		return nil, homeward.Errorf("find node", homeward.NotFound, name,
			"check the name, and that the node dials this controller", "it has never connected")
	}
	return n, nil
}

// Wait waits until a node is connected. Errors: Canceled or Timeout with ctx.
func (h *Hub) Wait(ctx context.Context, name string) (*Node, error) {
	for {
		h.mu.Lock()
		n, changed := h.nodes[name], h.changed
		h.mu.Unlock()
		if n != nil && n.session() != nil {
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, homeward.Errorf("wait for node", homeward.KindOf(ctx.Err()), name,
				"check that it runs and dials this controller; its log says why it cannot", "%w", ctx.Err())
		}
	}
}

// Nodes lists all that ever connected or are expected, by name.
func (h *Hub) Nodes() []Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Status, 0, len(h.nodes))
	for _, n := range h.nodes {
		list = append(list, n.Status())
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Expect makes a node known that has not connected yet: calls to it are Unavailable
// until it does. One that is known stays as it is; but a name that changed its
// role is the new one's, and a connection of the old one is closed.
func (h *Hub) Expect(peer pki.Peer) *Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.nodes[peer.Name]
	if n == nil {
		n = &Node{name: peer.Name, since: time.Now()}
		h.nodes[peer.Name] = n
	}
	if was := n.Status().Peer; was != peer {
		if was != (pki.Peer{}) {
			h.part(n, homeward.Errorf("serve node", homeward.Exists, was.String(),
				"give this node a name of its own", "its name is now that of %s", peer))
		}
		n.mu.Lock()
		n.last = Hello{Peer: peer}
		n.mu.Unlock()
	}
	return n
}

// Drop closes the connection of a node and tells it why: calls to it are
// Unavailable when Drop returns, those under way soon after. The node dials again,
// at the slowest pace; Admit decides whether it comes in.
func (h *Hub) Drop(name, reason, remedy string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.nodes[name]; n != nil {
		h.part(n, homeward.Errorf("serve node", homeward.Forbidden, name, remedy, "%s", reason))
	}
}

// part ends the connection of a node, if it has one; h.mu is held.
func (h *Hub) part(n *Node, why error) {
	n.mu.Lock()
	s := n.current
	if s != nil {
		n.current, n.since = nil, time.Now()
	}
	n.mu.Unlock()
	if s == nil {
		return
	}
	s.part(why)
	h.publish(Event{Status: n.Status(), Reason: reasonOf(why)})
}

// Event tells that a node connected or was lost.
type Event struct {
	Status
	Reason string `json:"reason,omitempty"` // why it was lost
}

// Subscribe delivers events from now on, until stop is called. A subscriber that
// falls 64 behind is cut off: its channel is closed.
func (h *Hub) Subscribe() (events <-chan Event, stop func()) {
	ch := make(chan Event, 64)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[ch] = true
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(ch)
	}
}

func (h *Hub) drop(ch chan Event) {
	if h.subscribers[ch] {
		delete(h.subscribers, ch)
		close(ch)
	}
}

// publish is called with h.mu held, so that events of a node are in order.
func (h *Hub) publish(e Event) {
	for ch := range h.subscribers {
		select {
		case ch <- e:
		default:
			h.drop(ch)
		}
	}
}
