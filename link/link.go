// Package link is a network link in user space: a TCP proxy with a rate, a
// delay, jitter, and a switch that cuts the cable or lets everything hang. The
// demo, the benchmarks and the tests run their roles over it; it is no part of a
// production path.
//
// The rate is that of the link, shared by all connections, for each direction by
// itself; the delay is one way, in each direction. Bytes under way wait in a
// queue per connection and direction, of at most Options.Queue bytes; when it is
// full the sender feels it as TCP back-pressure.
package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
)

// Options describe a link. Only Target is needed.
type Options struct {
	Listen         string        // address to listen on; default "127.0.0.1:0"
	Target         string        // address that connections are forwarded to
	BytesPerSecond int64         // in each direction; 0: as fast as it goes
	Delay          time.Duration // one way, in each direction
	Jitter         time.Duration // up to this much more, at random; bytes never overtake each other
	Queue          int64         // most bytes under way, per connection and direction; 0: 1 MiB, or what Delay and BytesPerSecond hold if that is more, at most 64 MiB
}

// Link is a running link. All methods may be called concurrently.
type Link struct {
	options  Options
	listener net.Listener
	up, down lane
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	cut   bool
	hang  chan struct{} // not nil while the link hangs; closed by Restore
}

// lane is one direction of the link.
type lane struct {
	bytes atomic.Int64
	mu    sync.Mutex
	free  time.Time // when the lane has sent what was given to it
}

// Listen starts a link; it ends with Close or with ctx.
//
// Errors: Invalid for options out of range, else what listening says.
func Listen(ctx context.Context, o Options) (*Link, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, homeward.Errorf("start link", homeward.Unavailable, o.Listen, "give a free local address", "%w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Link{options: o, listener: listener, cancel: cancel, conns: map[net.Conn]struct{}{}}
	l.running.Go(func() {
		<-ctx.Done()
		_ = listener.Close() // it served; nothing is lost
		l.drop()
	})
	l.running.Go(func() { l.accept(ctx) })
	return l, nil
}

func (o *Options) complete() error {
	bad := func(field, fix string, value any) error {
		return homeward.Errorf("start link", homeward.Invalid, field, fix, "%v", value)
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Queue == 0 {
		o.Queue = min(max(1<<20, int64(float64(o.BytesPerSecond)*(o.Delay+o.Jitter).Seconds())), 64<<20)
	}
	switch {
	case o.Target == "":
		return bad("target", "give the address to forward to, host:port", "empty")
	case o.BytesPerSecond < 0:
		return bad("bytes_per_second", "give 0 or more", o.BytesPerSecond)
	case o.Delay < 0 || o.Delay > time.Minute:
		return bad("delay", "give 0 to 1m", o.Delay)
	case o.Jitter < 0 || o.Jitter > time.Minute:
		return bad("jitter", "give 0 to 1m", o.Jitter)
	case o.Queue < chunkSize || o.Queue > 64<<20:
		return bad("queue", "give 16 KiB to 64 MiB", o.Queue)
	}
	return nil
}

// Addr is where to connect.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Bytes are those delivered so far: up from who connects to the target, down back.
func (l *Link) Bytes() (up, down int64) { return l.up.bytes.Load(), l.down.bytes.Load() }

// Cut breaks the cable: connections are reset and new ones refused, until Restore.
func (l *Link) Cut() {
	l.mu.Lock()
	l.cut = true
	l.mu.Unlock()
	l.drop()
}

// Hang lets everything stand still, without a word to either end, until Restore:
// as when packets vanish, or the far side is stopped.
func (l *Link) Hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hang == nil {
		l.hang = make(chan struct{})
	}
}

// Restore ends Cut and Hang.
func (l *Link) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
	if l.hang != nil {
		close(l.hang)
		l.hang = nil
	}
}

// Close ends the link and returns when all its goroutines have ended.
func (l *Link) Close() error {
	l.cancel()
	l.running.Wait()
	return nil
}

func (l *Link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		reset(c)
	}
}

// reset closes a connection so that the far side sees an error, not an end.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // if it fails, the far side sees an end instead
	}
	_ = c.Close() // given up on purpose
}

// keep remembers a connection for Cut and Close; false when it is too late.
func (l *Link) keep(ctx context.Context, c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || ctx.Err() != nil {
		reset(c)
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Link) forget(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close() // both directions are done
}

func (l *Link) accept(ctx context.Context) {
	for {
		c, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, say: the peer will try again
			if !pause(ctx, 10*time.Millisecond) {
				return
			}
			continue
		}
		l.running.Go(func() { l.carry(ctx, c) })
	}
}

// carry moves the bytes of one connection until both directions have ended.
func (l *Link) carry(ctx context.Context, near net.Conn) {
	if !l.keep(ctx, near) {
		return
	}
	defer l.forget(near)
	if !l.flowing(ctx) {
		return
	}
	far, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", l.options.Target)
	if err != nil {
		reset(near) // as the target would have
		return
	}
	if !l.keep(ctx, far) {
		return
	}
	defer l.forget(far)
	var both sync.WaitGroup
	both.Go(func() { l.pump(ctx, &l.up, near, far) })
	both.Go(func() { l.pump(ctx, &l.down, far, near) })
	both.Wait()
}

// flowing waits while the link hangs; false when it ended.
func (l *Link) flowing(ctx context.Context) bool {
	for {
		l.mu.Lock()
		hang := l.hang
		l.mu.Unlock()
		if hang == nil {
			return ctx.Err() == nil
		}
		select {
		case <-hang:
		case <-ctx.Done():
			return false
		}
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
