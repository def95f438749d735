package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/nbd"
)

// serveBare serves an image by our NBD server without capture, in this process.
func (p *place) serveBare(ctx context.Context, name string) (target, error) {
	path, err := p.image(ctx, name)
	if err != nil {
		return target{}, err
	}
	d, err := block.OpenFile(ctx, "file:"+path, block.Mode{})
	if err != nil {
		return target{}, err
	}
	p.atEnd(d.Close)
	s := nbd.NewServer(nbd.ServerOptions{})
	p.atEnd(func() error { return s.Close(context.WithoutCancel(ctx)) })
	if err := s.Add(nbd.Export{Name: "d", Disk: d, Exclusive: true}); err != nil {
		return target{}, err
	}
	socket := p.socket(name)
	l, err := net.Listen("unix", socket)
	if err != nil {
		return target{}, err
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.WithoutCancel(ctx), l) }()
	p.atEnd(func() error { return errors.Join(l.Close(), <-done) })
	return target{uri: nbd.UnixURI(socket, "d").String(), here: true}, nil
}

// serveHeld serves an image by the agent, with capture on and nothing shipped.
func (p *place) serveHeld(ctx context.Context, name string) (target, error) {
	path, err := p.image(ctx, name)
	if err != nil {
		return target{}, err
	}
	it, err := p.leg.Hold(ctx, "held", path)
	if err != nil {
		return target{}, err
	}
	return target{uri: it.URI, pids: []int{p.leg.Agent.PID()}}, nil
}

// serveNbdkit serves an image by nbdkit's file plugin, as it is without options.
func (p *place) serveNbdkit(ctx context.Context, name string) (target, error) {
	path, err := p.image(ctx, name)
	if err != nil {
		return target{}, err
	}
	socket := p.socket(name)
	pid, err := p.start(ctx, "unix", socket, "nbdkit", "--foreground", "--unix", socket, "file", path)
	return target{uri: nbd.UnixURI(socket, "").String(), pids: []int{pid}}, err
}

// serveQEMU serves an image by qemu-nbd through the page cache, as the others do.
func (p *place) serveQEMU(ctx context.Context, name string) (target, error) {
	path, err := p.image(ctx, name)
	if err != nil {
		return target{}, err
	}
	socket := p.socket(name)
	pid, err := p.start(ctx, "unix", socket, "qemu-nbd", "--persistent", "--format=raw", "--cache=writeback", "--socket="+socket, path)
	return target{uri: nbd.UnixURI(socket, "").String(), pids: []int{pid}}, err
}

func (p *place) socket(name string) string { return filepath.Join(p.run, name) }

// start runs a program until the end of the part and returns when it takes
// connections at an address.
func (p *place) start(ctx context.Context, network, address, program string, args ...string) (pid int, err error) {
	cmd := exec.Command(program, args...)
	var said bytes.Buffer // read after its end alone
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	p.atEnd(func() error {
		_ = cmd.Process.Kill() // it may have ended already
		<-ended
		return nil
	})
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond) // the pace of asking
	defer tick.Stop()
	for {
		c, err := net.Dial(network, address)
		if err == nil {
			return cmd.Process.Pid, c.Close()
		}
		select {
		case <-ended:
			return 0, fmt.Errorf("%s ended: %s", program, strings.TrimSpace(said.String()))
		case <-deadline.C:
			return 0, fmt.Errorf("%s takes no connection after 10 s: %w", program, err)
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
}
