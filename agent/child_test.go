package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/nbd"
)

// childVariable makes the test binary an agent that kills itself at a point.
const childVariable = "HOMEWARD_AGENT_CHILD"

// childSpec says what the agent process does.
type childSpec struct {
	Dir, LiveDir, SocketDir string
	Sink                    string // unix socket of the rpc server in the test
	Prepare                 *homeward.CaptureRequest
	Kill                    string                     // "point:n": at the n-th time
	Handover                homeward.GenerationRequest // done when a line comes in
	Tuning                  Tuning
}

// runChild is the agent process: it says "ready" when it serves, and ends when
// its input does.
func runChild() {
	var spec childSpec
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &spec); err != nil {
		childFail(err)
	}
	point, nth, _ := strings.Cut(spec.Kill, ":")
	left := atomic.Int64{}
	n, _ := strconv.ParseInt(nth, 10, 64)
	left.Store(n)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	a, err := Open(ctx, Config{
		Dir: spec.Dir, LiveDir: spec.LiveDir, SocketDir: spec.SocketDir, Commands: true, Openers: block.LocalOpeners(), Tuning: spec.Tuning,
		Dial: func(string) homeward.Sink { return &rpcSink{path: spec.Sink} },
		Log:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Fault: func(at string) {
			if at == point && left.Add(-1) == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // it is under way
			}
		},
	})
	if err == nil && spec.Prepare != nil {
		_, err = a.Prepare(ctx, *spec.Prepare)
	}
	if err != nil {
		childFail(err)
	}
	fmt.Println("ready")
	if n, _ := os.Stdin.Read(make([]byte, 1)); n > 0 {
		if _, err := a.Handover(ctx, spec.Handover); err != nil {
			childFail(err)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	if err := a.Close(context.Background()); err != nil {
		childFail(err)
	}
}

func childFail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// child is a running agent process.
type child struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when it is gone
	err  error
}

func startChild(t *testing.T, spec childSpec) *child {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	c.cmd.Stderr = t.Output()
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		line := make([]byte, 6)
		if _, err := io.ReadFull(out, line); err == nil {
			close(ready)
		}
		_, _ = io.Copy(io.Discard, out)
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	select {
	case <-ready:
	case <-c.done: // killed on the way up: that is for the test to judge
	case <-time.After(patience):
		t.Fatal("the agent process is not ready")
	}
	return c
}

// kill is kill -9, unless it is dead already.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// end lets it close properly.
func (c *child) end() error {
	_ = c.in.Close()
	<-c.done
	return c.err
}

// rpcSink is a sink at the other end of a unix socket, for tests only.
type rpcSink struct{ path string }

// Wire forms of calls and errors.
type (
	RPCPut struct {
		Item homeward.ItemID
		Body []byte
	}
	RPCFailure struct {
		Kind  homeward.Kind
		Text  string
		True  *homeward.Position
		Force *homeward.Generation
	}
	RPCAck struct {
		Ack homeward.Ack
		Err *RPCFailure
	}
	RPCStanding struct {
		Standing homeward.Standing
		Err      *RPCFailure
	}
)

func (s *rpcSink) call(ctx context.Context, method string, in, out any) error {
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		return homeward.Errorf("dial", homeward.Unavailable, s.path, "", "%w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c := rpc.NewClient(conn)
	defer c.Close()
	if err := c.Call(method, in, out); err != nil {
		return homeward.Errorf("call", homeward.Unavailable, s.path, "", "%w", err)
	}
	return nil
}

func (s *rpcSink) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return homeward.Ack{}, err
	}
	var out RPCAck
	if err := s.call(ctx, "Sink.Put", RPCPut{item, data}, &out); err != nil {
		return homeward.Ack{}, err
	}
	return out.Ack, out.Err.err()
}

func (s *rpcSink) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	var out RPCStanding
	if err := s.call(ctx, "Sink.Standing", req, &out); err != nil {
		return homeward.Standing{}, err
	}
	return out.Standing, out.Err.err()
}

func (f *RPCFailure) err() error {
	switch {
	case f == nil:
		return nil
	case f.True != nil:
		return homeward.Errorf("put", f.Kind, "", "", "%w", &homeward.PositionError{True: *f.True})
	case f.Force != nil:
		return homeward.Errorf("put", f.Kind, "", "", "%w", &homeward.FencedError{InForce: *f.Force})
	}
	return homeward.Errorf("put", f.Kind, "", "", "%s", f.Text)
}

// rpcServer serves a sink to agent processes.
type rpcServer struct {
	ctx  context.Context
	sink homeward.Sink
}

func (s *rpcServer) Put(in RPCPut, out *RPCAck) error {
	ack, err := s.sink.Put(s.ctx, in.Item, bytes.NewReader(in.Body))
	*out = RPCAck{ack, failureOf(err)}
	return nil
}

func (s *rpcServer) Standing(in homeward.StandingRequest, out *RPCStanding) error {
	st, err := s.sink.Standing(s.ctx, in)
	*out = RPCStanding{st, failureOf(err)}
	return nil
}

func failureOf(err error) *RPCFailure {
	if err == nil {
		return nil
	}
	f := &RPCFailure{Kind: homeward.KindOf(err), Text: err.Error()}
	if p, ok := errors.AsType[*homeward.PositionError](err); ok {
		f.True = &p.True
	}
	if g, ok := errors.AsType[*homeward.FencedError](err); ok {
		f.Force = &g.InForce
	}
	return f
}

