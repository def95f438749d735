package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/enrol"
	"github.com/homeward-dr/homeward/member"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/ship"
)

// maxSocketPath is how many bytes the kernel takes as the path of a unix socket.
// viewSocket and the agent's agent.sock are equally long.
const maxSocketPath = 107

// nodeFlags are the flags of every role.
type nodeFlags struct {
	dir         string
	identity    string
	controllers []string
	listen      string // only of roles with a data face
	sockets     string
	hasSockets  bool
	withParent  bool
	enrol       enrolFlags
}

func (f *nodeFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "dir", "", "`directory` of what this role keeps")
	f.enrol.register(cmd)
	cmd.Flags().StringVar(&f.identity, "identity", "", "`directory` of this node's identity; made by enrolling (default then: DIR/identity), or by 'homeward pki issue'")
	cmd.Flags().StringSliceVar(&f.controllers, "controller", nil, "`host:port` of the controller to dial, several are tried in turn; none: work on, told by nobody")
	cmd.Flags().BoolVar(&f.withParent, "with-parent", false, "end when standard input does, so that nothing outlives the parent")
}

func (f *nodeFlags) registerListen(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:0", "`host:port` to take deltas at")
}

func (f *nodeFlags) registerSockets(cmd *cobra.Command) {
	f.hasSockets = true
	cmd.Flags().StringVar(&f.sockets, "sockets", "", "`directory` of the NBD sockets (default: DIR/sockets)")
}

// validate checks the flags and fills in defaults that follow from others.
func (f *nodeFlags) validate() error {
	if err := required("--dir", f.dir, "the directory of what this role keeps"); err != nil {
		return err
	}
	if err := required("--identity", f.identity, "this node's identity directory; 'homeward pki issue' makes one"); err != nil {
		return err
	}
	if f.listen != "" {
		if err := hostPort("--listen", f.listen); err != nil {
			return err
		}
	}
	for _, addr := range f.controllers {
		if err := hostPort("--controller", addr); err != nil {
			return err
		}
	}
	if !f.hasSockets {
		return nil
	}
	if f.sockets == "" {
		f.sockets = filepath.Join(f.dir, "sockets")
	}
	var err error
	f.sockets, err = socketDir(f.sockets)
	return err
}

func hostPort(flag, addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return homeward.Errorf("read flags", homeward.Invalid, flag, "give host:port, such as 127.0.0.1:7443", "%w", err)
	}
	return nil
}

// socketDir makes the path absolute, because guests are told it, and refuses one
// that the kernel has no room for.
func socketDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", homeward.Errorf("read flags", homeward.Invalid, "--sockets", "give an absolute path", "%w", err)
	}
	if len(filepath.Join(abs, viewSocket)) > maxSocketPath {
		return "", homeward.Errorf("read flags", homeward.Invalid, "--sockets",
			"give a directory with a shorter path", "%s: the path of a unix socket has at most %d bytes", abs, maxSocketPath)
	}
	return abs, nil
}

// node is a role's process as the role sees it.
type node struct {
	flags nodeFlags
	id    *pki.Identity
	log   *slog.Logger
	fault func(point string) // nil: none
	fs    durable.FS
	epoch *role.Epoch // the highest of a vault that was met
}

// openers are the kinds of disk references this binary knows.
func (n node) openers() block.Openers {
	o := openers(n.id, n.log)
	if n.fault != nil {
		o = faultOpeners(o, n.fault)
	}
	return o
}

// opened is a role that has recovered its state and works.
type opened struct {
	control http.Handler // what a controller may call
	// tell adds to a heartbeat what this role knows; nil: nothing.
	tell  func(homeward.HealthRequest, *homeward.HealthReport)
	data  http.Handler // what other roles may put; nil: it has no data face
	close func() error
}

// ready is what a parent process waits for on standard output.
type ready struct {
	Ready   bool     `json:"ready"`
	Peer    pki.Peer `json:"peer"`
	Listen  string   `json:"listen,omitempty"` // the address that was bound
	Sockets string   `json:"sockets,omitempty"`
	PID     int      `json:"pid"`
}

func (r ready) String() string {
	s := "ready: " + r.Peer.String()
	if r.Listen != "" {
		s += ", listening on " + r.Listen
	}
	if r.Sockets != "" {
		s += ", sockets in " + r.Sockets
	}
	return s
}

// runNode is the life of every role: read what it is, open it, serve until ctx
// ends, close.
func (c *command) runNode(ctx context.Context, want pki.Role, f nodeFlags, open func(context.Context, node) (opened, error)) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.withParent {
		go endWithInput(c.in, cancel) // its read ends with the process at the latest
	}
	if err := c.enrolNode(ctx, want, &f); err != nil {
		return err
	}
	n, err := c.newNode(want, f)
	if err != nil {
		return err
	}
	defer enforceEnd(ctx, endTimeout, n.log, os.Exit)()
	// Bind before opening: an address in use is found before anything is changed.
	var ln net.Listener
	if n.flags.listen != "" {
		if ln, err = listen(n.flags.listen); err != nil {
			return err
		}
		defer func() { _ = ln.Close() }() // closed already, if it was served
	}
	o, err := open(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	r := ready{Ready: true, Peer: n.id.Peer(), Sockets: n.flags.sockets, PID: os.Getpid()}
	if ln != nil {
		r.Listen = ln.Addr().String()
	}
	if err := c.print(r, "%s", r); err != nil {
		return err
	}
	return serveNode(ctx, n, o, ln)
}

