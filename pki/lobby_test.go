package pki

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// from is a connection that seems to come from an address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.addr), Port: 1} }

// pipes is a listener whose connections the test makes.
type pipes struct{ next chan net.Conn }

func (p pipes) Accept() (net.Conn, error) { return <-p.next, nil }
func (p pipes) Close() error              { return nil }
func (p pipes) Addr() net.Addr            { return &net.TCPAddr{} }

// Whoever fills the lobby makes room with his own connections; those who have proven
// themselves are not touched, and who knocks gets in.
func TestLobby(t *testing.T) {
	ln := pipes{make(chan net.Conn, 1)}
	lobby := NewLobby(ln)
	knock := func(addr string) (far, near net.Conn) {
		t.Helper()
		far, near = net.Pipe()
		ln.next <- from{near, addr}
		near, err := lobby.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = far.Close(), near.Close() })
		return far, near
	}
	open := func(far net.Conn) bool {
		if err := far.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			return false
		}
		_, err := far.Read(make([]byte, 1))
		return !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe)
	}
	known, seated := knock("10.0.0.1")
	Seat(seated)
	Seat(seated)
	other, _ := knock("10.0.0.2")
	var flood []net.Conn
	for range 2 * MaxLobby {
		far, _ := knock("10.0.0.3")
		flood = append(flood, far)
	}
	late, _ := knock("10.0.0.4")
	if !open(known) || !open(other) || !open(late) {
		t.Error("a flood of another source closed somebody's connection")
	}
	still := 0
	for _, far := range flood {
		if open(far) {
			still++
		}
	}
	if still != MaxLobby-2 { // other and late
		t.Errorf("%d of the flood are open", still)
	}
	if !open(flood[len(flood)-1]) || open(flood[0]) {
		t.Error("the newest makes room for the oldest")
	}
}

func TestSource(t *testing.T) {
	for from, want := range map[string]string{"10.1.2.3": "10.1.2.3", "2001:db8::1:2": "2001:db8::/64", "fe80::1%eth0": "fe80::/64", "@": "@"} {
		if got := Source(from); got != want {
			t.Errorf("%s: %s", from, got)
		}
	}
}
