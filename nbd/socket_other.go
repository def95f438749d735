//go:build !linux

package nbd

import "net"

// socket reads a connection.
type socket struct {
	conn net.Conn
	idle func() bool // called before waiting; may be nil
}

func newSocket(conn net.Conn) *socket { return &socket{conn: conn} }

// read reads at least one byte into p; over and within are for systems that can do better.
func (s *socket) read(p, over []byte, within bool) (int, error) {
	if s.idle != nil {
		s.idle()
	}
	return s.conn.Read(p)
}
