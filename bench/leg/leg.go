// Package leg is replication as it really runs, for figures of the data path:
// an agent, a process server and a master target as processes on this machine,
// driven by their calls, without a vault and without a machine. Whoever measures
// is the guest, over NBD.
package leg

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
)

// Options of a leg.
type Options struct {
	Binary string // of homeward
	Dir    string // for everything that roles keep; made, and removed at Close
	// Through makes the address at which the process server reaches the master target,
	// of the one it listens at: an emulated link's; nil: that one.
	Through func(target string) (string, error)
}

// Leg is the three roles. Its items are at one generation each; nobody fails over.
type Leg struct {
	o         Options
	run       string // sockets and live maps: a short name in memory
	authority *pki.Authority
	hub       *role.Hub
	cancel    context.CancelFunc
	serving   sync.WaitGroup
	url       string // of the master target

	// The roles' processes, in the order of the way of a block.
	Agent, Process, Target *lab.Program
	// Their calls.
	Capture homeward.Agent
	Route   homeward.ProcessServer
	Replica homeward.MasterTarget
}

// Start starts the roles. What it returns must be closed.
func Start(ctx context.Context, o Options) (_ *Leg, err error) {
	l := &Leg{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, homeward.Errorf("start leg", homeward.IO, o.Dir, "make it writable", "%w", err)
	}
	if l.run, err = os.MkdirTemp(lab.LiveRoot(), "homeward-leg-"); err != nil {
		return nil, homeward.Errorf("start leg", homeward.IO, lab.LiveRoot(), "make it writable", "%w", err)
	}
	if l.authority, err = pki.CreateAuthority(durable.OS(), filepath.Join(o.Dir, "pki", "authority"), "homeward bench"); err != nil {
		return nil, err
	}
	controller, err := l.control(ctx)
	if err != nil {
		return nil, err
	}
	host := lab.NewHost()
	l.Target = l.program(controller, "master-target", "--listen", host.Address())
	l.Process = l.program(controller, "process-server", "--listen", host.Address())
	l.Agent = l.program(controller, "agent", "--live", filepath.Join(l.run, "live"), "--sockets", filepath.Join(l.run, "nbd"))
	for r, p := range map[pki.Role]*lab.Program{pki.MasterTarget: l.Target, pki.ProcessServer: l.Process, pki.Agent: l.Agent} {
		if err := l.authority.Issue(pki.Request{Peer: pki.Peer{Role: r, Name: p.Name}}, p.Flag("--identity")); err != nil {
			return nil, err
		}
	}
	return l, l.begin(ctx)
}

// control listens for roles that dial in.
func (l *Leg) control(ctx context.Context) (string, error) {
	dir := filepath.Join(l.o.Dir, "pki", "controller")
	if err := l.authority.Issue(pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "controller"}}, dir); err != nil {
		return "", err
	}
	me, err := pki.LoadIdentity(durable.OS(), dir)
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", homeward.Errorf("start leg", homeward.InUse, "loopback", "see that 127.0.0.1 is up", "%w", err)
	}
	l.hub = role.NewHub(role.HubOptions{TLS: me.ServerTLS(pki.Agent, pki.ProcessServer, pki.MasterTarget), Log: slog.New(slog.DiscardHandler)})
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx)) // ends in Close, after the roles
	l.serving.Go(func() { _ = l.hub.Serve(ctx, ln) })              // roles that cannot call are missed in begin
	return ln.Addr().String(), nil
}

func (l *Leg) program(controller, kind string, extra ...string) *lab.Program {
	args := append([]string{kind, "--json", "--with-parent", "--dir", filepath.Join(l.o.Dir, kind),
		"--identity", filepath.Join(l.o.Dir, "pki", kind), "--controller", controller}, extra...)
	return &lab.Program{Name: kind, Args: args, LogFile: filepath.Join(l.o.Dir, kind+".log")}
}

// begin starts the processes and finds them at the controller.
func (l *Leg) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var nodes [3]*role.Node
	for i, p := range []*lab.Program{l.Target, l.Process, l.Agent} {
		if err := p.Start(ctx, l.o.Binary); err != nil {
			return err
		}
		var err error
		if nodes[i], err = l.hub.Wait(ctx, p.Name); err != nil {
			return err
		}
	}
	l.Replica, l.Route, l.Capture = role.MasterTarget(nodes[0]), role.ProcessServer(nodes[1]), role.Agent(nodes[2])
	at := l.Target.Listen()
	if l.o.Through != nil {
		var err error
		if at, err = l.o.Through(at); err != nil {
			return err
		}
	}
	l.url = "https://" + at
	return nil
}

// PIDs are the processes of all roles.
func (l *Leg) PIDs() []int { return []int{l.Agent.PID(), l.Process.PID(), l.Target.PID()} }

// Close ends the roles, agents first, and removes what they kept.
func (l *Leg) Close() error {
	for _, p := range []*lab.Program{l.Agent, l.Process, l.Target} {
		if p != nil {
			p.Stop()
		}
	}
	if l.cancel != nil {
		l.cancel()
	}
	l.serving.Wait()
	err := os.RemoveAll(l.o.Dir)
	if l.run != "" {
		err = errors.Join(err, os.RemoveAll(l.run))
	}
	return err
}
