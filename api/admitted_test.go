package api

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Who has no token any more sees nothing any more, on a stream that was opened before too.
func TestStream_EndsWithItsToken(t *testing.T) {
	f, m := memory(t, func(o *ServerOptions) { o.Limits.Heartbeat = 20 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		var last error
		for _, err := range f.client(vault.Reader).Watch(ctx, vault.WatchRequest{}) {
			last = err
		}
		ended <- last
	}()
	eventually(t, "the stream to open", func() bool { return len(f.streams) == 1 })
	admin := vault.WithCaller(t.Context(), vault.Caller{Name: "test", Access: vault.Administrator})
	must(t, m.DeleteToken(admin, string(vault.Reader)))
	if err := <-ended; homeward.KindOf(err) != homeward.Unauthentic {
		t.Errorf("it ended with %v", err)
	}
}

// asked counts how often its status was asked for.
type asked struct {
	vault.Vault
	times atomic.Int64
}

func (a *asked) Status(ctx context.Context) (vault.Status, error) {
	a.times.Add(1)
	return a.Vault.Status(ctx)
}

// Anybody may ask whether the vault is ready; what that costs is not for anybody to say.
func TestReadiness_IsAskedOnceForMany(t *testing.T) {
	_, m := memory(t)
	count := &asked{Vault: m}
	f := serve(t, count)
	var wg sync.WaitGroup
	began := time.Now()
	for range 50 {
		wg.Go(func() {
			if resp, _ := f.raw("", "GET", "/readyz", ""); resp.StatusCode != 200 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if most := int64(time.Since(began)/readyFor) + 1; count.times.Load() > most {
		t.Errorf("it was found out %d times", count.times.Load())
	}
}