func listen(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, homeward.Errorf("listen", homeward.InUse, "--listen", "choose another port", "%w", err)
	case err != nil:
		return nil, homeward.Errorf("listen", homeward.Invalid, "--listen", "give an address of this host and a port that you may use, such as 127.0.0.1:7443", "%w", err)
	}
	return ln, nil
}

// serveNode serves control and data until ctx ends or one of them cannot go on.
// Control stops first, so that no order is taken that could not be finished;
// then the data face, which lets the deltas it is receiving arrive; the role
// itself is closed by the caller, last, when nobody can reach it any more.
func serveNode(ctx context.Context, n node, o opened, ln net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	dataCtx, stopData := context.WithCancel(context.WithoutCancel(ctx))
	data, control, kept := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		defer stop()
		data <- serveData(dataCtx, n, o.data, ln)
	}()
	go func() { control <- serveControl(ctx, n, o) }()
	go func() { kept <- keepIdentity(ctx, n) }()
	<-ctx.Done()
	err := errors.Join(<-control, <-kept)
	stopData()
	return errors.Join(err, <-data)
}

func serveData(ctx context.Context, n node, h http.Handler, ln net.Listener) error {
	if ln == nil {
		<-ctx.Done()
		return nil
	}
	// Every node of the installation passes the handshake; who may put what is
	// said by the handler, in words that reach the caller.
	config := n.id.ServerTLS(pki.Roles()...)
	config.NextProtos = []string{"http/1.1"}
	server := ship.NewServer(member.Face(h), config, n.log)
	server.ConnState = n.id.ConnState
	return ship.Serve(ctx, server, pki.NewLobby(ln))
}

func serveControl(ctx context.Context, n node, o opened) error {
	if len(n.flags.controllers) == 0 {
		<-ctx.Done()
		return nil
	}
	return role.Serve(ctx, role.Options{
		Controllers: n.flags.controllers,
		TLS:         n.id.ClientTLS(pki.Vault),
		Hello:       role.Hello{Peer: n.id.Peer(), Version: buildVersion().Version},
		Handler:     o.control,
		Member:      enrol.Member(n.id, member.New(member.Config{TLS: n.id.ClientTLS(pki.ProcessServer, pki.MasterTarget), Tell: o.tell})),
		Epoch:       n.epoch,
		Log:         n.log,
	})
}

func (c *command) newNode(want pki.Role, f nodeFlags) (node, error) {
	if err := f.validate(); err != nil {
		return node{}, err
	}
	id, err := pki.LoadIdentity(durable.OS(), f.identity)
	if err != nil {
		return node{}, err
	}
	if id.Peer().Role != want {
		return node{}, homeward.Errorf("start", homeward.Invalid, "--identity",
			"issue this node one of role "+string(want), "it is the identity of %s", id.Peer())
	}
	fault, err := faultHook(os.Getenv(faultVariable))
	if err != nil {
		return node{}, err
	}
	n := node{flags: f, id: id, log: c.logger().With("node", id.Peer().Name), fault: fault, fs: durable.OS()}
	if fault != nil {
		n.fs = faultFS{n.fs, fault}
	}
	n.epoch, err = role.OpenEpoch(n.fs, filepath.Join(n.flags.dir, "epoch"))
	return n, err
}

// endTimeout is how long a process may take to end in order: the data face's five
// seconds and the role's closeTimeout, and some.
const endTimeout = 20 * time.Second

// enforceEnd exits the process when it has not ended a while after ctx has: a role
// that cannot close must not outlive its parent, and its next start goes on from
// what is on disk, as after a kill. ended says that it did.
func enforceEnd(ctx context.Context, patience time.Duration, log *slog.Logger, exit func(code int)) (ended func()) {
	done := make(chan struct{})
	context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(patience):
			log.Error("it did not end in order: ending all the same", "waited", patience)
			exit(homeward.Table[homeward.Timeout].Exit)
		}
	})
	return func() { close(done) }
}

// onlyFrom authorizes the sender of deltas by its role and, with maySend, by its
// name: an item is bound to the peer it was prepared for. Where an item stands may
// be asked by every peer of the role: so one that was replaced learns that it is fenced.
func onlyFrom(sender pki.Role, maySend func(item homeward.ItemID, name string) error) func(*http.Request, homeward.ItemID) error {
	return func(r *http.Request, item homeward.ItemID) error {
		peer, err := pki.PeerOf(r.TLS)
		if err != nil {
			return err
		}
		if peer.Role != sender {
			return homeward.Errorf("authorize", homeward.Forbidden, peer.String(),
				"send deltas from an agent to a process server, and from there to a master target", "its role may not send item %s here", item)
		}
		if r.Method == http.MethodGet {
			return nil
		}
		return maySend(item, peer.Name)
	}
}

// endWithInput calls end when in is closed.
func endWithInput(in *os.File, end func()) {
	buf := make([]byte, 64)
	for {
		if _, err := in.Read(buf); err != nil {
			end()
			return
		}
	}
}
