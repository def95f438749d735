package reprotect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/meter"
	"github.com/homeward-dr/homeward/bench/network"
)

// rig is where everything of the chapter happens: two sites, and a directory.
type rig struct {
	b     *measure.Bench
	net   *network.Network
	dir   string // images and what programs keep
	brief string // for sockets: a short name, in memory
	seed  uint64 // of the next change
}

// Names of the sites. What is measured goes from away to home.
const (
	home = "home"
	away = "away"
)

// rigName begins the name of a rig's directory; the pid of its process follows.
const rigName = "way-"

func newRig(ctx context.Context, b *measure.Bench) (_ *rig, err error) {
	r := &rig{b: b, seed: b.Seed}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.net, err = network.New(ctx, home, away); err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp(b.Dir, fmt.Sprintf("%s%d-", rigName, os.Getpid())); err != nil {
		return nil, err
	}
	r.brief, err = os.MkdirTemp(b.Memory, "s")
	return r, err
}

func (r *rig) close() (err error) {
	for _, dir := range []string{r.dir, r.brief} {
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	if r.net != nil {
		err = errors.Join(err, r.net.Close())
	}
	return err
}

// next is the change that the next run is about. No two are the same, so every run
// finds a copy that differs by all of its change.
func (r *rig) next(s setting) change {
	r.seed++
	return change{pattern: s.pattern, bytes: s.bytes, disk: s.disk, seed: r.seed}
}

// The rig is the network of Homeward's roles.

func (r *rig) Controller() string         { return r.net.Controller() }
func (r *rig) Address(site string) string { return r.net.Site(site).Free() }
func (r *rig) Start(site string, start func() error) error {
	return r.net.Site(site).Do(start)
}

// side is one end of what is measured.
type side struct {
	site  *network.Site
	meter *meter.Meter
}

// attempt is one run of one contender.
type attempt struct {
	r              *rig
	source, target side
	daemons        []func() error // to end them, when the time is taken
}

// pids are processes that run already and take part.
type pids struct{ source, target []int }

// take runs one attempt: ready starts what has to be there before, do is timed.
// Both may start programs; those count for their side.
func (r *rig) take(ctx context.Context, p pids, from, to string, ready, do func(*attempt) error) (v measure.Values, err error) {
	x := &attempt{r: r, source: side{site: r.net.Site(from)}, target: side{site: r.net.Site(to)}}
	if x.source.meter, err = meter.New(p.source...); err != nil {
		return nil, err
	}
	if x.target.meter, err = meter.New(p.target...); err != nil {
		return nil, err
	}
	if ready != nil {
		err = ready(x)
	}
	var before, after network.Count
	if err == nil {
		before, err = r.net.Count(ctx)
	}
	began := time.Now()
	if err == nil {
		err = do(x)
	}
	took := time.Since(began)
	if err == nil {
		after, err = r.net.Count(ctx)
	}
	for i := len(x.daemons) - 1; i >= 0; i-- {
		err = errors.Join(err, x.daemons[i]())
	}
	source, e1 := x.source.meter.End()
	target, e2 := x.target.meter.End()
	if err = errors.Join(err, e1, e2); err != nil {
		return nil, err
	}
	wire := after.Since(before)
	return measure.Values{
		"seconds": took.Seconds(), "wire_bytes": float64(wire.All()), "control_bytes": float64(wire.Control),
		"cpu_seconds.source": source.CPU, "cpu_seconds.target": target.CPU, "cpu_seconds": source.CPU + target.CPU,
		"peak_bytes.source": float64(source.Peak), "peak_bytes.target": float64(target.Peak),
		"read_bytes.source": float64(source.Read), "read_bytes.target": float64(target.Read), "read_bytes": float64(source.Read + target.Read),
	}, nil
}

// begin starts a program at a side.
func (s side) begin(cmd *exec.Cmd) error {
	if err := s.site.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	s.meter.Started(cmd)
	return nil
}

// run runs a program at a side to its end.
func (s side) run(ctx context.Context, program string, args ...string) error {
	return s.runProgram(exec.CommandContext(ctx, program, args...))
}

func (s side) runProgram(cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := s.begin(cmd); err != nil {
		return err
	}
	return told(cmd, s.meter.Wait(cmd), &said)
}

func told(cmd *exec.Cmd, err error, said *bytes.Buffer) error {
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(said.String())
	return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text[max(0, len(text)-400):])
}

// serve starts a program at a side that goes on until the attempt ends, and returns
// when it takes connections: at an address of its site, or at a unix socket.
func (x *attempt) serve(ctx context.Context, s side, address, program string, args ...string) error {
	return x.serveProgram(ctx, s, address, exec.CommandContext(ctx, program, args...))
}

func (x *attempt) serveProgram(ctx context.Context, s side, address string, cmd *exec.Cmd) error {
	var said bytes.Buffer // read when it ended
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := s.begin(cmd); err != nil {
		return err
	}
	x.daemons = append(x.daemons, func() error { return told(cmd, s.meter.Stop(cmd), &said) })
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond) // the pace of asking
	defer tick.Stop()
	for {
		err := s.site.Knock(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s takes no connection: %w", filepath.Base(cmd.Path), err)
		case <-tick.C:
		}
	}
}
