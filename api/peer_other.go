//go:build !linux

package api

import (
	"net"

	"github.com/homeward-dr/homeward"
)

// peerUID needs Linux; elsewhere nobody is the local administrator.
func peerUID(net.Conn) (int, error) {
	return 0, homeward.Errorf("identify local peer", homeward.Unsupported, "", "use an API token", "this system does not tell")
}
