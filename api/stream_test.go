package api

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// dial connects as whoever writes HTTP by hand.
func (f *face) dial() net.Conn {
	f.t.Helper()
	transport := f.client(vault.Reader).http.Transport.(*http.Transport)
	raw, err := net.Dial("tcp", strings.TrimPrefix(f.url, "https://"))
	must(f.t, err)
	must(f.t, raw.(*net.TCPConn).SetReadBuffer(4<<10))
	conn := tlsClient(raw, transport.TLSClientConfig)
	f.t.Cleanup(func() { conn.Close() })
	return conn
}

// flood is a vault in which much happens, told in many words.
type flood struct{ vault.Vault }

func (flood) Watch(ctx context.Context, req vault.WatchRequest) iter.Seq2[vault.Event, error] {
	return func(yield func(vault.Event, error) bool) {
		if len(req.Kinds) > 0 { // the server's own metrics
			<-ctx.Done()
			return
		}
		subject := strings.Repeat("x", 256<<10)
		for id := int64(1); ctx.Err() == nil && yield(vault.Event{ID: id, Kind: "item", Subject: subject}, nil); id++ {
		}
	}
}

// TestStream_HangingClient: one that stops reading is cut off, and others never
// notice.
func TestStream_HangingClient(t *testing.T) {
	f := serve(t, flood{}, func(o *ServerOptions) { o.Limits.StreamWrite = 2 * time.Second })
	hanging := f.dial()
	fmt.Fprintf(hanging, "GET /v1/events HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer %s\r\n\r\n", f.secret[vault.Reader])
	eventually(t, "the stream to open", func() bool { return len(f.streams) == 1 })
	last, more := int64(0), 10
	for e, err := range f.client(vault.Reader).Watch(t.Context(), vault.WatchRequest{}) {
		must(t, err)
		if e.ID != last+1 {
			t.Fatalf("event %d comes after %d", e.ID, last)
		}
		last = e.ID
		if len(f.streams) == 1 { // the other one is gone
			if more--; more == 0 {
				break
			}
		}
	}
	eventually(t, "all places to be free", func() bool { return len(f.streams) == 0 })
}

// TestStream_TooMany: one more than there may be is told so, until a place is free.
func TestStream_TooMany(t *testing.T) {
	f, _ := memory(t, func(o *ServerOptions) { o.Limits.Streams = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, err := range f.client(vault.Reader).Watch(ctx, vault.WatchRequest{}) {
			t.Errorf("nothing happens, and it is told: %v", err)
		}
	})
	eventually(t, "the stream to open", func() bool { return len(f.streams) == 1 })
	for _, err := range f.client(vault.Reader).Watch(t.Context(), vault.WatchRequest{}) {
		if homeward.KindOf(err) != homeward.Busy {
			t.Errorf("a second stream: %v", err)
		}
	}
	if _, err := f.client(vault.Reader).Status(t.Context()); err != nil {
		t.Errorf("a request beside the streams: %v", err)
	}
	cancel()
	wg.Wait()
	eventually(t, "its place to be free", func() bool { return len(f.streams) == 0 })
}

// TestStream_Wire reads what a browser would.
func TestStream_Wire(t *testing.T) {
	f, m := memory(t, func(o *ServerOptions) { o.Limits.Heartbeat = 10 * time.Millisecond })
	c := f.client(vault.Reader)
	req, err := http.NewRequestWithContext(t.Context(), "GET", f.url+"/v1/events?kinds=site,policy&after=1", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+f.secret[vault.Reader])
	resp, err := c.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("type %s", resp.Header.Get("Content-Type"))
	}
	_, err = m.PutSite(vault.WithCaller(t.Context(), vault.Caller{Access: vault.Administrator}), vault.SiteRequest{Name: "seen"})
	must(t, err)
	lines := bufio.NewScanner(resp.Body)
	var id string
	for alive, told := false, false; !alive || !told; {
		if !lines.Scan() {
			t.Fatalf("it ended: %v", lines.Err())
		}
		line := lines.Text()
		alive = alive || line == ": alive"
		if strings.HasPrefix(line, "id: ") {
			id = line[4:]
		}
		if strings.HasPrefix(line, "data: ") {
			if !strings.Contains(line, `"id":`+id+",") || strings.Contains(line, `"kind":"node"`) {
				t.Errorf("id %s with %s", id, line)
			}
			told = told || strings.Contains(line, `"subject":"seen"`)
		}
	}
}

