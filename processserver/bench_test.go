package processserver

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// BenchmarkServer_Put sends deltas of 1 MiB of incompressible content through a
// server on the real disk to a twin, four in flight, every one applied.
func BenchmarkServer_Put(b *testing.B) {
	for _, compression := range []string{"none", "s2", "zstd"} {
		b.Run(compression, func(b *testing.B) {
			g := homeward.Generation{Number: 1, ID: homeward.NewID()}
			source := shiptest.NewSource("web01", homeward.Position{}.Base(g), shiptest.Seed(b))
			twin := shiptest.NewTwin()
			if err := twin.Prepare("web01", g, source.At()); err != nil {
				b.Fatal(err)
			}
			s, err := Open(b.Context(), Config{Dir: b.TempDir(), SpoolBytes: 1 << 30, FS: durable.OS(),
				Log: slog.New(slog.DiscardHandler), Dial: func(string) homeward.Sink { return twin }})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Prepare(b.Context(), homeward.RouteRequest{Item: "web01", Generation: g, Target: targetURL, Compression: compression}); err != nil {
				b.Fatal(err)
			}
			deltas := make([]shiptest.Delta, b.N)
			for i := range deltas {
				deltas[i] = source.NextOfSize(b, 256)
			}
			b.SetBytes(1 << 20)
			b.ResetTimer()
			var senders sync.WaitGroup
			next := make(chan shiptest.Delta)
			for range window {
				senders.Go(func() {
					for d := range next {
						if _, err := s.Put(b.Context(), "web01", bytes.NewReader(d.Bytes)); err != nil {
							b.Error(fmt.Errorf("put: %w", err))
						}
					}
				})
			}
			for _, d := range deltas {
				next <- d
			}
			close(next)
			senders.Wait()
		})
	}
}
