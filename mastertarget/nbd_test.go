package mastertarget_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/nbd"
)

// The whole role on a real file system, its views through a real NBD server.
func TestTarget_OnFilesOverNBD(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "nbd.sock")
	server := nbd.NewServer(nbd.ServerOptions{})
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error { return server.Serve(ctx, listener) })
	config := mastertarget.Config{
		Dir: filepath.Join(dir, "retention"), Openers: block.LocalOpeners(), NBD: server,
		URI: func(export string) string { return nbd.UnixURI(socket, export).String() },
	}
	r := newRig(t)
	r.target = must(mastertarget.Open(ctx, config))(t)
	r.pass(time.Since(time.Unix(0, r.clock.Load()))) // points are aged by the real clock here
	r.at = homeward.Position{}.Base(r.gen)
	req := r.request()
	req.Disks, req.Create = []string{"file:" + dir + "/root.img", "file:" + dir + "/data.img"}, true
	must(r.target.Prepare(ctx, req))(t)
	r.steps(6)
	p := r.points()[1]
	v := must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.next(), Point: p.Position}))(t)
	m := boot(t, r.rng, r.model[p.Position])
	clients := connect(t, v)
	m.run(clients, true)
	for range 3 {
		if err := m.work(10); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.promoted(r.gen); err != nil {
		t.Fatal(err)
	}
	m.run(clients, true)
	for _, c := range clients {
		_ = c.Close()
	}
	// A new process finds the promoted machine's disks served under the same names.
	must(0, r.target.Close(ctx))(t)
	must(0, server.Close(ctx))(t)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	r.nbd = newExporter()
	config.NBD = r.nbd
	config.URI = func(export string) string { return export }
	r.target = must(mastertarget.Open(ctx, config))(t)
	m.attach(r, r.report().Views[0], true)
	r.checkPoint("point", p.Position)
}

func connect(t *testing.T, v homeward.View) (disks []block.Disk) {
	t.Helper()
	for _, d := range v.Disks {
		c, err := nbd.Dial(ctx, nbd.ClientOptions{URI: d.URI})
		if err != nil {
			t.Fatal(err)
		}
		disks = append(disks, c)
	}
	return disks
}

// BenchmarkApply applies deltas of 1 MiB (256 blocks, scattered) on real files.
func BenchmarkApply(b *testing.B) {
	dir := b.TempDir()
	r := newRig(b)
	r.machine.Disks = []homeward.Disk{{ID: "root", Size: 1 << 30}}
	r.source = content{make([]byte, 1<<30)}
	r.target = must(mastertarget.Open(ctx, mastertarget.Config{
		Dir: filepath.Join(dir, "retention"), Openers: block.LocalOpeners(), NBD: newExporter(),
		URI: func(export string) string { return export }, ThinEvery: -1,
	}))(b)
	r.at = homeward.Position{}.Base(r.gen)
	req := r.request()
	req.Disks, req.Create = []string{"file:" + dir + "/root.img"}, true
	must(r.target.Prepare(ctx, req))(b)
	fill(r.rng, r.source[0])
	b.SetBytes(1 << 20)
	for b.Loop() {
		b.StopTimer()
		m := block.NewMap(1 << 18)
		for m.Count() < 256 {
			m.Set(r.rng.Int64N(1<<18), 1)
		}
		body, to := r.cut(homeward.MarkCrash, []*block.Map{m})
		b.StartTimer()
		r.applyOnly(body, to)
	}
}
