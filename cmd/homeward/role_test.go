package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
)

// site is a shell with an authority, identities of all roles, and a controller
// in the test's own process.
type site struct {
	*shell
	hub  *role.Hub
	addr string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{shell: newShell(t)}
	s.run("pki init --ca ca").wants(0)
	for _, p := range []pki.Peer{{Role: pki.Agent, Name: "a1"}, {Role: pki.ProcessServer, Name: "p1"}, {Role: pki.MasterTarget, Name: "m1"}, {Role: pki.Vault, Name: "v1"}} {
		s.run(fmt.Sprintf("pki issue --ca ca --role %s --name %s --out %s", p.Role, p.Name, p.Name)).wants(0)
	}
	id, err := pki.LoadIdentity(durable.OS(), s.path("v1"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.hub = role.NewHub(role.HubOptions{TLS: id.ServerTLS(pki.Roles()...), Version: "test", Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.hub.Serve(ctx, ln); err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return s
}

func (s *site) node(name string) *role.Node {
	s.t.Helper()
	n, err := s.hub.Wait(s.within(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *site) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

// lines are the command lines of the roles, all below the shell's directory.
func (s *site) line(kind pki.Role) string {
	name := map[pki.Role]string{pki.Agent: "a1", pki.ProcessServer: "p1", pki.MasterTarget: "m1"}[kind]
	line := fmt.Sprintf("%s --dir %s.d --identity %s --controller %s --with-parent", kind, name, name, s.addr)
	if kind == pki.Agent {
		line += " --live " + s.path("live")
	}
	return line
}

func TestRole_BadFlags(t *testing.T) {
	s := newSite(t)
	for _, kind := range []pki.Role{pki.Agent, pki.ProcessServer, pki.MasterTarget} {
		k := string(kind)
		s.run(k+" --identity a1").wants(2).says("--dir", "missing")
		s.run(k+" --dir d").wants(2).says("--identity", "homeward pki issue")
		s.run(k+" --dir d --identity v1").wants(2).says("--identity", "issue this node one of role "+k)
		s.run(k + " --dir d --identity nowhere").wants(3)
		s.run(k+" --dir d --identity v1 --controller nowhere").wants(2).says("--controller", "give host:port")
		if kind != pki.Agent {
			s.run(s.line(kind)+" --listen 999.1.1.1:1").wants(2).says("--listen", "give an address of this host")
			s.run(s.line(kind)+" --listen "+s.addr).wants(5).says("--listen", "choose another port")
		}
		if kind != pki.ProcessServer {
			s.run(k+" --dir d --identity v1 --sockets "+strings.Repeat("x", 120)).wants(2).says("--sockets", "shorter")
		}
		s.env = []string{faultVariable + "=point:zero"}
		s.run(s.line(kind)).wants(2).says(faultVariable)
		s.env = nil
	}
	if _, err := os.Stat(s.path("d")); err == nil {
		t.Error("a refused command line left a directory behind")
	}
}

// TestRole_Life: a role starts, is reached, restarts after a kill, ends with a
// signal and with its parent.
func TestRole_Life(t *testing.T) {
	// A test run under nohup ignores hang-ups, and so would what it starts: handling
	// the signal here gives processes started from here its default back.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for _, kind := range []pki.Role{pki.Agent, pki.ProcessServer, pki.MasterTarget} {
		t.Run(string(kind), func(t *testing.T) {
			s := newSite(t)
			p := s.start(s.line(kind))
			if p.ready.Peer.Role != kind || p.ready.PID != p.cmd.Process.Pid {
				t.Errorf("ready line %+v", p.ready)
			}
			wantUnknownItem(t, s, kind, p.ready.Peer.Name)
			s.run(s.line(kind)).wants(5).says("held by process")
			p.kill()

			for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
				p = s.start(s.line(kind))
				wantUnknownItem(t, s, kind, p.ready.Peer.Name)
				if err := p.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if code := p.wait(); code != 0 {
					t.Errorf("%s: ended with %d\n%s", sig, code, p.log)
				}
			}

			p = s.start(s.line(kind))
			if err := p.in.Close(); err != nil {
				t.Fatal(err)
			}
			if code := p.wait(); code != 0 {
				t.Errorf("ended with %d\n%s", code, p.log)
			}
		})
	}
}

// wantUnknownItem asks a role about an item it never heard of, through control.
func wantUnknownItem(t *testing.T, s *site, kind pki.Role, name string) {
	t.Helper()
	n, req := s.node(name), homeward.ItemRequest{Item: "nobody"}
	var err error
	switch kind {
	case pki.Agent:
		_, err = role.Agent(n).Report(s.within(), req)
	case pki.ProcessServer:
		_, err = role.ProcessServer(n).Report(s.within(), req)
	case pki.MasterTarget:
		_, err = role.MasterTarget(n).Report(s.within(), req)
	}
	if homeward.KindOf(err) != homeward.NotFound || homeward.RemedyOf(err) == "" {
		t.Errorf("report of an unknown item: %v", err)
	}
}

// Deltas are taken from the right kind of node alone.
func TestRole_DataFaceAuthorizes(t *testing.T) {
	s := newSite(t)
	ids := map[string]*pki.Identity{}
	for _, name := range []string{"a1", "p1", "m1", "v1"} {
		id, err := pki.LoadIdentity(durable.OS(), s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = id
	}
	for _, c := range []struct {
		kind pki.Role
		may  string
	}{{pki.ProcessServer, "a1"}, {pki.MasterTarget, "p1"}} {
		p := s.start(s.line(c.kind))
		for name, id := range ids {
			next := newSinks(id, c.kind)
			_, err := next.dial("https://"+p.ready.Listen).Standing(s.within(), homeward.StandingRequest{Item: "nobody"})
			if err == nil || (homeward.KindOf(err) == homeward.Forbidden) == (name == c.may) {
				t.Errorf("%s asks %s: %v", id.Peer(), c.kind, err)
			}
			if err := next.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// An item's deltas are taken from the peers it was prepared for, and no others of
// their role.
func TestRole_ItemsAreBound(t *testing.T) {
	s := newRoute(t, "", "")
	s.prepare()
	for _, p := range []pki.Peer{{Role: pki.Agent, Name: "a2"}, {Role: pki.ProcessServer, Name: "p2"}} {
		s.run(fmt.Sprintf("pki issue --ca ca --role %s --name %s --out %s", p.Role, p.Name, p.Name)).wants(0)
	}
	for _, c := range []struct {
		kind     pki.Role
		listen   string
		may, not string
	}{{pki.ProcessServer, s.ps.ready.Listen, "a1", "a2"}, {pki.MasterTarget, s.mt.ready.Listen, "p1", "p2"}} {
		for _, name := range []string{c.may, c.not} {
			id, err := pki.LoadIdentity(durable.OS(), s.path(name))
			if err != nil {
				t.Fatal(err)
			}
			next := newSinks(id, c.kind)
			sink := next.dial("https://" + c.listen)
			_, err = sink.Put(s.within(), "web01", strings.NewReader("no delta"))
			if err == nil || (homeward.KindOf(err) == homeward.Forbidden) == (name == c.may) {
				t.Errorf("%s puts to %s: %v", name, c.kind, err)
			}
			if name == c.not && !strings.Contains(homeward.RemedyOf(err), c.may) {
				t.Errorf("the remedy does not name %s: %v", c.may, err)
			}
			if _, err := sink.Standing(s.within(), homeward.StandingRequest{Item: "web01"}); err != nil {
				t.Errorf("%s asks %s: %v", name, c.kind, err)
			}
			if err := next.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A role that hangs while it closes is ended all the same.
func TestEnforceEnd(t *testing.T) {
	code := make(chan int, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := enforceEnd(ctx, time.Millisecond, slog.New(slog.DiscardHandler), func(c int) { code <- c })
	cancel()
	if got := <-code; got != homeward.Table[homeward.Timeout].Exit {
		t.Errorf("ended with %d", got)
	}
	ended()
}
