package nbd

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/block"
)

// sluggish is a disk whose first two reads take long, and whose later ones return
// only when several are under way at once.
type sluggish struct {
	*block.Memory
	reads   atomic.Int64
	arrived sync.WaitGroup
}

func (s *sluggish) ReadAt(p []byte, off int64) (int, error) {
	if s.reads.Add(1) <= 2 {
		time.Sleep(10 * quickBase) // being slow is what is tested
		return s.Memory.ReadAt(p, off)
	}
	s.arrived.Done()
	s.arrived.Wait()
	return s.Memory.ReadAt(p, off)
}

// TestSession_SlowDisk: requests to a disk that was slow twice run side by side.
func TestSession_SlowDisk(t *testing.T) {
	const together = 4 * handedMin
	d := &sluggish{Memory: block.NewMemory(1 << 20)}
	d.arrived.Add(together)
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	p := dialPlain(t, r.socket, "d")
	p.read(10)
	for i := range uint64(together + 2) {
		p.write(wire(request{cmd: cmdRead, n: 512, cookie: i}))
	}
	for range together + 2 {
		if head := p.read(simpleSize + 512); be.Uint32(head[4:]) != 0 {
			t.Fatalf("answered %x", head[:simpleSize])
		}
	}
}

// TestSession_HeldReply: a finished request is answered although the next one,
// which came with it, does not end.
func TestSession_HeldReply(t *testing.T) {
	d := &watched{Memory: block.NewMemory(1 << 20), entered: make(chan struct{}, 1), hold: make(chan struct{})}
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	p := dialPlain(t, r.socket, "d")
	p.read(10)
	p.write(append(wire(request{cmd: cmdRead, n: 512, cookie: 1}), wire(request{cmd: cmdWrite, n: 1, cookie: 2}, 'x')...))
	p.read(simpleSize + 512) // while the write is held
	close(d.hold)
	p.read(simpleSize)
}

// A client that takes no reply any more, though it has not hung up, ends its
// session: the reply that cannot be sent is found out amid a read.
func TestSession_NobodyTakesReplies(t *testing.T) {
	r := serve(t, ServerOptions{}, Export{Name: "disk", Disk: block.NewMemory(1 << 20)})
	c := dialPlain(t, r.socket, "disk")
	c.read(10)
	if err := c.conn.(*net.UnixConn).CloseRead(); err != nil {
		t.Fatal(err)
	}
	c.put(0)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for r.Clients("disk") > 0 {
		select {
		case <-time.After(time.Millisecond): // it tells nobody
		case <-ctx.Done():
			t.Fatal("the session does not end")
		}
	}
	if err := r.Withdraw(ctx, "disk", true); err != nil {
		t.Error(err)
	}
}
