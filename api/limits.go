package api

import (
	"net"
	"sync"
	"time"
)

// Bounds of one request.
const (
	maxBody   = 1 << 20 // bytes
	maxHeader = 32 << 10

	defaultHeartbeat = 15 * time.Second
)

// Limits bound what clients can take of the server. Zero fields have the defaults.
type Limits struct {
	Connections int           // of callers at once; 512: more wait to be accepted; strangers are bounded by a pki.Lobby
	Requests    int           // at once; 128: more are answered Busy
	Streams     int           // of events at once; 64: more are answered Busy
	Header      time.Duration // for a request's header to arrive; 10 s
	Body        time.Duration // for its body to arrive; 10 s
	Request     time.Duration // for one request as a whole; 2 min
	Idle        time.Duration // of a connection between requests; 2 min
	Heartbeat   time.Duration // between comments that keep a stream alive; 15 s, at most 30 s
	StreamWrite time.Duration // for a client of a stream to take what is sent; 10 s
}

func (l Limits) withDefaults() Limits {
	number := func(n *int, fallback int) {
		if *n <= 0 {
			*n = fallback
		}
	}
	length := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	number(&l.Connections, 512)
	number(&l.Requests, 128)
	number(&l.Streams, 64)
	length(&l.Header, 10*time.Second)
	length(&l.Body, 10*time.Second)
	length(&l.Request, 2*time.Minute)
	length(&l.Idle, 2*time.Minute)
	length(&l.Heartbeat, defaultHeartbeat)
	l.Heartbeat = min(l.Heartbeat, 2*defaultHeartbeat) // clients take three for death
	length(&l.StreamWrite, 10*time.Second)
	return l
}

// places are taken and given back; there are only so many.
type places chan struct{}

func newPlaces(n int) places { return make(places, n) }

func (p places) take() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) give() { <-p }

// boundedListener accepts only so many connections at once; the others wait in the
// kernel's queue.
type boundedListener struct {
	net.Listener
	places places
	closed chan struct{}
	once   sync.Once
}

func bounded(l net.Listener, n int) *boundedListener {
	return &boundedListener{Listener: l, places: newPlaces(n), closed: make(chan struct{})}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.places.give()
		return nil, err
	}
	return &boundedConn{Conn: conn, give: sync.OnceFunc(l.places.give)}, nil
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	give func()
}

func (c *boundedConn) Close() error {
	defer c.give()
	return c.Conn.Close()
}
