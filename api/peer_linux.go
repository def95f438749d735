package api

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
)

// peerUID is the user at the other end of a unix socket, as the kernel says.
func peerUID(conn net.Conn) (int, error) {
	const op = "identify local peer"
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, homeward.Errorf(op, homeward.Unsupported, "", "", "not a unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, homeward.Errorf(op, homeward.IO, "", "", "%w", err)
	}
	var cred *unix.Ucred
	var bad error
	if err := raw.Control(func(fd uintptr) { cred, bad = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		bad = err
	}
	if bad != nil {
		return 0, homeward.Errorf(op, homeward.IO, "", "", "%w", bad)
	}
	return int(cred.Uid), nil
}
