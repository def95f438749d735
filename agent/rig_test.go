package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// patience bounds every wait for an event that must come.
const patience = 20 * time.Second

// target is a master target in memory that remembers every delta it took.
type target struct {
	*shiptest.Twin
	mu     sync.Mutex
	deltas map[homeward.Position]taken
	lie    func(*homeward.Ack)      // changes answers
	stand  func(*homeward.Standing) // changes standings
}

type taken struct {
	mark    homeward.Mark
	content shiptest.Content
}

func newTarget() *target {
	return &target{Twin: shiptest.NewTwin(), deltas: map[homeward.Position]taken{}}
}

func (w *target) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return homeward.Ack{}, err
	}
	p, d, err := decode(data)
	if err != nil {
		return homeward.Ack{}, err
	}
	w.set(func() { w.deltas[p] = d }) // before it is applied: whoever sees it applied finds it here
	ack, err := w.Twin.Put(ctx, item, bytes.NewReader(data))
	if err != nil {
		return ack, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lie != nil {
		w.lie(&ack)
	}
	return ack, nil
}

func (w *target) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	st, err := w.Twin.Standing(ctx, req)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.stand != nil {
		w.stand(&st)
	}
	return st, err
}

func (w *target) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func decode(data []byte) (homeward.Position, taken, error) {
	none := homeward.Position{}
	dec, err := delta.NewDecoder(bytes.NewReader(data), delta.Limits{MaxStored: homeward.MaxDelta})
	if err != nil {
		return none, taken{}, err
	}
	content := shiptest.Content{}
	for {
		f, err := dec.Next()
		if errors.Is(err, io.EOF) {
			return dec.Header().Position(dec.Trailer()), taken{dec.Trailer().Mark, content}, nil
		}
		if err != nil {
			return none, taken{}, err
		}
		plain, err := f.Plain(nil)
		if err != nil {
			return none, taken{}, err
		}
		for run, part := range f.Split(plain) {
			for i := range run.Count {
				var b []byte
				if !f.Zero {
					b = bytes.Clone(part[i*block.Size : min((i+1)*block.Size, int64(len(part)))])
				}
				content[shiptest.Block{Disk: f.Disk, Index: run.Start + i}] = b
			}
		}
	}
}

// points replays what the target took and calls see at every bootable mark.
func (w *target) points(t *testing.T, item homeward.ItemID, see func(p homeward.Position, mark homeward.Mark, c shiptest.Content)) {
	t.Helper()
	content := shiptest.Content{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.Applied(item) {
		d, ok := w.deltas[p]
		if !ok {
			t.Fatalf("%v was applied and not seen", p)
		}
		for b, data := range d.content {
			content[b] = data
		}
		if d.mark.Kind.Bootable() {
			see(p, d.mark, content)
		}
	}
}

// rig is an agent with one machine of two disks on files, over a target.
type rig struct {
	t       *testing.T
	rng     *rand.Rand
	cfg     Config
	agent   *Agent
	target  *target
	request homeward.CaptureRequest
}

var diskSizes = []int64{8 << 20, 3<<20 + 512}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	live, err := os.MkdirTemp("/dev/shm", "homeward-agent-")
	if err != nil {
		t.Fatalf("the tests need a tmpfs at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(live) })
	sock, err := os.MkdirTemp("", "hw") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sock) })
	r := &rig{t: t, rng: shiptest.Seed(t), target: newTarget()}
	r.cfg = Config{
		Dir: filepath.Join(dir, "state"), LiveDir: live, SocketDir: sock, Openers: block.LocalOpeners(),
		Dial:     func(string) homeward.Sink { return r.target },
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Commands: true,
		Tuning:   Tuning{RetryInterval: 20 * time.Millisecond, RebootWait: 200 * time.Millisecond},
	}
	r.request = newRequest(t, dir, "web01")
	if err := r.target.Prepare("web01", r.request.Generation, r.request.Base); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.agent != nil {
			r.close()
		}
	})
	return r
}

