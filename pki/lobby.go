package pki

import (
	"net"
	"net/netip"
	"sync"
)

// MaxLobby is how many connections wait in a Lobby at most.
const MaxLobby = 256

// Lobby is a listener that bounds connections nobody knows yet: from their beginning
// until Seat (or Identity.Watch) says that the peer has proven itself. When MaxLobby of
// them are open, the next one is let in all the same, and the oldest one of the source
// with the most is closed instead. So whoever opens connections and says nothing shuts
// himself out, and a node that says who it is waits for nobody. A source is an address,
// or the /64 of an IPv6 one.
type Lobby struct {
	net.Listener

	mu     sync.Mutex
	guests []*guest // oldest first
}

// NewLobby bounds what comes out of ln.
func NewLobby(ln net.Listener) *Lobby { return &Lobby{Listener: ln} }

// guest is a connection of a Lobby; when seated, it is just a connection.
type guest struct {
	net.Conn
	lobby  *Lobby
	source string
}

// Accept waits for the next connection.
func (l *Lobby) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: conn, lobby: l, source: sourceOf(conn.RemoteAddr())}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.guests) >= MaxLobby {
		out := l.worst()
		_ = l.guests[out].Conn.Close() // it said nothing, so there is nothing to lose
		l.guests = append(l.guests[:out], l.guests[out+1:]...)
	}
	l.guests = append(l.guests, g)
	return g, nil
}

// worst is the oldest one of the source that has the most.
func (l *Lobby) worst() int {
	count, most := map[string]int{}, 0
	for _, g := range l.guests {
		count[g.source]++
		most = max(most, count[g.source])
	}
	for i, g := range l.guests {
		if count[g.source] == most {
			return i
		}
	}
	return 0
}

// leave takes g out; again it changes nothing.
func (l *Lobby) leave(g *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.guests {
		if l.guests[i] == g {
			l.guests = append(l.guests[:i], l.guests[i+1:]...)
			return
		}
	}
}

// Close of a connection frees its place.
func (g *guest) Close() error {
	g.lobby.leave(g)
	return g.Conn.Close()
}

// NetConn is the connection below, for who tunes it.
func (g *guest) NetConn() net.Conn { return g.Conn }

// Seat takes a connection out of its listener's Lobby, if it came through one,
// whatever lies over it: its peer has proven itself.
func Seat(conn net.Conn) {
	for {
		if g, is := conn.(*guest); is {
			g.lobby.leave(g)
			return
		}
		over, is := conn.(interface{ NetConn() net.Conn })
		if !is {
			return
		}
		conn = over.NetConn()
	}
}

func sourceOf(addr net.Addr) string {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return Source(ap.Addr().String())
}

// Source is an address, or the /64 of an IPv6 one: one host has that many.
func Source(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Unmap().Is4() {
		return address
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return p.String()
}
