package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/pki"
)

// Config says where an agent keeps what, and whom it speaks with.
type Config struct {
	Dir      string // durable: items, maps, positions. One agent at a time; it is locked.
	LiveDir  string // on tmpfs: maps that survive a kill and not a reboot, such as /dev/shm/homeward
	SpillDir string // saved copies that do not fit into memory; default Dir/spill
	// SocketDir gets the unix socket agent.sock, where guests attach. The path must
	// stay the same for them to reconnect.
	SocketDir string
	// Listen is a TCP address to serve guests at instead; it needs TLS. Advertise is
	// the host:port put into URIs; default: the address listened at.
	Listen    string
	Advertise string
	TLS       *tls.Config
	Watch     func(*tls.Conn) (stop func()) // Identity.Watch, see nbd.ServerOptions; nil: none
	// Name is that of this node, for guests over TCP: their URIs tell it before the '@', so
	// that nobody else serves them disks. Empty: they tell none.
	Name string

	// Commands lets policies name commands that freeze and thaw a guest, which run as
	// this agent: who may change a policy then may run anything here. Without it such a
	// policy gets no application-consistent points, and an alarm.
	Commands bool

	FS      durable.FS                         // of Dir and SpillDir; default durable.OS()
	Openers block.Openers                      // of disks
	Dial    func(sinkURL string) homeward.Sink // the client of a process server; must not block
	Log     *slog.Logger                       // default: discard
	Now     func() time.Time                   // default time.Now
	Tuning  Tuning                             //
	Fault   func(point string)                 // called at points where tests kill the process; default: nothing
}

func (c Config) withDefaults() (Config, error) {
	bad := func(field, fix string) (Config, error) {
		return c, homeward.Errorf("open agent", homeward.Invalid, field, fix, "it is not set")
	}
	switch {
	case c.Dir == "":
		return bad("Dir", "give a directory on a durable file system")
	case c.LiveDir == "":
		return bad("LiveDir", "give a directory on tmpfs")
	case c.Listen == "" && c.SocketDir == "":
		return bad("SocketDir", "give a directory for the socket, or an address to listen at")
	case c.Listen != "" && c.TLS == nil:
		return bad("TLS", "disks are served over TCP with TLS only: give certificates, or a SocketDir instead of Listen")
	case c.Listen == "" && c.TLS != nil:
		return bad("Listen", "TLS is for TCP: give an address to listen at")
	case len(c.Openers) == 0:
		return bad("Openers", "give openers of disks")
	case c.Dial == nil:
		return bad("Dial", "give a client of process servers")
	}
	if c.SpillDir == "" {
		c.SpillDir = filepath.Join(c.Dir, "spill")
	}
	if c.FS == nil {
		c.FS = durable.OS()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Fault == nil {
		c.Fault = func(string) {}
	}
	c.Tuning = c.Tuning.withDefaults()
	return c, nil
}

// maxGuests is how many disks may be attached over TCP at once.
const maxGuests = 256

// Agent is the mobility agent of one host. All methods may be called
// concurrently; those that change one item run one after the other.
type Agent struct {
	host  *host
	lock  *durable.Lock
	end   context.CancelFunc
	serve sync.WaitGroup

	mu    sync.Mutex
	items map[homeward.ItemID]*item
}

var _ homeward.Agent = (*Agent)(nil)

// Open starts the agent and resumes every item it had: guests that wait for
// their disks find them again at the same address and name, unless another side
// took over. Items whose disks cannot be opened are retried in the background, with
// an alarm.
//
// Errors: Invalid names a field; InUse another agent in Dir; those of the listener.
func Open(ctx context.Context, cfg Config) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.FS.MkdirAll(filepath.Join(cfg.Dir, "items"), 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.LockFile(cfg.FS, filepath.Join(cfg.Dir, "agent.lock"))
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	options := nbd.ServerOptions{TLS: cfg.TLS, RequireTLS: cfg.TLS != nil, Watch: cfg.Watch, Log: cfg.Log}
	if cfg.TLS != nil {
		options.MaxConnections = maxGuests + pki.MaxLobby // strangers take no guest's place
	}
	h := &host{cfg: cfg, ctx: life, server: nbd.NewServer(options)}
	a := &Agent{host: h, lock: lock, end: end, items: map[homeward.ItemID]*item{}}
	listener, err := h.listen(ctx)
	if err == nil {
		err = a.load()
	}
	if err != nil {
		if listener != nil {
			err = errors.Join(err, listener.Close())
		}
		return nil, errors.Join(err, a.Close(ctx))
	}
	a.resumeAll(ctx)
	// Guests are answered only now: one that came back before its disk is there would
	// be told that there is no such disk.
	a.serve.Go(func() {
		if err := h.server.Serve(life, listener); err != nil {
			cfg.Log.Error("guests are not served any more", "error", err)
		}
	})
	return a, nil
}

// listen opens the address guests know. Connections queue until it is served.
func (h *host) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	network, address := "tcp", h.cfg.Listen
	if h.cfg.Listen == "" {
		network, address = "unix", filepath.Join(h.cfg.SocketDir, "agent.sock")
		if err := os.MkdirAll(h.cfg.SocketDir, 0o700); err != nil {
			return nil, durable.SystemError("listen", h.cfg.SocketDir, err)
		}
		// The lock says that no other agent serves it: what is there was left by a kill.
		if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, durable.SystemError("listen", address, err)
		}
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, homeward.Errorf("listen", homeward.Unavailable, address, "check the address and its permissions", "%w", err)
	}
	h.address = address
	if network == "tcp" {
		l = pki.NewLobby(l) // strangers keep no guest out
		h.address = l.Addr().String()
		if h.cfg.Advertise != "" {
			h.address = h.cfg.Advertise
		}
	}
	return l, nil
}

