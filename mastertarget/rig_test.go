package mastertarget_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = homeward.ItemID("web01")

var errPower = errors.New("the power is gone")

// power counts the operations that change anything, and goes after so many.
type power struct {
	mu   sync.Mutex
	used int
	last int // operations until it goes; 0: it stays
}

func (p *power) use() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used++
	if p.last > 0 && p.used > p.last {
		return errPower
	}
	return nil
}

// count begins counting anew; the power goes after last operations (0: it stays).
func (p *power) count(last int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used, p.last = 0, last
}

// counted is how many operations used it.
func (p *power) counted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// cut takes it away now, under whatever still works in the background.
func (p *power) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = max(p.used, 1)
}

// plug is a file system, and disks, that run on power.
type plugFS struct {
	durable.FS
	power *power
}

type plugFile struct {
	durable.File
	power *power
}

func (f plugFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		if err := f.power.use(); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return plugFile{file, f.power}, nil
}
func (f plugFS) Rename(o, n string) error {
	return first(f.power.use, func() error { return f.FS.Rename(o, n) })
}
func (f plugFS) Remove(n string) error {
	return first(f.power.use, func() error { return f.FS.Remove(n) })
}
func (f plugFS) SyncDir(d string) error {
	return first(f.power.use, func() error { return f.FS.SyncDir(d) })
}
func (f plugFS) MkdirAll(d string, p fs.FileMode) error {
	return first(f.power.use, func() error { return f.FS.MkdirAll(d, p) })
}
func (f plugFile) TryLock() (bool, error) { return f.File.(durable.Locker).TryLock() }
func (f plugFile) Sync() error            { return first(f.power.use, f.File.Sync) }
func (f plugFile) Truncate(n int64) error {
	return first(f.power.use, func() error { return f.File.Truncate(n) })
}
func (f plugFile) Punch(o, n int64) error {
	return first(f.power.use, func() error { return f.File.Punch(o, n) })
}
func (f plugFile) Write(p []byte) (int, error) {
	if err := f.power.use(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}
func (f plugFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.power.use(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func first(a, b func() error) error {
	if err := a(); err != nil {
		return err
	}
	return b()
}

type plugDisk struct {
	block.Disk
	power  *power
	onRead *func()
}

func (d plugDisk) ReadAt(p []byte, off int64) (int, error) {
	if do := *d.onRead; do != nil {
		*d.onRead = nil
		do()
	}
	return d.Disk.ReadAt(p, off)
}

func (d plugDisk) WriteAt(p []byte, off int64) (int, error) {
	if err := d.power.use(); err != nil {
		return 0, err
	}
	return d.Disk.WriteAt(p, off)
}
func (d plugDisk) Zero(off, n int64, punch bool) error {
	return first(d.power.use, func() error { return d.Disk.Zero(off, n, punch) })
}
func (d plugDisk) Flush() error { return first(d.power.use, d.Disk.Flush) }

// exporter is an NBD server without a network.
type exporter struct {
	mu      sync.Mutex
	exports map[string]nbd.Export
	burnt   map[string]bool
}

func newExporter() *exporter {
	return &exporter{exports: map[string]nbd.Export{}, burnt: map[string]bool{}}
}

func (e *exporter) Add(x nbd.Export) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.burnt[x.Name] {
		return homeward.Errorf("add export", homeward.Fenced, x.Name, "", "burnt")
	}
	if _, there := e.exports[x.Name]; there {
		return homeward.Errorf("add export", homeward.Exists, x.Name, "", "in use")
	}
	e.exports[x.Name] = x
	return nil
}

func (e *exporter) Withdraw(_ context.Context, name string, _ bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.exports, name)
	e.burnt[name] = true
	return nil
}

func (e *exporter) disk(t testing.TB, uri string) block.Disk {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	x, there := e.exports[uri]
	if !there {
		t.Fatalf("no export %s", uri)
	}
	return x.Disk
}

// content is what the disks of a machine hold.
type content [][]byte

func (c content) clone() content {
	n := make(content, len(c))
	for i := range c {
		n[i] = bytes.Clone(c[i])
	}
	return n
}

// rig is a master target on power that can go, and a source that knows what
// every point must hold.
type rig struct {
	t       testing.TB
	rng     *rand.Rand
	fs      *powerloss.FS
	opening sync.Mutex
	disks   map[string]*powerloss.Disk
	power   *power
	nbd     *exporter
	target  *mastertarget.Target
	clock   atomic.Int64 // nanoseconds
	free    int64
	thin    time.Duration
	boot    string
	vols    []string
	gone    string // a directory that is not there: a volume that is not mounted
	ragged  bool   // disks tell their extents
	onRead  func() // called once, by the next read of a replica's disk; for tests of one thing at a time

	machine homeward.Machine
	gen     homeward.Generation
	at      homeward.Position // where the source thinks the replica stands
	source  content
	model   map[homeward.Position]content
}

var ctx = context.Background()

func newRig(t testing.TB) *rig { return newRigWith(t, powerloss.Rand(t)) }

func newRigWith(t testing.TB, rng *rand.Rand) *rig {
	r := &rig{
		t: t, rng: rng, fs: powerloss.New(), disks: map[string]*powerloss.Disk{},
		power: &power{}, free: 1 << 40, thin: -1, boot: "first",
		machine: homeward.Machine{Item: id, Name: "web", Disks: []homeward.Disk{
			{ID: "root", Size: 70*block.Size + 512}, {ID: "data", Size: 300 * block.Size}}},
		gen: homeward.Generation{Number: 1, ID: homeward.NewID()}, model: map[homeward.Position]content{},
	}
	r.pass(1_700_000_000 * time.Second)
	for _, d := range r.machine.Disks {
		r.disks[string(d.ID)] = powerloss.NewDisk(d.Size)
		r.source = append(r.source, make([]byte, d.Size))
	}
	t.Cleanup(func() {
		if r.target != nil {
			_ = r.target.Close(ctx)
		}
	})
	return r
}

func (r *rig) now() time.Time { return time.Unix(0, r.clock.Load()) }

func (r *rig) pass(d time.Duration) { r.clock.Add(int64(d)) }

func (r *rig) openDisk(_ context.Context, ref string, m block.Mode) (block.Disk, error) {
	r.opening.Lock()
	defer r.opening.Unlock()
	name := ref[len("mem:"):]
	d := r.disks[name]
	if d == nil {
		return nil, homeward.Errorf("open disk", homeward.NotFound, ref, "", "no such disk")
	}
	if m.Size != 0 && m.Size != d.Size() {
		return nil, homeward.Errorf("open disk", homeward.Invalid, ref, "", "%d bytes, not %d", d.Size(), m.Size)
	}
	r.disks[name] = d.Reopen()
	if r.ragged {
		return ragged{plugDisk{r.disks[name], r.power, &r.onRead}}, nil
	}
	return plugDisk{r.disks[name], r.power, &r.onRead}, nil
}

func (r *rig) config() mastertarget.Config {
	return mastertarget.Config{
		Dir: "/vol", Retention: r.vols, FS: absentFS{plugFS{r.fs, r.power}, r}, Openers: block.Openers{"mem": r.openDisk},
		NBD: r.nbd, URI: func(name string) string { return name },
		Free:      func(string) (int64, error) { return r.free, nil },
		Now:       r.now,
		ThinEvery: r.thin,
		Boot:      r.boot,
	}
}

// lockedConfig is that of another process at the same volume.
func (r *rig) lockedConfig() mastertarget.Config {
	c := r.config()
	c.NBD = newExporter()
	return c
}

// open opens the target anew, as a process that starts.
func (r *rig) open() {
	r.t.Helper()
	r.nbd = newExporter()
	target, err := mastertarget.Open(ctx, r.config())
	if err != nil {
		r.t.Fatalf("open: %v", err)
	}
	r.target = target
}

// crash is a power loss, or (kill) the death of the process alone.
func (r *rig) crash(kill bool) {
	r.t.Helper()
	r.power.cut() // whatever Close still does is lost
	_ = r.target.Close(ctx)
	r.power = &power{}
	if !kill {
		r.boot = homeward.NewID().String()
		r.fs = r.fs.Crash(r.rng)
		for name, d := range r.disks {
			r.disks[name] = d.Crash(r.rng)
		}
	}
	r.open()
}

func (r *rig) request() homeward.ReplicaRequest {
	return homeward.ReplicaRequest{
		Machine: r.machine, Disks: []string{"mem:root", "mem:data"}, Generation: r.gen, Base: r.at,
		Policy: homeward.Policy{Retention: []homeward.Tier{{For: 1000 * time.Hour}}},
	}
}

func (r *rig) prepare() {
	r.t.Helper()
	r.at = homeward.Position{}.Base(r.gen)
	must(r.target.Prepare(ctx, r.request()))(r.t)
	r.model[r.at] = r.source.clone()
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// scribble changes the source and returns which blocks.
func (r *rig) scribble() []*block.Map {
	var maps []*block.Map
	for _, disk := range r.source {
		m := block.NewMap(block.BlocksOf(int64(len(disk))))
		for range r.rng.IntN(6) {
			start := r.rng.Int64N(m.Blocks())
			n := min(1+r.rng.Int64N(20), m.Blocks()-start)
			m.Set(start, n)
			p := disk[start*block.Size : min((start+n)*block.Size, int64(len(disk)))]
			if r.rng.IntN(3) == 0 {
				clear(p)
			} else {
				fill(r.rng, p)
			}
		}
		maps = append(maps, m)
	}
	return maps
}

func fill(rng *rand.Rand, p []byte) {
	for i := 0; i < len(p); i += 64 {
		p[i] = byte(rng.Uint32())
	}
}

// cut encodes what changed as the delta after the source's position.
func (r *rig) cut(kind homeward.MarkKind, maps []*block.Map) ([]byte, homeward.Position) {
	r.t.Helper()
	h := delta.Header{Item: id, Follows: r.at, Machine: &r.machine,
		To: homeward.Position{Generation: r.gen, Sequence: r.at.Sequence + 1, Cut: homeward.NewID()}}
	for _, d := range r.machine.Disks {
		h.Disks = append(h.Disks, delta.DiskInfo{ID: d.ID, Size: d.Size})
	}
	var out bytes.Buffer
	e := must(delta.NewEncoder(&out, h, delta.EncoderOptions{Codec: delta.S2}))(r.t)
	for i, m := range maps {
		for run := range m.Runs(0) {
			p := r.source[i][run.Start*block.Size : min((run.Start+run.Count)*block.Size, int64(len(r.source[i])))]
			if err := e.Add(i, run.Start, p); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.pass(time.Second)
	trailer := must(e.Close(homeward.Mark{Kind: kind, At: r.now()}))(r.t)
	return out.Bytes(), h.Position(trailer)
}

// step makes a cut and puts it.
func (r *rig) step(kind homeward.MarkKind) error {
	r.t.Helper()
	body, to := r.cut(kind, r.scribble())
	return r.put(body, to)
}

func (r *rig) put(body []byte, to homeward.Position) error {
	r.model[to] = r.source.clone()
	ack, err := r.target.Put(ctx, id, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if ack.Position != to || !ack.Applied {
		r.t.Fatalf("ack %v, put %v", ack.Position, to)
	}
	r.at = to
	return nil
}

// applyOnly puts a delta of which no model is kept.
func (r *rig) applyOnly(body []byte, to homeward.Position) {
	r.t.Helper()
	must(r.target.Put(ctx, id, bytes.NewReader(body)))(r.t)
	r.at = to
}

func (r *rig) points() []homeward.Point {
	r.t.Helper()
	return must(r.target.Points(ctx, homeward.ItemRequest{Item: id}))(r.t).Points
}

func (r *rig) report() homeward.ReplicaReport {
	r.t.Helper()
	return must(r.target.Report(ctx, homeward.ItemRequest{Item: id}))(r.t)
}

// check compares every point with the model.
func (r *rig) check() {
	r.t.Helper()
	for i, p := range r.points() {
		r.checkPoint(fmt.Sprintf("check%d", i), p.Position)
	}
	v := must(r.target.Verify(ctx, homeward.ItemRequest{Item: id}))(r.t)
	if len(v.Faults) > 0 {
		r.t.Fatalf("verify: %v", v.Faults)
	}
}

func (r *rig) checkPoint(name string, at homeward.Position) {
	r.t.Helper()
	req := homeward.ViewRequest{Item: id, Name: name, Point: at, Kind: homeward.ViewReadOnly}
	v := must(r.target.OpenView(ctx, req))(r.t)
	want, known := r.model[at]
	if !known {
		r.t.Fatalf("point %v was never cut", at)
	}
	r.same(v, want)
	must(r.target.CloseView(ctx, req))(r.t)
}

func (r *rig) same(v homeward.View, want content) {
	r.t.Helper()
	for i, d := range v.Disks {
		got := readAll(r.t, r.nbd.disk(r.t, d.URI))
		if b := firstDifference(got, want[i]); b >= 0 {
			r.t.Fatalf("view %s of %v: disk %s differs from block %d on", v.Name, v.Point.Position, d.Disk, b)
		}
	}
}

func readAll(t testing.TB, d block.Disk) []byte {
	t.Helper()
	p := make([]byte, d.Size())
	if _, err := d.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

func firstDifference(a, b []byte) int {
	if len(a) != len(b) {
		return 0
	}
	for i := 0; i < len(a); i += block.Size {
		n := min(i+block.Size, len(a))
		if !bytes.Equal(a[i:n], b[i:n]) {
			return i / block.Size
		}
	}
	return -1
}

// resume finds where the replica really stands, as an agent does, and takes the
// source back to it: it ships again from there.
func (r *rig) resume() {
	r.t.Helper()
	s := must(r.target.Standing(ctx, homeward.StandingRequest{Item: id}))(r.t)
	if s.Applied != r.at {
		if _, known := r.model[s.Applied]; !known {
			r.t.Fatalf("the replica stands at %v, which was never cut", s.Applied)
		}
	}
	r.at = s.Applied
	r.source = r.model[s.Applied].clone()
}

func kindOf(err error) homeward.Kind { return homeward.KindOf(err) }
