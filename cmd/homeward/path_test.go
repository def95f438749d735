package main

import (
	"bytes"
	"os"
	"testing"
	"time"

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

// guest opens a served disk as a machine would; it waits for an agent that is
// restarted.
func (s *site) guest(uri string) *nbd.Client {
	s.t.Helper()
	c, err := nbd.Dial(s.within(), nbd.ClientOptions{URI: uri, ReconnectDeadline: 20 * time.Second})
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
			c := s.guest(report.Disks[0].URI)
			s.writeDurably(c, block1(), block.Size)
			s.holdsBlock1(c, "the disk")
		})
	}
}

// route is three processes, prepared for one item.
type route struct {
	*site
	mt, ps, agent *process
}

// newRoute starts the roles; env is that of one of them, the first time.
func newRoute(t *testing.T, faulty pki.Role, fault string) *route {
	s := &route{site: newSite(t)}
	start := func(kind pki.Role) *process {
		if kind == faulty {
			s.env = []string{faultVariable + "=" + fault}
		}
		defer func() { s.env = nil }()
		return s.start(s.line(kind))
	}
	s.mt, s.ps, s.agent = start(pki.MasterTarget), start(pki.ProcessServer), start(pki.Agent)
	return s
}

// prepare prepares all three and returns where the guest finds its disk. Calls are
// made again while a role is away, as a controller would.
func (s *route) prepare() (uri string) {
	s.t.Helper()
	target, server, source := role.MasterTarget(s.node("m1")), role.ProcessServer(s.node("p1")), role.Agent(s.node("a1"))
	g := homeward.Generation{}.Next()
	capture := s.capture(g, "https://"+s.ps.ready.Listen)
	s.insist(func() error {
		_, err := target.Prepare(s.within(), homeward.ReplicaRequest{
			Machine: s.machine(), Disks: []string{"file:" + s.path("replica.img")}, Create: true, Generation: g, Base: capture.Base, From: "p1", Policy: capture.Policy,
		})
		return err
	})
	s.insist(func() error {
		_, err := server.Prepare(s.within(), homeward.RouteRequest{Item: "web01", Generation: g, Target: "https://" + s.mt.ready.Listen, Agent: "a1"})
		return err
	})
	s.insist(func() error {
		report, err := source.Prepare(s.within(), capture)
		if err == nil {
			uri = report.Disks[0].URI
		}
		return err
	})
	return uri
}

