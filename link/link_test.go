package link

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo serves back what it gets, until the test ends.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				if _, err := io.Copy(c, c); err == nil {
					c.(*net.TCPConn).CloseWrite()
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

func open(t *testing.T, o Options) *Link {
	t.Helper()
	l, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l *Link) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func TestLink_CarriesEverything(t *testing.T) {
	for name, o := range map[string]Options{
		"plain":  {},
		"shaped": {BytesPerSecond: 20 << 20, Delay: 5 * time.Millisecond, Jitter: 3 * time.Millisecond, Queue: chunkSize},
	} {
		t.Run(name, func(t *testing.T) {
			o.Target = echo(t)
			l := open(t, o)
			data := make([]byte, 1<<20)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			c := dial(t, l)
			var sent sync.WaitGroup
			sent.Go(func() { c.Write(data); c.CloseWrite() })
			got, err := io.ReadAll(c)
			sent.Wait()
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes back of %d, %v", len(got), len(data), err)
			}
			if up, down := l.Bytes(); up != int64(len(data)) || down != up {
				t.Errorf("counted %d up and %d down", up, down)
			}
		})
	}
}

// The lane's arithmetic, by a clock of the test's own.
func TestLane_Rate(t *testing.T) {
	var w lane
	start := time.Unix(0, 0)
	for i := 1; i <= 10; i++ {
		if got, want := w.send(start, 100, 1000), start.Add(time.Duration(i)*100*time.Millisecond); !got.Equal(want) {
			t.Fatalf("parcel %d is sent at %v, want %v", i, got, want)
		}
	}
	later := start.Add(time.Hour)
	if got, want := w.send(later, 100, 1000), later.Add(100*time.Millisecond); !got.Equal(want) {
		t.Errorf("an idle lane saves up: %v, want %v", got, want)
	}
	if got := w.send(later, 1<<30, 0); !got.Equal(later) {
		t.Errorf("no rate, and yet %v", got)
	}
}

func ping(c net.Conn) error {
	if _, err := c.Write([]byte{7}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// dialAndPing is for links that do not answer: the reset may come before dial returns.
func dialAndPing(l *Link) error {
	c, err := net.Dial("tcp", l.Addr())
	if err != nil {
		return err
	}
	defer c.Close()
	return ping(c)
}

func TestLink_CutAndRestore(t *testing.T) {
	l := open(t, Options{Target: echo(t)})
	c := dial(t, l)
	if err := ping(c); err != nil {
		t.Fatal(err)
	}
	l.Cut()
	if err := ping(c); err == nil {
		t.Error("a cut link still answers")
	}
	if err := dialAndPing(l); err == nil {
		t.Error("a cut link takes new connections")
	}
	l.Restore()
	if err := ping(dial(t, l)); err != nil {
		t.Errorf("restored: %v", err)
	}
}

func TestLink_HangAndRestore(t *testing.T) {
	l := open(t, Options{Target: echo(t)})
	c := dial(t, l)
	if err := ping(c); err != nil {
		t.Fatal(err)
	}
	l.Hang()
	late := dial(t, l) // a connection made meanwhile waits too
	done := make(chan error, 2)
	go func() { done <- ping(c) }()
	go func() { done <- ping(late) }()
	select {
	case err := <-done:
		t.Fatalf("a hanging link let something through: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.Restore()
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("restored: %v", err)
		}
	}
}

func TestLink_CloseWhileHanging(t *testing.T) {
	l := open(t, Options{Target: echo(t)})
	c := dial(t, l)
	if err := ping(c); err != nil {
		t.Fatal(err)
	}
	l.Hang()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := ping(c); err == nil {
		t.Error("a closed link still answers")
	}
}

func TestLink_TargetGone(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if err := dialAndPing(open(t, Options{Target: gone.Addr().String()})); err == nil {
		t.Error("no target, and yet an answer")
	}
}

func TestListen_BadOptions(t *testing.T) {
	for _, o := range []Options{{}, {Target: "x", BytesPerSecond: -1}, {Target: "x", Delay: -1}, {Target: "x", Jitter: time.Hour}, {Target: "x", Queue: 5}} {
		if _, err := Listen(context.Background(), o); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
