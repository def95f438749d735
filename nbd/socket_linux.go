package nbd

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket reads a connection. Over a plain socket it fills two pieces of memory by
// one system call, and calls idle only when there is nothing to read yet.
type socket struct {
	conn net.Conn
	raw  syscall.RawConn // nil: conn is no plain socket
	idle func() bool     // called before waiting, tells whether more comes at once; may be nil

	// Of a read in progress.
	vec    [2][]byte
	n      int
	err    error
	within bool // what is read is the rest of a message
	late   bool // it has done all it could before waiting
	step   func(fd uintptr) bool

	tired int // waits in which is not spun
}

// Who waits for the rest of a message, or for the next one of a peer that has more
// in flight, attempts again and again for so long: the peer is at work on another
// processor and goes on sooner than we could be put to sleep and woken. Where that was
// in vain (that processor has other work to do), the next few waits do without.
const (
	spinFor  = 40 * time.Microsecond
	spinRest = 8
)

func newSocket(conn net.Conn) *socket {
	s := &socket{conn: conn}
	switch plain := conn.(type) {
	case *net.UnixConn:
		s.raw, _ = plain.SyscallConn() // fails only on an invalid connection, whose reads fail too
	case *net.TCPConn:
		s.raw, _ = plain.SyscallConn()
	}
	s.step = s.try
	return s
}

// read reads at least one byte into p, and then into over, as much as is there.
// p is not empty. At the end of the stream the error is io.EOF. With within set the
// peer is amid sending what fills p.
func (s *socket) read(p, over []byte, within bool) (int, error) {
	if s.raw == nil {
		if s.idle != nil {
			s.idle()
		}
		return s.conn.Read(p)
	}
	s.vec, s.within, s.late = [2][]byte{p, over}, within, false
	err := s.raw.Read(s.step)
	s.vec = [2][]byte{}
	switch {
	case err != nil:
		return 0, err
	case s.err != nil:
		return 0, os.NewSyscallError("read", s.err)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// try is one attempt, and a few more before it waits; false: wait until there is something.
func (s *socket) try(fd uintptr) bool {
	if s.attempt(fd) {
		return true
	}
	if s.late {
		return false
	}
	s.late = true
	if s.within && s.spin(fd) || s.idle != nil && s.idle() && s.spin(fd) {
		return true
	}
	// The peer, now that it has its replies, often needs but a moment on this very
	// processor: cheaper than to be put to sleep and woken by the netpoller.
	_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	return s.attempt(fd)
}

// attempt reads what is there; false: nothing is.
func (s *socket) attempt(fd uintptr) bool {
	for {
		if len(s.vec[1]) == 0 {
			s.n, s.err = unix.Read(int(fd), s.vec[0])
		} else {
			s.n, s.err = unix.Readv(int(fd), s.vec[:])
		}
		if s.err != unix.EINTR {
			return s.err != unix.EAGAIN
		}
	}
}

// spin attempts again and again for a while.
func (s *socket) spin(fd uintptr) bool {
	if s.tired > 0 {
		s.tired--
		return false
	}
	for begun := time.Now(); time.Since(begun) < spinFor; {
		if s.attempt(fd) {
			return true
		}
	}
	s.tired = spinRest
	return false
}
