package nbd

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// watched is a disk that counts what touches it, and can hold writes.
type watched struct {
	*block.Memory
	touched atomic.Int64
	entered chan struct{} // gets a value for each held write
	hold    chan struct{} // writes wait until it is closed; nil: they do not
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	w.touched.Add(1)
	return w.Memory.ReadAt(p, off)
}

func (w *watched) WriteAt(p []byte, off int64) (int, error) {
	w.touched.Add(1)
	if w.hold != nil {
		w.entered <- struct{}{}
		<-w.hold
	}
	return w.Memory.WriteAt(p, off)
}

// plain is a client by hand, which can be stopped wherever a test likes.
type plain struct {
	t    *testing.T
	conn net.Conn
}

// dialPlain negotiates name without structured replies.
func dialPlain(t *testing.T, socket, name string) *plain {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &plain{t, conn}
	p.read(18)
	p.write(be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes))
	p.option(optExportName, []byte(name))
	return p
}

func (p *plain) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p.conn, b); err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *plain) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plain) option(opt uint32, data []byte) {
	p.t.Helper()
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, uint32(len(data)))
	p.write(append(b, data...))
}

// put sends a write request of one block without waiting for its answer.
func (p *plain) put(off uint64) {
	b := make([]byte, requestSize+4096)
	request{cmd: cmdWrite, cookie: off, off: off, n: 4096}.put(b)
	p.write(b)
}

// TestWithdraw_PausedClient is I-6: a client that is stopped across the
// withdrawal, with requests on their way, and resumed after it, reaches the disk
// no more, neither over its old connection nor over a new one.
func TestWithdraw_PausedClient(t *testing.T) {
	for _, immediate := range []bool{false, true} {
		t.Run(map[bool]string{false: "graceful", true: "immediate"}[immediate], func(t *testing.T) {
			d := &watched{Memory: block.NewMemory(64 << 20), entered: make(chan struct{}, maxWorkers), hold: make(chan struct{})}
			r := serve(t, ServerOptions{}, Export{Name: "web01-g1", Disk: d})
			c := dialPlain(t, r.socket, "web01-g1")
			c.read(10)
			c.put(0)
			<-d.entered // one request is on the disk …
			for i := range uint64(20) {
				c.put(4096 * (i + 1)) // … others wait in the socket and in buffers; the client reads no answer
			}
			withdrawn := make(chan error, 1)
			go func() { withdrawn <- r.Withdraw(context.Background(), "web01-g1", immediate) }()
			select {
			case err := <-withdrawn:
				t.Fatalf("Withdraw returned (%v) with a request on the disk", err)
			case <-time.After(20 * time.Millisecond): // only gives a wrong Withdraw the time to show itself
			}
			close(d.hold)
			if err := <-withdrawn; err != nil {
				t.Fatal(err)
			}
			before := d.touched.Load()

			// Resumed: the old connection is cut …
			_, _ = c.conn.Write(make([]byte, requestSize)) // whether it fails depends on the kernel's timing
			if err := c.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c.conn); err != nil && homeward.KindOf(unreachable(URI{}, "", err)) == homeward.Timeout {
				t.Fatal("the old connection is still open")
			}
			// … and the name is gone for good.
			if _, err := Dial(t.Context(), ClientOptions{URI: r.uri("web01-g1")}); homeward.KindOf(err) != homeward.NotFound {
				t.Errorf("a new connection to the old name: %v", err)
			}
			if err := r.Add(Export{Name: "web01-g1", Disk: d}); homeward.KindOf(err) != homeward.Fenced {
				t.Errorf("the old name could be added again: %v", err)
			}
			if after := d.touched.Load(); after != before {
				t.Errorf("%d requests touched the disk after Withdraw", after-before)
			}
			if err := r.Withdraw(t.Context(), "web01-g1", true); err != nil {
				t.Errorf("withdrawing again: %v", err)
			}
		})
	}
}

