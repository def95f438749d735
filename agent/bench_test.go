package agent

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/nbd"
)

// nowhere is a sink that verifies nothing and keeps nothing, to measure the agent alone.
type nowhere struct {
	at  homeward.Position
	gen homeward.Generation
}

func (n *nowhere) Put(_ context.Context, _ homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return homeward.Ack{}, err
	}
	r, err := delta.Open(strings.NewReader(string(data)), int64(len(data)))
	if err != nil {
		return homeward.Ack{}, err
	}
	return homeward.Ack{Position: r.Header().Position(r.Trailer()), Applied: true}, nil
}

func (n *nowhere) Standing(context.Context, homeward.StandingRequest) (homeward.Standing, error) {
	return homeward.Standing{Generation: n.gen, Known: true, Applied: n.at, Spooled: n.at}, nil
}

// BenchmarkInitialSync ships a disk of incompressible data.
func BenchmarkInitialSync(b *testing.B) {
	const size = 512 << 20
	dir := b.TempDir()
	live, err := os.MkdirTemp("/dev/shm", "homeward-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(live)
	path := filepath.Join(dir, "disk.raw")
	data := make([]byte, size)
	chacha := rand.NewChaCha8([32]byte{1})
	_, _ = chacha.Read(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		g := homeward.Generation{}.Next()
		base := homeward.Position{}.Base(g)
		cfg := Config{Dir: filepath.Join(dir, g.ID.String()), LiveDir: filepath.Join(live, g.ID.String()), SocketDir: dir,
			Openers: block.LocalOpeners(), Dial: func(string) homeward.Sink { return &nowhere{at: base, gen: g} }}
		a, err := Open(context.Background(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		req := homeward.CaptureRequest{Generation: g, Base: base, InitialAll: true, Sink: "https://nowhere:1", Disks: []string{"file:" + path},
			Machine: homeward.Machine{Item: "web01", Disks: []homeward.Disk{{ID: "d", Size: size}}}}
		if _, err := a.Prepare(context.Background(), req); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err := a.Cut(context.Background(), homeward.CutRequest{Item: "web01", Kind: homeward.MarkCrash}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/sync")
		if err := a.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResume opens an agent with one machine of a sparse TiB, some of it dirty.
func BenchmarkResume(b *testing.B) {
	const size = 1 << 40
	dir := b.TempDir()
	live, err := os.MkdirTemp("/dev/shm", "homeward-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(live)
	path := filepath.Join(dir, "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		b.Fatal(err)
	}
	g := homeward.Generation{}.Next()
	base := homeward.Position{}.Base(g)
	cfg := Config{Dir: filepath.Join(dir, "state"), LiveDir: live, SocketDir: dir, Openers: block.LocalOpeners(),
		Dial: func(string) homeward.Sink { return &nowhere{at: base, gen: g} }}
	a, err := Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	m := block.NewMap(size / block.Size)
	for at := int64(0); at < m.Blocks(); at += 100_000 {
		m.Set(at, 1)
	}
	data, err := m.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	req := homeward.CaptureRequest{Generation: g, Base: base, Initial: []homeward.DiskChanges{{Disk: "d", Changed: data}}, Disks: []string{"file:" + path},
		Machine: homeward.Machine{Item: "web01", Disks: []homeward.Disk{{ID: "d", Size: size}}}}
	if _, err := a.Prepare(context.Background(), req); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := a.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if a, err = Open(context.Background(), cfg); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/resume")
	}
	req.Sink = "https://nowhere:1"
	if _, err := a.Prepare(context.Background(), req); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if _, err := a.Cut(context.Background(), homeward.CutRequest{Item: "web01", Kind: homeward.MarkCrash}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/cut")
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.Sys-mem.HeapReleased)/(1<<20), "MiB")
	if err := a.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUnderLoad writes random blocks as fast as the agent takes them, and
// tells how long cuts held them and how old the replica's state got.
func BenchmarkUnderLoad(b *testing.B) {
	const size, writers = 1 << 30, 8
	dir := b.TempDir()
	live, err := os.MkdirTemp("/dev/shm", "homeward-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(live)
	path := filepath.Join(dir, "disk.raw")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
	g := homeward.Generation{}.Next()
	base := homeward.Position{}.Base(g)
	a, err := Open(context.Background(), Config{Dir: filepath.Join(dir, "state"), LiveDir: live, SocketDir: dir, Openers: block.LocalOpeners(),
		Dial: func(string) homeward.Sink { return &nowhere{at: base, gen: g} }})
	if err != nil {
		b.Fatal(err)
	}
	req := homeward.CaptureRequest{Generation: g, Base: base, Sink: "https://nowhere:1", Disks: []string{"file:" + path},
		Policy:  homeward.Policy{MinInterval: 200 * time.Millisecond},
		Machine: homeward.Machine{Item: "web01", Disks: []homeward.Disk{{ID: "d", Size: size}}}}
	rep, err := a.Prepare(context.Background(), req)
	if err != nil {
		b.Fatal(err)
	}
	c, err := nbd.Dial(context.Background(), nbd.ClientOptions{URI: rep.Disks[0].URI})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	var todo atomic.Int64
	todo.Store(int64(b.N))
	b.ResetTimer()
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			p := make([]byte, block.Size)
			for todo.Add(-1) >= 0 {
				p[0]++
				if _, err := c.WriteAt(p, rng.Int64N(size/block.Size)*block.Size); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	oldest := time.Duration(0)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-tick.C:
			if rep, err = a.Report(context.Background(), homeward.ItemRequest{Item: "web01"}); err == nil && !rep.AppliedAt.IsZero() {
				oldest = max(oldest, time.Since(rep.AppliedAt))
			}
			continue
		case <-written:
		}
		tick.Stop()
		break
	}
	b.StopTimer()
	b.ReportMetric(float64(rep.HoldP99.Microseconds()), "µs/hold-p99")
	b.ReportMetric(float64(oldest.Milliseconds()), "ms/worst-age")
	if err := errors.Join(c.Close(), a.Close(context.Background())); err != nil {
		b.Fatal(err)
	}
}
