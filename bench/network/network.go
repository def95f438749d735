// Package network is two sites on one machine: a network namespace each, joined by
// a link of a chosen shape for data, and each with a line to the machine's own
// network for control.
//
//	root namespace                 10.78.x.y ── control ──┬──────────────┐
//	                                                      │              │
//	namespaces                                      site one ── data ── site two
//	                                                10.77.0.1     10.77.0.2
//
// The data link is a veth pair, with a token bucket where only the rate is bounded.
// Where there is a delay it is a pair of TUN devices with a forwarder in this
// process between them (the kernel's own emulator, netem, is often not built in).
// Everything in a namespace sees an ordinary interface, "data0".
//
// Bytes are counted by the queue of the interface, each packet with its headers as
// on a wire, also where the kernel hands over many at once.
//
// It needs root and iproute2 (ip, tc).
package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/homeward-dr/homeward"
)

const (
	prefix  = "hwbench" // of namespaces; a pid and a site's name follow
	netns   = "/run/netns"
	data    = "data0"
	control = "ctl0"
)

// Network is the two sites. One at a time exists in a process.
type Network struct {
	Sites      [2]*Site
	Congestion string // the control of TCP that both sites use: "cubic" where the kernel lets a namespace choose it
	controller string
	lines      [2]string // the control lines' ends in the root namespace
	shape      Shape
	wan        *wan // where there is a delay
}

// New makes two sites joined by a plain link. What dead processes left is removed.
func New(ctx context.Context, one, two string) (_ *Network, err error) {
	if err := able(); err != nil {
		return nil, err
	}
	if err := sweep(ctx); err != nil {
		return nil, err
	}
	n := &Network{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	pid := os.Getpid()
	slot := pid % 8192
	third, base := slot>>5, (slot&31)*8
	n.controller = fmt.Sprintf("10.78.%d.%d", third, base+1)
	for i, name := range []string{one, two} {
		s := &Site{Name: name, namespace: fmt.Sprintf("%s%d-%s", prefix, pid, name), Address: fmt.Sprintf("10.77.0.%d", i+1)}
		if err := run(ctx, "ip", "netns", "add", s.namespace); err != nil {
			return nil, err
		}
		n.Sites[i] = s
		if err := s.enter(); err != nil {
			return nil, err
		}
		line, here, there := fmt.Sprintf("hwb%d%c", pid, 'a'+i), base+1+4*i, base+2+4*i
		n.lines[i] = line
		if err := all(ctx,
			[]string{"ip", "-n", s.namespace, "link", "set", "lo", "up"},
			[]string{"ip", "link", "add", line, "type", "veth", "peer", "name", control, "netns", s.namespace},
			[]string{"ip", "addr", "add", fmt.Sprintf("10.78.%d.%d/30", third, here), "dev", line},
			[]string{"ip", "link", "set", line, "up"},
			[]string{"ip", "-n", s.namespace, "addr", "add", fmt.Sprintf("10.78.%d.%d/30", third, there), "dev", control},
			[]string{"ip", "-n", s.namespace, "link", "set", control, "up"},
			// Both reach the controller at the one address.
			[]string{"ip", "-n", s.namespace, "route", "add", "default", "via", fmt.Sprintf("10.78.%d.%d", third, here)},
			[]string{"tc", "qdisc", "add", "dev", line, "root", "pfifo", "limit", "10000"},
			[]string{"tc", "-n", s.namespace, "qdisc", "add", "dev", control, "root", "pfifo", "limit", "10000"},
		); err != nil {
			return nil, err
		}
		if n.Congestion, err = congestion(s); err != nil {
			return nil, err
		}
	}
	return n, n.Join(ctx, Plain())
}

// congestion asks for what most systems use, and tells what is used: a kernel may
// keep it from namespaces.
func congestion(s *Site) (used string, err error) {
	err = s.Do(func() error {
		const setting = "/proc/sys/net/ipv4/tcp_congestion_control"
		if f, err := os.OpenFile(setting, os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString("cubic") // refused: the one there is stays, and is told
			_ = f.Close()                 // of a setting
		}
		raw, err := os.ReadFile(setting)
		used = strings.TrimSpace(string(raw))
		return err
	})
	return used, err
}

// Site is the one of a name; nil: there is none.
func (n *Network) Site(name string) *Site {
	for _, s := range n.Sites {
		if s != nil && s.Name == name {
			return s
		}
	}
	return nil
}

// Controller is the address of this machine's own network at which both sites
// reach this process.
func (n *Network) Controller() string { return n.controller }

// Close removes all of it. Processes in the namespaces keep those alive until they
// end: end them before.
func (n *Network) Close() (err error) {
	ctx := context.Background()
	if n.wan != nil {
		err = n.wan.close()
	}
	for _, s := range n.Sites {
		if s != nil {
			s.leave()
			err = errors.Join(err, run(ctx, "ip", "netns", "del", s.namespace))
		}
	}
	for _, line := range n.lines { // goes with its other end, by and by, unless a process still holds that
		if line == "" || !exists(ctx, line) {
			continue
		}
		if e := run(ctx, "ip", "link", "del", line); e != nil && exists(ctx, line) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func exists(ctx context.Context, line string) bool {
	return run(ctx, "ip", "link", "show", line) == nil
}

// Able says why networks cannot be made here; nil: they can.
func Able() error { return able() }

func able() error {
	const op = "make network"
	if os.Geteuid() != 0 {
		return homeward.Errorf(op, homeward.Unsupported, "network namespaces", "run it as root", "not root")
	}
	for _, program := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(program); err != nil {
			return homeward.Errorf(op, homeward.Unsupported, program, "install Debian's package iproute2", "%w", err)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return homeward.Errorf(op, homeward.Unsupported, "/dev/net/tun", "use a kernel with TUN devices", "%w", err)
	}
	return nil
}

// sweep removes namespaces of processes that are gone, and of this one.
func sweep(ctx context.Context) error {
	left, err := filepath.Glob(filepath.Join(netns, prefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		name := filepath.Base(path)
		digits, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		pid, err := strconv.Atoi(digits)
		if err != nil {
			continue // not one of ours
		}
		if _, err := os.Stat("/proc/" + digits); pid != os.Getpid() && !errors.Is(err, os.ErrNotExist) {
			continue // alive
		}
		if err := run(ctx, "ip", "netns", "del", name); err != nil {
			return err
		}
	}
	return nil
}

func all(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		if err := run(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}

func run(ctx context.Context, command ...string) error {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return homeward.Errorf("make network", homeward.IO, strings.Join(command, " "),
			"see that this kernel has network namespaces, veth and tbf", "%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