// load reads the records of all items.
func (a *Agent) load() error {
	dir := filepath.Join(a.host.cfg.Dir, "items")
	entries, err := a.host.cfg.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := homeward.ItemID(e.Name())
		if !e.IsDir() || id.Validate() != nil {
			continue
		}
		it := a.host.newItem(id)
		err := durable.ReadJSON(a.host.cfg.FS, filepath.Join(it.dir(), recordName), &it.rec)
		switch homeward.KindOf(err) {
		case "":
			it.complete.Store(it.rec.Complete)
		case homeward.NotFound: // a crash before Prepare answered: nothing was begun
			if err := removeTree(a.host.cfg.FS, it.dir()); err != nil {
				return err
			}
			continue
		default: // the others can do without it
			it.broken = homeward.Wrap(err, "resume item", string(id))
			it.rec = record{}
			a.host.cfg.Log.Error("item not resumed", "item", id, "error", err)
		}
		a.items[id] = it
	}
	return nil
}

// resumeAll gives every item its first chance, together, and then lets them run.
func (a *Agent) resumeAll(ctx context.Context) {
	var first sync.WaitGroup
	for _, it := range a.items {
		first.Go(func() {
			it.calls.Lock()
			defer it.calls.Unlock()
			if it.broken != nil {
				return
			}
			if err := it.sweep(); err != nil {
				a.host.cfg.Log.Warn("leftovers not removed", "item", it.id, "error", err)
			}
			if it.rec.live() {
				it.resumeSoon(ctx)
				it.start()
			}
		})
	}
	first.Wait()
}

// resumeSoon is the first resume after a start. Behind a disk over NBD the
// requests of the agent that was killed may take a moment to end; a guest that
// was answered before it is open again would be told that its disk is gone.
func (it *item) resumeSoon(ctx context.Context) {
	until := time.Now().Add(it.host.cfg.Tuning.ReopenWait)
	for !it.resume(ctx) && it.unopened() && time.Now().Before(until) {
		if !pause(ctx, askAgain) {
			return
		}
	}
}

// unopened tells that the disks could not be opened for a reason that may pass.
func (it *item) unopened() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return !it.opened && (homeward.KindOf(it.openErr) == homeward.InUse || homeward.Retryable(it.openErr))
}

// Close ends the agent: guests' requests in progress are answered until ctx ends,
// then they are cut off; what is not shipped stays in the maps. The next Open
// goes on from there. A disk that is away (behind NBD, its server gone) is not waited
// for: its guest is cut off at once, and the next Open finds what a kill leaves.
func (a *Agent) Close(ctx context.Context) error {
	a.mu.Lock()
	items := make([]*item, 0, len(a.items))
	for _, it := range a.items {
		items = append(items, it)
	}
	a.mu.Unlock()
	a.end()
	for _, it := range items {
		it.calls.Lock()
		it.halt()
		it.calls.Unlock()
	}
	for _, it := range items {
		defer it.abandon(ctx)()
	}
	errs := []error{a.host.server.Close(ctx)}
	a.serve.Wait()
	for _, it := range items {
		it.calls.Lock()
		it.endProof()
		err := it.shut(ctx)
		if err != nil && it.abandoned.Load() {
			a.host.cfg.Log.Warn("ended without its disks: the next start finds what a kill leaves", "item", it.id, "error", err)
			err = nil
		}
		errs = append(errs, err)
		it.calls.Unlock()
	}
	return homeward.Wrap(errors.Join(append(errs, a.lock.Unlock())...), "close agent", a.host.cfg.Dir)
}

// find returns a live item.
func (a *Agent) find(op string, id homeward.ItemID) (*item, error) {
	a.mu.Lock()
	it := a.items[id]
	a.mu.Unlock()
	switch {
	case it == nil:
		return nil, errUnknown(op, id)
	case it.broken != nil:
		return nil, it.broken
	case !it.snapshot().live():
		return nil, errUnknown(op, id)
	}
	return it, nil
}

// useOpen runs do on a live item whose disks are open, and stay so meanwhile.
func (a *Agent) useOpen(op string, id homeward.ItemID, do func(*item) error) error {
	it, err := a.find(op, id)
	if err != nil {
		return err
	}
	done := it.using()
	if done == nil {
		return homeward.Errorf(op, homeward.Unavailable, string(id), "see the item's alarms", "its disks are not open")
	}
	defer done()
	return do(it)
}

// findLeg returns the replication of an item.
func (a *Agent) findLeg(op string, id homeward.ItemID) (*item, *leg, error) {
	it, err := a.find(op, id)
	if err != nil {
		return nil, nil, err
	}
	if l := it.replication(); l != nil {
		return it, l, nil
	}
	kind := homeward.Conflict
	if r := it.snapshot(); r.State == homeward.CaptureRunning && r.Request.Sink != "" && !r.fenced() {
		kind = homeward.Unavailable // it is about to: its disks are being opened after a restart, say
	}
	return nil, nil, homeward.Errorf(op, kind, string(id), "see the item's report for what it waits for", "it does not replicate")
}

// useLeg is useOpen for the replication of an item.
func (a *Agent) useLeg(op string, id homeward.ItemID, do func(*leg) error) error {
	return a.useOpen(op, id, func(*item) error {
		_, l, err := a.findLeg(op, id)
		if err != nil {
			return err
		}
		return do(l)
	})
}

// admit returns an item, which may be new.
func (a *Agent) admit(id homeward.ItemID) (*item, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	it := a.items[id]
	if it == nil {
		it = a.host.newItem(id)
		a.items[id] = it
	}
	return it, it.broken
}
