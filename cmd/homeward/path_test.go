package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
)

const diskSize = 4 << 20

// item is a machine of one disk, for requests.
func (s *site) machine() homeward.Machine {
	return homeward.Machine{Item: "web01", Name: "web01", Disks: []homeward.Disk{{ID: "d0", Size: diskSize}}}
}

// capture asks the agent to serve source.img and to ship it to sink.
func (s *site) capture(g homeward.Generation, sink string) homeward.CaptureRequest {
	s.t.Helper()
	path := s.path("source.img")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Truncate(diskSize)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return homeward.CaptureRequest{
		Machine: s.machine(), Disks: []string{"file:" + path}, Generation: g, Base: homeward.Position{}.Base(g),
		InitialAll: true, Sink: sink, Policy: homeward.Policy{}.WithDefaults(),
	}
}

// guest opens a served disk as a machine would.
func (s *site) guest(uri string) *nbd.Client {
	s.t.Helper()
	c, err := nbd.Dial(s.within(), nbd.ClientOptions{URI: uri})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// A fault point kills the role there, and the call is finished by making it again.
func TestRole_FaultKills(t *testing.T) {
	for _, point := range []string{"prepared", "fs.rename *:2", "fs.sync *"} {
		t.Run(point, func(t *testing.T) {
			s := newSite(t)
			s.env = []string{faultVariable + "=" + point}
			p := s.start(s.line(pki.Agent))
			a := role.Agent(s.node("a1"))
			req := s.capture(homeward.Generation{}.Next(), "https://127.0.0.1:1")
			if _, err := a.Prepare(s.within(), req); homeward.KindOf(err) != homeward.Unavailable {
				t.Fatalf("prepare at the fault: %v", err)
			}
			if code := p.wait(); code != -1 {
				t.Fatalf("ended with %d, not by a signal\n%s", code, p.log)
			}
			s.env = nil
			s.start(s.line(pki.Agent))
			s.node("a1")
			report, err := a.Prepare(s.within(), req)
			if err != nil {
				t.Fatal(err)
			}
			data := bytes.Repeat([]byte{0x5a}, block.Size)
			g := s.guest(report.Disks[0].URI)
			if _, err := g.WriteAt(data, block.Size); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, block.Size)
			if _, err := g.ReadAt(got, block.Size); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the guest reads something else: %v", err)
			}
		})
	}
}

// One block's way through three processes, and back out of the volume with
// nothing else alive.
func TestPath_ThereAndOffline(t *testing.T) {
	s := newSite(t)
	mt, ps, ag := s.start(s.line(pki.MasterTarget)), s.start(s.line(pki.ProcessServer)), s.start(s.line(pki.Agent))
	target, server, source := role.MasterTarget(s.node("m1")), role.ProcessServer(s.node("p1")), role.Agent(s.node("a1"))
	g := homeward.Generation{}.Next()
	capture := s.capture(g, "https://"+ps.ready.Listen)
	if _, err := target.Prepare(s.within(), homeward.ReplicaRequest{
		Machine: s.machine(), Disks: []string{"file:" + s.path("replica.img")}, Create: true, Generation: g, Base: capture.Base, Policy: capture.Policy,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Prepare(s.within(), homeward.RouteRequest{Item: "web01", Generation: g, Target: "https://" + mt.ready.Listen, Compression: "none"}); err != nil {
		t.Fatal(err)
	}
	report, err := source.Prepare(s.within(), capture)
	if err != nil {
		t.Fatal(err)
	}
	guest := s.guest(report.Disks[0].URI)
	block1 := bytes.Repeat([]byte{0x5a}, block.Size)
	if _, err := guest.WriteAt(block1, block.Size); err != nil {
		t.Fatal(err)
	}
	if err := guest.Flush(); err != nil {
		t.Fatal(err)
	}
	cut, err := source.Cut(s.within(), homeward.CutRequest{Item: "web01", Kind: homeward.MarkCrash, Label: "written"})
	if err != nil {
		t.Fatal(err)
	}

	s.run("master-target points --dir m1.d").wants(5).says("held by process")
	for _, p := range []*process{ag, ps, mt} {
		p.kill()
	}
	s.run("master-target points --dir m1.d").wants(0, "web01", "crash-consistent", cut.Position.String())
	s.run("--json master-target points --dir m1.d --item web01").wants(0, `"label":"written"`)
	s.run("master-target verify --dir m1.d").wants(0, "web01", "0 faults")
	s.run("master-target points --dir m1.d --item web02").wants(3).says("web02")
	s.run("master-target points --dir nowhere").wants(3).says("--dir")
	s.run("master-target serve --dir m1.d --point yesterday").wants(2).says("--point", "-30s")
	s.run("master-target serve --dir m1.d --point 2001-01-01T00:00:00Z").wants(3).says("--point", "choose a later time")

	expect := func(line string, write []byte) {
		t.Helper()
		var view homeward.View
		p := s.launchInto(line+" --dir m1.d --with-parent", &view)
		if len(view.Disks) != 1 {
			<-p.done
			t.Fatalf("%s: %+v\n%s", line, view, p.log)
		}
		c := s.guest(view.Disks[0].URI)
		got := make([]byte, block.Size)
		if _, err := c.ReadAt(got, block.Size); err != nil || !bytes.Equal(got, block1) {
			t.Errorf("%s: the view holds something else: %v", line, err)
		}
		if write != nil {
			if _, err := c.WriteAt(write, 0); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			if err := c.Flush(); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := p.in.Close(); err != nil {
			t.Error(err)
		}
		if code := p.wait(); code != 0 {
			t.Errorf("%s: ended with %d\n%s", line, code, p.log)
		}
	}
	expect("master-target serve --point "+cut.Position.String(), nil)
	expect("master-target serve --scratch", block1)
	expect("master-target recover", block1)
	expect("master-target recover --item web01", nil)
}