// insist makes a call until it is done, unless it fails for good.
func (s *route) insist(call func() error) {
	s.t.Helper()
	ctx := s.within()
	for {
		err := call()
		if err == nil {
			return
		}
		if !homeward.Retryable(err) || ctx.Err() != nil {
			s.t.Fatal(err)
		}
		for _, name := range []string{"m1", "p1", "a1"} { // whoever is away comes back
			if _, err := s.hub.Wait(ctx, name); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// cut makes a point of what was written and waits until it is applied.
func (s *route) cut() (made homeward.CutReport) {
	s.t.Helper()
	s.insist(func() (err error) {
		made, err = role.Agent(s.node("a1")).Cut(s.within(), homeward.CutRequest{Item: "web01", Kind: homeward.MarkCrash, Label: "written"})
		return err
	})
	return made
}

// block1 is what the guest writes to its block 1.
func block1() []byte { return bytes.Repeat([]byte{0x5a}, block.Size) }

func (s *site) holdsBlock1(c *nbd.Client, what string) {
	s.t.Helper()
	got := make([]byte, block.Size)
	if _, err := c.ReadAt(got, block.Size); err != nil || !bytes.Equal(got, block1()) {
		s.t.Errorf("%s holds something else: %v", what, err)
	}
}

// writeDurably writes and flushes.
func (s *site) writeDurably(c *nbd.Client, data []byte, off int64) {
	s.t.Helper()
	_, err := c.WriteAt(data, off)
	if err == nil {
		err = c.Flush()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Each role is killed at steps of its work and started again; the write arrives.
func TestPath_SurvivesKills(t *testing.T) {
	for _, c := range []struct {
		kind  pki.Role
		point string
	}{
		{pki.Agent, "admitted:2"}, {pki.Agent, "acked"}, {pki.Agent, "fs.sync *:12"},
		{pki.ProcessServer, "fs.rename *.delta"}, {pki.ProcessServer, "fs.write *.delta*"},
		{pki.MasterTarget, "disk.write"}, {pki.MasterTarget, "disk.flush"}, {pki.MasterTarget, "fs.sync position:3"}, {pki.MasterTarget, "fs.rename *.undo"},
	} {
		t.Run(string(c.kind)+" "+c.point, func(t *testing.T) {
			s := newRoute(t, c.kind, c.point)
			victim := map[pki.Role]*process{pki.Agent: s.agent, pki.ProcessServer: s.ps, pki.MasterTarget: s.mt}[c.kind]
			line := s.line(c.kind)
			if victim.ready.Listen != "" {
				line += " --listen " + victim.ready.Listen
			}
			done := make(chan *process, 1)
			go func() {
				<-victim.done
				if t.Context().Err() != nil {
					return // the test is over, and ended it
				}
				var r ready
				done <- s.launchInto(line, &r)
			}()
			guest := s.guest(s.prepare())
			s.writeDurably(guest, block1(), block.Size)
			cut := s.cut()
			for ctx, died := s.within(), false; !died; { // some steps come only with later cuts
				select {
				case p := <-done:
					died = true
					defer p.kill()
				case <-ctx.Done():
					t.Fatalf("%s never passed %q", c.kind, c.point)
				default:
					s.writeDurably(guest, block1(), 2*block.Size)
					cut = s.cut()
				}
			}
			if code := victim.cmd.ProcessState.ExitCode(); code != -1 {
				t.Errorf("ended with %d, not at the fault\n%s", code, victim.log)
			}
			view, err := role.MasterTarget(s.node("m1")).OpenView(s.within(), homeward.ViewRequest{Item: "web01", Name: "check", Kind: homeward.ViewReadOnly, Point: cut.Position})
			if err != nil {
				t.Fatal(err)
			}
			s.holdsBlock1(s.guest(view.Disks[0].URI), "the replica")
		})
	}
}

// One block's way through three processes, and back out of the volume with
// nothing else alive.
func TestPath_ThereAndOffline(t *testing.T) {
	s := newRoute(t, "", "")
	s.writeDurably(s.guest(s.prepare()), block1(), block.Size)
	cut := s.cut()
	s.run("master-target points --dir m1.d").wants(5).says("held by process")
	for _, p := range []*process{s.agent, s.ps, s.mt} {
		p.kill()
	}
	s.run("master-target points --dir m1.d").wants(0, "web01", "crash-consistent", cut.Position.String())
	s.run("--json master-target points --dir m1.d --item web01").wants(0, `"label":"written"`)
	s.run("master-target verify --dir m1.d").wants(0, "web01", "0 faults")
	s.run("master-target points --dir m1.d --item web02").wants(3).says("web02", "the items here: web01")
	s.run("master-target recover --dir m1.d --item web02").wants(3).says("the items here: web01")
	s.run("master-target serve --dir m1.d --point yesterday").wants(2).says("--point", "-30s")
	s.run("master-target serve --dir m1.d --point 2001-01-01T00:00:00Z").wants(3).says("--point", "choose a later time")

	zeros, written := make([]byte, 26), []byte("written after the disaster")
	s.serves("master-target serve --point "+cut.Position.String(), zeros, nil)
	s.serves("master-target serve --scratch", zeros, written)
	s.serves("master-target recover", zeros, written)
	s.serves("master-target recover --item web01", written, nil)
}

// serves runs a serving command, expects block 1 and what the disk begins with,
// writes over the latter, and ends the command.
func (s *route) serves(line string, begins, write []byte) {
	s.t.Helper()
	var view homeward.View
	p := s.launchInto(line+" --dir m1.d --with-parent", &view)
	if len(view.Disks) != 1 {
		<-p.done
		s.t.Fatalf("%s: %+v\n%s", line, view, p.log)
	}
	c := s.guest(view.Disks[0].URI)
	s.holdsBlock1(c, line)
	got := make([]byte, len(begins))
	if _, err := c.ReadAt(got, 0); err != nil || !bytes.Equal(got, begins) {
		s.t.Errorf("%s: the disk begins with %q: %v", line, got, err)
	}
	if write != nil {
		s.writeDurably(c, write, 0)
	}
	if err := c.Close(); err != nil {
		s.t.Error(err)
	}
	if err := p.in.Close(); err != nil {
		s.t.Error(err)
	}
	if code := p.wait(); code != 0 {
		s.t.Errorf("%s: ended with %d\n%s", line, code, p.log)
	}
}
