package nbd

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/block"
)

// ends requires that the server hangs up on p.
func (p *plain) ends() {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, p.conn); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			p.t.Error("the server keeps the connection")
		}
	}
}

func TestLimits_Handshake(t *testing.T) {
	r := serve(t, ServerOptions{HandshakeTimeout: 50 * time.Millisecond}, Export{Name: "d", Disk: block.NewMemory(512)})
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	(&plain{t, conn}).ends()
}

func TestLimits_Connections(t *testing.T) {
	r := serve(t, ServerOptions{MaxConnections: 1}, Export{Name: "d", Disk: block.NewMemory(512)})
	first := dialPlain(t, r.socket, "d")
	first.read(10)
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	(&plain{t, conn}).ends()
}

func TestLimits_OptionTooLong(t *testing.T) {
	out := converseWith(t, bytes.Join([][]byte{be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes),
		option(optInfo, make([]byte, maxOptionData+1)...), option(optAbort)}, nil))
	replies := out[18:]
	if len(replies) < optReplySize || be.Uint32(replies[12:]) != repErrTooBig {
		t.Errorf("answered %x", replies)
	}
}

// TestLimits_Stall: a client that keeps room of the budget without going on is cut.
func TestLimits_Stall(t *testing.T) {
	t.Run("half a write", func(t *testing.T) {
		r := serve(t, ServerOptions{StallTimeout: 30 * time.Millisecond}, Export{Name: "d", Disk: block.NewMemory(1 << 20)})
		p := dialPlain(t, r.socket, "d")
		p.read(10)
		p.write(wire(request{cmd: cmdWrite, n: 4096}, 1, 2, 3))
		p.ends()
	})
	t.Run("answers not taken", func(t *testing.T) {
		r := serve(t, ServerOptions{StallTimeout: 30 * time.Millisecond}, Export{Name: "d", Disk: block.NewMemory(32 << 20)})
		p := dialPlain(t, r.socket, "d")
		p.read(10)
		p.write(wire(request{cmd: cmdRead, n: 32 << 20}))
		for e, err := r.lookup("d"); ; { // until the session is gone
			if err != nil {
				t.Fatal(err)
			}
			e.mu.Lock()
			n := len(e.sessions)
			e.mu.Unlock()
			if n == 0 {
				return
			}
			time.Sleep(time.Millisecond) // sessions end without telling anybody
		}
	})
	t.Run("idle is fine", func(t *testing.T) {
		r := serve(t, ServerOptions{StallTimeout: time.Millisecond}, Export{Name: "d", Disk: block.NewMemory(1 << 20)})
		p := dialPlain(t, r.socket, "d")
		p.read(10)
		time.Sleep(20 * time.Millisecond) // idling is what is tested
		p.write(wire(request{cmd: cmdFlush, cookie: 7}))
		if got := p.read(simpleSize); be.Uint64(got[8:]) != 7 {
			t.Errorf("answered %x", got)
		}
	})
}

// TestLimits_Budget: many large requests at once wait for room and all complete.
func TestLimits_Budget(t *testing.T) {
	d := block.NewMemory(MaxRequest)
	r := serve(t, ServerOptions{MaxRequests: 2}, Export{Name: "d", Disk: d})
	p := dialPlain(t, r.socket, "d")
	p.read(10)
	const n = 12
	for i := range uint64(n) {
		p.write(wire(request{cmd: cmdRead, cookie: i, n: MaxRequest}))
	}
	seen := map[uint64]bool{}
	for range n {
		head := p.read(simpleSize)
		if be.Uint32(head[4:]) != 0 {
			t.Fatalf("answered %x", head)
		}
		seen[be.Uint64(head[8:])] = true
		p.read(MaxRequest)
	}
	if len(seen) != n {
		t.Errorf("%d of %d requests answered", len(seen), n)
	}
	p.write(wire(request{cmd: cmdRead, cookie: 99, n: MaxRequest + 1}))
	if head := p.read(simpleSize); errno(be.Uint32(head[4:])) != errInval {
		t.Errorf("too long a read is answered %x", head)
	}
}

func TestParseURI(t *testing.T) {
	for text, want := range map[string]URI{
		"nbd://host/x":                {Network: "tcp", Address: "host:10809", Export: "x"},
		"nbd://host:7":                {Network: "tcp", Address: "host:7"},
		"nbd:///x":                    {Network: "tcp", Address: "localhost:10809", Export: "x"},
		"nbds://alice@[::1]/a%20b":    {Network: "tcp", Address: "[::1]:10809", Export: "a b", TLS: true, User: "alice"},
		"nbd+unix:///e/f?socket=/t/s": {Network: "unix", Address: "/t/s", Export: "e/f"},
		"nbds+unix:///?socket=/t/s":   {Network: "unix", Address: "/t/s", TLS: true},
	} {
		if got, err := ParseURI(text); err != nil || got != want {
			t.Errorf("%s is %+v (%v)", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "http://h/x", "nbd+unix:///x", "nbd+unix://h/x?socket=s", "nbd://h/x?socket=s", "nbd+vsock://1/x", "nbdx://h"} {
		if got, err := ParseURI(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
}
