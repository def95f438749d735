package enrol

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/pki"
)

// A node is let in while connections that say nothing are still open, and not only when
// their time is over: they fill the lobby, and the newest of them makes no way.
func TestSplit_ASilentFloodDelaysNobody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	enrolment, rest := Split(ln)
	defer enrolment.Close()
	defer rest.Close()
	var newest net.Conn
	for range 2 * pki.MaxLobby {
		if newest, err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer newest.Close()
	}
	node, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	shaken := make(chan struct{})
	go func() {
		defer close(shaken)
		_ = tls.Client(node, &tls.Config{InsecureSkipVerify: true}).Handshake() // nobody answers it
	}()
	conn, err := rest.Accept()
	if err != nil {
		t.Fatal(err)
	}
	pki.Seat(conn)
	if err := newest.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := newest.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the node had to wait until those who say nothing were gone: %v", err)
	}
	_ = conn.Close()
	<-shaken
}
