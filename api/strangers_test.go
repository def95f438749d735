package api

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// However many connections say nothing, and for however long they might: callers are
// answered, and those that are known stay connected.
func TestServe_StrangersShutNobodyOut(t *testing.T) {
	f, _ := memory(t, func(o *ServerOptions) { o.Limits = Limits{Connections: 2, Header: time.Hour} })
	before := f.client(vault.Reader)
	if _, err := before.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 * pki.MaxLobby {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if _, err := f.client(vault.Operator).Status(t.Context()); err != nil {
		t.Errorf("a new caller: %v", err)
	}
	if _, err := before.Status(t.Context()); err != nil {
		t.Errorf("a known caller: %v", err)
	}
}