// breaker lets connections through until it is told to break them all.
type breaker struct {
	net.Listener
	to    string
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newBreaker(t *testing.T, to string) *breaker {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b := &breaker{Listener: l, to: to}
	b.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			b.mu.Lock()
			b.conns = append(b.conns, in, out)
			b.mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				b.wg.Go(func() {
					buf := make([]byte, 4096)
					for {
						n, err := way[0].Read(buf)
						if err == nil {
							_, err = way[1].Write(buf[:n])
						}
						if err != nil {
							way[0].Close()
							way[1].Close()
							return
						}
					}
				})
			}
		}
	})
	t.Cleanup(func() { l.Close(); b.cut(); b.wg.Wait() })
	return b
}

func (b *breaker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
	b.conns = nil
}

// TestStream_Reconnects: what happens while the stream is broken is told when it is
// whole again, once.
func TestStream_Reconnects(t *testing.T) {
	f, m := memory(t)
	b := newBreaker(t, strings.TrimPrefix(f.url, "https://"))
	c := f.client(vault.Reader, func(o *ClientOptions) { o.URL = "https://" + b.Addr().String() })
	admin := vault.WithCaller(t.Context(), vault.Caller{Access: vault.Administrator})
	put := func(name string) {
		_, err := m.PutSite(admin, vault.SiteRequest{Name: name})
		must(t, err)
	}
	c.wait = func(ctx context.Context, _ int) error { put("while-broken"); return ctx.Err() }
	put("first")
	var told []string
	for e, err := range c.Watch(t.Context(), vault.WatchRequest{After: 1, Kinds: []string{"site"}}) {
		must(t, err)
		told = append(told, e.Subject)
		if e.Subject == "first" {
			b.cut()
		}
		if e.Subject == "while-broken" {
			put("last")
		}
		if e.Subject == "last" {
			break
		}
	}
	if want := []string{"first", "while-broken", "last"}; len(told) < 3 || !slices.Equal(told[len(told)-3:], want) {
		t.Errorf("told %v, want %v at the end", told, want)
	}
}

// TestStream_GivesUp: one that was told nothing yet cannot know what it missed.
func TestStream_GivesUp(t *testing.T) {
	f, m := memory(t)
	b := newBreaker(t, strings.TrimPrefix(f.url, "https://"))
	c := atOnce(f.client(vault.Reader, func(o *ClientOptions) { o.URL = "https://" + b.Addr().String() }))
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, err := range c.Watch(t.Context(), vault.WatchRequest{}) {
			if homeward.KindOf(err) != homeward.Unavailable || homeward.RemedyOf(err) == "" {
				t.Errorf("%v", err)
			}
		}
	})
	eventually(t, "the stream to open", func() bool { return len(f.streams) == 1 })
	// Again and again: cut before the answer has come, the request is simply sent anew.
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	eventually(t, "the client to give up", func() bool {
		b.cut()
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	// And an id that is not kept any more is told as such.
	m.Keep(2)
	admin := vault.WithCaller(t.Context(), vault.Caller{Access: vault.Administrator})
	for range 5 {
		_, err := m.PutSite(admin, vault.SiteRequest{Name: "x"})
		must(t, err)
	}
	for _, err := range f.client(vault.Reader).Watch(t.Context(), vault.WatchRequest{After: 1}) {
		if homeward.KindOf(err) != homeward.NotFound {
			t.Errorf("%v", err)
		}
	}
}
