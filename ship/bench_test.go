package ship_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/ship"
)

// BenchmarkClient_Put carries bodies of 8 MiB over mutual TLS 1.3 on the loopback
// to a sink that reads and forgets them, four at once.
func BenchmarkClient_Put(b *testing.B) {
	fs := powerloss.New()
	a, err := pki.CreateAuthority(fs, "/ca", "test")
	if err != nil {
		b.Fatal(err)
	}
	target := identity(b, a, fs, pki.Request{Peer: pki.Peer{Role: pki.MasterTarget, Name: "target"}}, "/target")
	relay := identity(b, a, fs, pki.Request{Peer: pki.Peer{Role: pki.ProcessServer, Name: "relay"}}, "/relay")
	sink := sinkFunc(func(_ context.Context, _ homeward.ItemID, body io.Reader) (homeward.Ack, error) {
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, make([]byte, 64<<10))
		return homeward.Ack{Applied: true}, err
	})
	url := "https://" + serve(b, ship.NewHandler(sink, nil), target.ServerTLS(pki.ProcessServer))
	c := dial(b, url, ship.ClientOptions{TLS: relay.ClientTLS(pki.MasterTarget)})
	body := bytes.Repeat([]byte("x"), 8<<20)
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	var senders sync.WaitGroup
	turns := make(chan struct{})
	for range 4 {
		senders.Go(func() {
			for range turns {
				if _, err := c.Put(b.Context(), "web01", bytes.NewReader(body)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		turns <- struct{}{}
	}
	close(turns)
	senders.Wait()
}
