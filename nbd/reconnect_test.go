package nbd

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// site is a server that can die and come back on the same address.
type site struct {
	t       *testing.T
	network string
	address string
	server  *Server
	served  chan error
}

func newSite(t *testing.T, network string, exports ...Export) *site {
	s := &site{t: t, network: network, address: filepath.Join(t.TempDir(), "s")}
	if network == "tcp" {
		s.address = "127.0.0.1:0"
	}
	s.start(exports...)
	t.Cleanup(s.stop)
	return s
}

func (s *site) start(exports ...Export) {
	s.t.Helper()
	l, err := net.Listen(s.network, s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.server, s.served = NewServer(ServerOptions{}), make(chan error, 1)
	for _, e := range exports {
		if err := s.server.Add(e); err != nil {
			s.t.Fatal(err)
		}
	}
	server, served := s.server, s.served
	go func() { served <- server.Serve(context.Background(), l) }()
}

// stop cuts everybody off.
func (s *site) stop() {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.server.Close(ctx); err != nil {
		s.t.Error(err)
	}
	if err := <-s.served; err != nil {
		s.t.Error(err)
	}
	s.server = nil
}

func (s *site) uri(export string) string {
	return URI{Network: s.network, Address: s.address, Export: export}.String()
}

func TestReconnect_OutstandingAreSentAgain(t *testing.T) {
	d := block.NewMemory(1 << 20)
	e := Export{Name: "d", Disk: d, Exclusive: true}
	s := newSite(t, "unix", e)
	c := connect(t, s.uri("d"))
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for w := range int64(4) {
		writers.Go(func() {
			for i := int64(0); ; i++ {
				p, q := pattern(make([]byte, 8192), w+i), make([]byte, 8192)
				if _, err := c.WriteAt(p, w*8192); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				if _, err := c.ReadAt(q, w*8192); err != nil || !bytes.Equal(p, q) {
					t.Errorf("read back differs (%v)", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 5 {
		s.stop()
		s.start(e)
		if _, err := c.ReadAt(make([]byte, 1), 0); err != nil { // it is back
			t.Error(err)
		}
	}
	close(stop)
	writers.Wait()
	if err := c.Flush(); err != nil {
		t.Errorf("flush over a unix socket: %v", err)
	}
}

func TestReconnect_Deadline(t *testing.T) {
	e := Export{Name: "d", Disk: block.NewMemory(1 << 20)}
	s := newSite(t, "unix", e)
	c := connect(t, s.uri("d"), func(o *ClientOptions) { o.ReconnectDeadline = 100 * time.Millisecond })
	s.stop()
	if _, err := c.ReadAt(make([]byte, 1), 0); homeward.KindOf(err) != homeward.Unavailable {
		t.Errorf("after the deadline: %v", err)
	}
	// It goes on trying, for later requests.
	s.start(e)
	for {
		_, err := c.ReadAt(make([]byte, 1), 0)
		if err == nil {
			return
		}
		if homeward.KindOf(err) != homeward.Unavailable {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // the client tells nobody that it is back
	}
}

func TestReconnect_AnotherDiskIsFinal(t *testing.T) {
	for name, c := range map[string]struct {
		later []Export
		want  homeward.Kind
	}{
		"other size": {[]Export{{Name: "d", Disk: block.NewMemory(2 << 20)}}, homeward.Fenced},
		"read-only":  {[]Export{{Name: "d", Disk: block.NewMemory(1 << 20), ReadOnly: true}}, homeward.Fenced},
		"gone":       {nil, homeward.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "unix", Export{Name: "d", Disk: block.NewMemory(1 << 20)})
			client := connect(t, s.uri("d"))
			s.stop()
			s.start(c.later...)
			for range 2 {
				if _, err := client.WriteAt([]byte{1}, 0); homeward.KindOf(err) != c.want {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// TestReconnect_FlushOverTCP: what was answered before the break and not flushed
// may be lost with the server's machine; a later flush must not say it is safe.
func TestReconnect_FlushOverTCP(t *testing.T) {
	e := Export{Name: "d", Disk: block.NewMemory(1 << 20)}
	s := newSite(t, "tcp", e)
	c := connect(t, s.uri("d"))
	again := func() {
		t.Helper()
		s.stop()
		s.start(e)
		if _, err := c.ReadAt(make([]byte, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.WriteAt([]byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	again()
	if err := c.Flush(); err != nil {
		t.Errorf("everything was flushed before the break: %v", err)
	}
	if _, err := c.WriteAt([]byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	again()
	for range 2 {
		if err := c.Flush(); homeward.KindOf(err) != homeward.IO {
			t.Errorf("flush after a break with unflushed writes: %v", err)
		}
	}
}

// TestClient_HangingServer: a server that accepts and answers nothing is an error.
func TestClient_HangingServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = Dial(t.Context(), ClientOptions{URI: UnixURI(socket, "d").String(), DialTimeout: 50 * time.Millisecond})
	if homeward.KindOf(err) != homeward.Timeout {
		t.Errorf("handshake: %v", err)
	}

	d := &watched{Memory: block.NewMemory(1 << 20), entered: make(chan struct{}, 100), hold: make(chan struct{})}
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	defer close(d.hold)
	c := connect(t, r.uri("d"), func(o *ClientOptions) {
		o.RequestTimeout, o.ReconnectDeadline = 50*time.Millisecond, 50*time.Millisecond
	})
	if _, err := c.WriteAt([]byte{1}, 0); homeward.KindOf(err) != homeward.Timeout {
		t.Errorf("request: %v", err)
	}
}

func TestClient_CloseFailsOutstanding(t *testing.T) {
	d := &watched{Memory: block.NewMemory(1 << 20), entered: make(chan struct{}, 1), hold: make(chan struct{})}
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	c := connect(t, r.uri("d"))
	failed := make(chan error, 1)
	go func() {
		_, err := c.WriteAt([]byte{1}, 0)
		failed <- err
	}()
	<-d.entered
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; homeward.KindOf(err) != homeward.Canceled {
		t.Error(err)
	}
	close(d.hold)
	if _, err := c.ReadAt(make([]byte, 1), 0); homeward.KindOf(err) != homeward.Canceled {
		t.Error(err)
	}
}
