package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
)

// Host gives out addresses of a loopback address that is hardly anybody else's, so
// that labs that run at the same time do not take each other's ports. Safe for
// concurrent use.
type Host struct {
	ip    string
	mu    sync.Mutex
	taken []string
}

// NewHost chooses a loopback address.
func NewHost() *Host {
	return &Host{ip: fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))}
}

// Address finds a free one, below the ports that the kernel gives to outgoing
// connections: it must still be free when a killed role is started again.
func (h *Host) Address() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	const first, count = 20_000, 12_000
	for range 100 {
		addr := fmt.Sprintf("%s:%d", h.ip, first+rand.IntN(count))
		if slices.Contains(h.taken, addr) {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			_ = ln.Close() // nothing was accepted
			h.taken = append(h.taken, addr)
			return addr
		}
	}
	return h.ip + ":0" // any; peers will not find the role again after a restart
}

// LiveRoot is where agents keep live maps: memory that survives a killed process.
func LiveRoot() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}