// TestWithdraw_UnderLoad withdraws while clients write as fast as they can, and
// hands the disk to somebody else.
func TestWithdraw_UnderLoad(t *testing.T) {
	d := &watched{Memory: block.NewMemory(1 << 20)}
	r := serve(t, ServerOptions{}, Export{Name: "g1", Disk: d, MultiConn: true})
	var writers sync.WaitGroup
	for range 3 {
		c := connect(t, r.uri("g1"))
		writers.Go(func() {
			for {
				if _, err := c.WriteAt(make([]byte, 4096), 0); err != nil {
					if k := homeward.KindOf(err); k != homeward.NotFound {
						t.Errorf("%v", err)
					}
					return
				}
			}
		})
	}
	for d.touched.Load() < 100 {
		if _, err := d.ReadAt(make([]byte, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Withdraw(t.Context(), "g1", true); err != nil {
		t.Fatal(err)
	}
	before := d.touched.Load()
	writers.Wait()
	if after := d.touched.Load(); after != before {
		t.Errorf("%d requests after Withdraw", after-before)
	}
}

// TestWithdraw_ClientTakesNoAnswers: a stopped client must not hold up a graceful end.
func TestWithdraw_ClientTakesNoAnswers(t *testing.T) {
	d := block.NewMemory(8 << 20)
	r := serve(t, ServerOptions{}, Export{Name: "g1", Disk: d})
	c := dialPlain(t, r.socket, "g1")
	c.read(10)
	for range 16 {
		b := make([]byte, requestSize)
		request{cmd: cmdRead, n: 4 << 20}.put(b)
		c.write(b)
	}
	c.read(1) // answers are under way and stuck
	if err := r.Withdraw(t.Context(), "g1", false); err != nil {
		t.Fatal(err)
	}
}

func TestWithdraw_TimeoutSaysSo(t *testing.T) {
	d := &watched{Memory: block.NewMemory(1 << 20), entered: make(chan struct{}, 1), hold: make(chan struct{})}
	r := serve(t, ServerOptions{}, Export{Name: "g1", Disk: d})
	c := dialPlain(t, r.socket, "g1")
	c.read(10)
	c.put(0)
	<-d.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Withdraw(ctx, "g1", true); homeward.KindOf(err) != homeward.Timeout {
		t.Errorf("%v", err)
	}
	close(d.hold)
	if err := r.Withdraw(t.Context(), "g1", true); err != nil {
		t.Error(err)
	}
	if err := r.Withdraw(t.Context(), "never", true); homeward.KindOf(err) != homeward.NotFound {
		t.Error(err)
	}
}

func TestExclusive(t *testing.T) {
	d := &watched{Memory: block.NewMemory(1 << 20), entered: make(chan struct{}, 1), hold: make(chan struct{})}
	r := serve(t, ServerOptions{}, Export{Name: "x", Disk: d, Exclusive: true})
	first := dialPlain(t, r.socket, "x")
	first.read(10)
	first.put(0)
	<-d.entered
	_, err := Dial(t.Context(), ClientOptions{URI: r.uri("x")})
	if homeward.KindOf(err) != homeward.InUse {
		t.Fatalf("second client: %v", err)
	}
	// The client dies with a write on the disk: nobody may enter before that is done.
	if err := first.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = Dial(t.Context(), ClientOptions{URI: r.uri("x")}); homeward.KindOf(err) != homeward.InUse {
		t.Fatalf("newcomer while an old write is on the disk: %v", err)
	}
	close(d.hold)
	for {
		c, err := Dial(t.Context(), ClientOptions{URI: r.uri("x")})
		if err == nil {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if homeward.KindOf(err) != homeward.InUse {
			t.Fatal(err)
		}
	}
}

func TestAdd_Refuses(t *testing.T) {
	d := block.NewMemory(512)
	s := NewServer(ServerOptions{})
	for _, e := range []Export{
		{Disk: d}, {Name: "a\n", Disk: d}, {Name: "a"}, {Name: "a", Disk: d, Exclusive: true, MultiConn: true},
		{Name: "a", Disk: d, Contexts: map[string]Context{"base:allocation": striped{1}}},
		{Name: "a", Disk: d, Contexts: map[string]Context{"dirty": striped{1}}},
	} {
		if err := s.Add(e); homeward.KindOf(err) != homeward.Invalid || homeward.RemedyOf(err) == "" {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if err := s.Add(Export{Name: "a", Disk: d}); err != nil {
		t.Error(err)
	}
	if err := s.Add(Export{Name: "a", Disk: d}); homeward.KindOf(err) != homeward.Exists {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Add(Export{Name: "b", Disk: d}); homeward.KindOf(err) != homeward.Unavailable {
		t.Error(err)
	}
}
