package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/recovery"
)

// Options are what a world is made of; the zero value is one machine of two disks.
type Options struct {
	Machines [][]int64 // by machine: sizes of its disks in bytes
	HTTP     bool      // deltas travel through handlers and clients over loopback
	Policy   homeward.Policy
	// Precopy is agent.Tuning.PrecopyBytes; 0: its default.
	Precopy int64
}

// World is two sites and what lies between them.
type World struct {
	Home, Away *Site
	Net        *Network
	Clock      Clock
	Items      []*recovery.Item

	t       testing.TB
	writes  writeCounter
	precopy int64
	history logbook

	background sync.WaitGroup
	ending     chan struct{}

	mu        sync.Mutex // guards what follows
	rng       *rand.Rand
	timelines map[string]*Timeline // by item and generation
	points    map[homeward.Position]snapshot
	failed    []error
}

// New makes a world that ends with the test. Machines are at home, not protected.
func New(t testing.TB, rng *rand.Rand, o Options) *World {
	t.Helper()
	if len(o.Machines) == 0 {
		o.Machines = [][]int64{{1<<20 + 3*SectorSize, 512 << 10}}
	}
	if o.Policy.MinInterval == 0 {
		o.Policy.MinInterval = 50 * time.Millisecond
	}
	dir, err := os.MkdirTemp("/dev/shm", "hw")
	if err != nil {
		t.Fatalf("the model needs a tmpfs at /dev/shm: %v", err)
	}
	w := &World{t: t, rng: rng, precopy: o.Precopy, ending: make(chan struct{}), timelines: map[string]*Timeline{}, points: map[homeward.Position]snapshot{}}
	if w.Net, err = newNetwork(w.newRand(), o.HTTP); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		name string
		at   **Site
	}{{"home", &w.Home}, {"away", &w.Away}} {
		if *s.at, err = newSite(w, s.name, dir); err != nil {
			t.Fatal(err)
		}
	}
	for i, sizes := range o.Machines {
		w.addMachine(i, sizes, o.Policy)
	}
	t.Cleanup(func() { w.close(dir) })
	return w
}

func (w *World) addMachine(i int, sizes []int64, policy homeward.Policy) {
	m := homeward.Machine{Item: homeward.ItemID(fmt.Sprintf("m%d", i)), Name: fmt.Sprintf("machine %d", i)}
	for d, size := range sizes {
		m.Disks = append(m.Disks, homeward.Disk{ID: homeward.DiskID(fmt.Sprintf("d%d", d)), Size: size, Slot: d})
		w.Home.Medium(m.Item, m.Disks[d])
	}
	w.Items = append(w.Items, recovery.New(m, policy, w.Home.Side(m), w.Away.Side(m), w.log("recovery")))
}

func (w *World) close(dir string) {
	close(w.ending)
	w.background.Wait()
	w.Home.stop()
	w.Away.stop()
	err := errors.Join(w.Net.close(), os.RemoveAll(dir))
	if err = errors.Join(err, w.Err()); err != nil {
		w.t.Error(err)
	}
	if w.t.Failed() {
		w.t.Logf("the end of the log:\n%s", w.history.tail())
	}
}

// Site is the one of a side.
func (w *World) Site(side *recovery.Side) *Site {
	if side.Name == w.Home.Name {
		return w.Home
	}
	return w.Away
}

// fail notes what must not happen, from any goroutine.
func (w *World) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failed) < 10 {
		w.failed = append(w.failed, err)
	}
}

// Err is what went wrong in the background.
func (w *World) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.failed...)
}

func (w *World) newRand() *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64()))
}

// remember enters the life that a guest begins, under item and generation, which
// the name of its disk's export carries.
func (w *World) remember(uri string, t *Timeline) {
	u, err := nbd.ParseURI(uri)
	if err != nil {
		w.fail(err)
		return
	}
	parts := strings.SplitN(u.Export, ".", 3) // item.disk.generation
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timelines[parts[0]+"."+parts[2]] = t
}

// Timeline is the life of a machine under a generation, nil when it never ran.
func (w *World) Timeline(item homeward.ItemID, g homeward.Generation) *Timeline {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.timelines[fmt.Sprintf("%s.%d-%s", item, g.Number, g.ID.String()[:8])]
}

// AwaitAll returns when all roles run.
func (w *World) AwaitAll(ctx context.Context) error {
	return errors.Join(w.Home.Await(ctx), w.Away.Await(ctx))
}

// logbook keeps the end of what all roles log.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const logbookBytes = 64 << 10

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 2*logbookBytes {
		l.buf.Next(l.buf.Len() - logbookBytes)
	}
	return l.buf.Write(p)
}

func (l *logbook) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buf.Bytes()
	return string(b[max(0, len(b)-logbookBytes/2):])
}

func (w *World) log(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(&w.history, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", name)
}

// Note writes into the log what the test does.
func (w *World) Note(format string, args ...any) {
	w.log("test").Info("======== " + fmt.Sprintf(format, args...))
}

// Tick is a short pause for those who ask until something is so.
func (w *World) Tick(ctx context.Context) error {
	if !pause(ctx, 5*time.Millisecond) {
		return ctx.Err()
	}
	return nil
}

// Began is the fingerprint of what a machine's disks held when it first booted
// under a generation.
func (w *World) Began(item homeward.ItemID, g homeward.Generation) [32]byte {
	if t := w.Timeline(item, g); t != nil {
		return t.began
	}
	return [32]byte{}
}

// Logged are the lines of the end of the log that hold a text.
func (w *World) Logged(text string) (lines []string) {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	for line := range strings.Lines(w.history.buf.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}