// newRequest makes the disks of a machine and the request to capture it.
func newRequest(t *testing.T, dir string, item homeward.ItemID) homeward.CaptureRequest {
	t.Helper()
	req := homeward.CaptureRequest{
		Machine: homeward.Machine{Item: item, Name: string(item)}, Generation: homeward.Generation{}.Next(),
		InitialAll: true, Sink: "https://target:1", Policy: homeward.Policy{MinInterval: 50 * time.Millisecond},
	}
	req.Base = homeward.Position{}.Base(req.Generation)
	for i, size := range diskSizes {
		path := filepath.Join(dir, fmt.Sprintf("%s-%d.raw", item, i))
		f, err := os.Create(path)
		if err == nil {
			err = f.Truncate(size)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		req.Disks = append(req.Disks, "file:"+path)
		req.Machine.Disks = append(req.Machine.Disks, homeward.Disk{ID: homeward.DiskID(fmt.Sprintf("disk-%d", i)), Size: size})
	}
	return req
}

func (r *rig) open() {
	r.t.Helper()
	a, err := Open(r.t.Context(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.agent = a
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.agent.Close(context.Background()); err != nil {
		r.t.Error(err)
	}
	r.agent = nil
}

// start opens the agent and prepares the machine.
func (r *rig) start() homeward.CaptureReport {
	r.t.Helper()
	r.open()
	return r.prepare()
}

func (r *rig) prepare() homeward.CaptureReport {
	r.t.Helper()
	rep, err := r.agent.Prepare(r.t.Context(), r.request)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func (r *rig) item() homeward.ItemRequest {
	return homeward.ItemRequest{Item: r.request.Machine.Item}
}

func (r *rig) report() homeward.CaptureReport {
	r.t.Helper()
	rep, err := r.agent.Report(r.t.Context(), r.item())
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func (r *rig) changes() homeward.Changes {
	r.t.Helper()
	c, err := r.agent.Changes(r.t.Context(), r.item())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// cut makes a point and waits until it is applied.
func (r *rig) cut() homeward.CutReport {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	rep, err := r.agent.Cut(ctx, homeward.CutRequest{Item: r.request.Machine.Item, Kind: homeward.MarkCrash})
	if err != nil {
		r.t.Fatalf("%v\n%+v", err, r.report())
	}
	return rep
}

// await polls the report until it is as wanted: the events behind it have no
// other sign.
func (r *rig) await(what string, is func(homeward.CaptureReport) bool) homeward.CaptureReport {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		rep := r.report()
		if is(rep) {
			return rep
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s\n%+v", what, rep)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func hasAlarm(rep homeward.CaptureReport, code string) bool {
	for _, a := range rep.Alarms {
		if a.Code == code {
			return true
		}
	}
	return false
}

// guest writes numbered blocks to all disks, one after the other, each of which
// names the write: so what a point holds tells which prefix of them it is.
type guest struct {
	t       testing.TB
	disks   []block.Disk
	rng     *rand.Rand
	journal []shiptest.Block // where write i+1 went
}

func connect(t testing.TB, rep homeward.CaptureReport, rng *rand.Rand, deadline time.Duration) *guest {
	t.Helper()
	g := &guest{t: t, rng: rng}
	for _, d := range rep.Disks {
		c, err := nbd.Dial(t.Context(), nbd.ClientOptions{URI: d.URI, ReconnectDeadline: deadline, DialTimeout: 2 * time.Second})
		for until := time.Now().Add(deadline); err != nil && time.Now().Before(until); { // a first connection is not retried by itself
			time.Sleep(10 * time.Millisecond)
			c, err = nbd.Dial(t.Context(), nbd.ClientOptions{URI: d.URI, ReconnectDeadline: deadline, DialTimeout: 2 * time.Second})
		}
		if err != nil {
			t.Fatal(err)
		}
		g.disks = append(g.disks, c)
	}
	return g
}

func (g *guest) close() {
	for _, d := range g.disks {
		_ = d.Close()
	}
}

// write makes n writes; it returns the first error.
func (g *guest) write(n int) error {
	for range n {
		at := shiptest.Block{Disk: g.rng.IntN(len(g.disks))}
		d := g.disks[at.Disk]
		at.Index = g.rng.Int64N(block.BlocksOf(d.Size()))
		data := make([]byte, min(block.Size, d.Size()-at.Index*block.Size))
		stamp(data, uint64(len(g.journal)+1))
		if _, err := d.WriteAt(data, at.Index*block.Size); err != nil {
			return err
		}
		g.journal = append(g.journal, at)
	}
	return nil
}

func (g *guest) mustWrite(n int) {
	g.t.Helper()
	if err := g.write(n); err != nil {
		g.t.Fatal(err)
	}
}

func stamp(data []byte, n uint64) {
	for i := 0; i+8 <= len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], n)
	}
}

func number(data []byte) uint64 {
	if len(data) == 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(data)
}

// checkPrefix tells whether content is the state after some prefix of the writes,
// and how long that is. One write more than the journal has may be in it: the one
// that was in flight.
func (g *guest) checkPrefix(t testing.TB, content shiptest.Content) (newest uint64) {
	t.Helper()
	for _, data := range content {
		newest = max(newest, number(data))
	}
	if newest > uint64(len(g.journal))+1 {
		t.Fatalf("a block holds write %d of %d", newest, len(g.journal))
	}
	want := map[shiptest.Block]uint64{}
	for i, at := range g.journal[:min(newest, uint64(len(g.journal)))] {
		want[at] = uint64(i + 1)
	}
	for at, n := range want {
		if got := number(content[at]); got != n && got != newest {
			t.Fatalf("point after write %d: block %v holds write %d, not %d", newest, at, got, n)
		}
	}
	for at, data := range content {
		if n := number(data); n != want[at] && n != newest {
			t.Fatalf("point after write %d: block %v holds write %d, want %d", newest, at, n, want[at])
		}
	}
	return newest
}

// checkPoints checks every point the target ever had; it returns how many.
func (g *guest) checkPoints(t *testing.T, w *target, item homeward.ItemID) (points int) {
	t.Helper()
	last := uint64(0)
	w.points(t, item, func(p homeward.Position, _ homeward.Mark, c shiptest.Content) {
		n := g.checkPrefix(t, c)
		if n < last {
			t.Fatalf("point %v goes back from write %d to %d", p, last, n)
		}
		last = n
		points++
	})
	return points
}