// serveSink serves sink on a socket until the test ends.
func serveSink(t *testing.T, path string, sink homeward.Sink) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	server := rpc.NewServer()
	if err := server.RegisterName("Sink", &rpcServer{ctx: ctx, sink: sink}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	conns := make(chan net.Conn, 1024)
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns <- conn
			wg.Go(func() { server.ServeConn(conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		for len(conns) > 0 {
			_ = (<-conns).Close()
		}
		wg.Wait()
	})
}

// TestKill kills the agent under a writing guest, at points all along the way of
// a delta. The guest sees a pause only, every point is a prefix of its writes, and
// in the end the replica holds them all.
func TestKill(t *testing.T) {
	points := []string{"prepared:1", "cut:2", "pack:2", "admitted:1", "admitted:3", "put:3", "acked:2", "spooled:2", "applied:1", "applied:3", "shelved:1"}
	for _, point := range points {
		t.Run(point, func(t *testing.T) { testKill(t, point) })
	}
}

// TestKill_frozen kills it while the guest is frozen: the next start thaws it.
func TestKill_frozen(t *testing.T) {
	r := newRig(t)
	sink, state := filepath.Join(r.cfg.SocketDir, "sink"), filepath.Join(r.cfg.SocketDir, "state")
	serveSink(t, sink, r.target)
	say := func(what string) []string { return []string{"/bin/sh", "-c", "echo " + what + ` > "$0"`, state} }
	r.request.Policy.Freeze = homeward.Hook{FreezeCommand: say("frozen"), ThawCommand: say("thawed")}
	r.request.Policy.AppEvery = 100 * time.Millisecond
	c := startChild(t, childSpec{Dir: r.cfg.Dir, LiveDir: r.cfg.LiveDir, SocketDir: r.cfg.SocketDir, Sink: sink, Prepare: &r.request, Kill: "frozen:2"})
	<-c.done
	if got, _ := os.ReadFile(state); string(got) != "frozen\n" {
		t.Fatalf("killed while it was %q", got)
	}
	r.request.Policy.AppEvery = 0
	r.open()
	if got, _ := os.ReadFile(state); string(got) != "thawed\n" {
		t.Errorf("left %q", got)
	}
}

// TestKill_handover kills it within a handover under a writing guest. Whatever was
// durable by then, the next start does not export, and the map covers all writes.
func TestKill_handover(t *testing.T) {
	for _, point := range []string{"handover recorded:1", "handover withdrawn:1", "handover final:1"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t)
			sink := filepath.Join(r.cfg.SocketDir, "sink")
			serveSink(t, sink, r.target)
			next := homeward.GenerationRequest{Item: "web01", Generation: r.request.Generation.Next()}
			c := startChild(t, childSpec{Dir: r.cfg.Dir, LiveDir: r.cfg.LiveDir, SocketDir: r.cfg.SocketDir, Sink: sink,
				Prepare: &r.request, Kill: point, Handover: next})
			g := connect(t, r.exports(), r.rng, 100*time.Millisecond)
			defer g.close()
			g.mustWrite(200)
			if _, err := c.in.Write([]byte("h")); err != nil {
				t.Fatal(err)
			}
			for g.write(1) == nil { // until it is cut off
			}
			<-c.done
			r.open()
			if rep := r.report(); rep.State != homeward.CaptureHandedOff || rep.Generation != next.Generation {
				t.Errorf("%+v", rep)
			}
			if err := dial(t, r.exports().Disks[0].URI); err == nil {
				t.Error("exported after the handover")
			}
			changes, err := r.agent.Handover(t.Context(), next)
			if err != nil {
				t.Fatal(err)
			}
			r.checkCovered(g, changes)
		})
	}
}

// exports is where an agent process serves the disks.
func (r *rig) exports() (rep homeward.CaptureReport) {
	for _, d := range r.request.Machine.Disks {
		rep.Disks = append(rep.Disks, homeward.DiskReport{URI: nbd.UnixURI(filepath.Join(r.cfg.SocketDir, "agent.sock"),
			exportName("web01", d.ID, r.request.Generation)).String()})
	}
	return rep
}

func testKill(t *testing.T, point string) {
	r := newRig(t)
	sink := filepath.Join(r.cfg.SocketDir, "sink")
	serveSink(t, sink, r.target)
	spec := childSpec{Dir: r.cfg.Dir, LiveDir: r.cfg.LiveDir, SocketDir: r.cfg.SocketDir, Sink: sink, Prepare: &r.request,
		Kill: point, Tuning: Tuning{PrecopyBytes: 1 << 20}}
	c := startChild(t, spec)
	spec.Kill = ""
	if point == "prepared:1" { // nothing was answered: the caller asks again
		<-c.done
		c = startChild(t, spec)
	}
	rep := r.exports()
	again := make(chan *child)
	go func() {
		<-c.done
		spec.Prepare = nil // it has to know by itself
		again <- startChild(t, spec)
	}()
	g := connect(t, rep, r.rng, patience)
	defer g.close()
	if point == "prepared:1" {
		g.mustWrite(200)
		c.kill()
	}
	for alive := true; alive; {
		select {
		case <-c.done:
			alive = false
		default:
			g.mustWrite(20)
		}
	}
	c = <-again
	g.mustWrite(200)
	g.close()
	if err := c.end(); err != nil {
		t.Errorf("the agent did not end well: %v", err)
	}
	r.open() // now in this process: what it left is complete
	r.cut()
	if n := g.checkPoints(t, r.target, "web01"); n == 0 {
		t.Error("no point")
	}
	if n := g.checkPrefix(t, r.target.Content("web01")); n != uint64(len(g.journal)) {
		t.Errorf("the replica ends with write %d of %d", n, len(g.journal))
	}
}
