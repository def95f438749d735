package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/link"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/site/local"
)

// Stage is the two sites and what lies between them.
type Stage struct {
	o          Options
	Dir        string
	made       bool   // Dir is ours to remove
	live       string // of live maps, in memory
	network    Network
	log        *slog.Logger
	logFile    *os.File
	authority  *pki.Authority
	Me         *pki.Identity // the controller: where the vault will be
	controller string
	hub        *role.Hub
	cancel     context.CancelFunc
	serving    sync.WaitGroup
	Home, Away *Place
	Item       *recovery.Item
}

// Place is one site.
type Place struct {
	Name                   string
	Agent, Process, Target *lab.Program
	Site                   *local.Site
	sites                  []*local.Site // all it ever had
	In                     *link.Link    // what comes from the other site passes here; nil: it comes over Options.Network
	Side                   *recovery.Side
}

// Build makes both sites and starts their roles.
func Build(ctx context.Context, o Options) (_ *Stage, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	st := &Stage{o: o, Dir: o.Dir, network: o.Network}
	if st.network == nil {
		st.network = own{lab.NewHost()}
	}
	if st.Dir == "" {
		if st.Dir, err = os.MkdirTemp("", "homeward-stage-"); err != nil {
			return nil, homeward.Errorf("build stage", homeward.IO, os.TempDir(), "make it writable, or set TMPDIR", "%w", err)
		}
		st.made = true
	} else if err := os.MkdirAll(st.Dir, 0o700); err != nil {
		return nil, homeward.Errorf("build stage", homeward.IO, st.Dir, "make it writable", "%w", err)
	}
	defer func() {
		if err != nil {
			st.Close()
		}
	}()
	if st.Dir, err = filepath.Abs(st.Dir); err != nil {
		return nil, homeward.Errorf("build stage", homeward.Invalid, "--dir", "give an absolute path", "%w", err)
	}
	if len(st.Dir) > maxDir {
		return nil, homeward.Errorf("build stage", homeward.Invalid, "--dir", "choose a shorter path", "%d characters; the names of sockets below it have room for %d", len(st.Dir), maxDir)
	}
	// Its own, whatever Dir is called: two stages must not share live maps.
	if st.live, err = os.MkdirTemp(lab.LiveRoot(), "homeward-stage-"); err != nil {
		return nil, homeward.Errorf("build stage", homeward.IO, lab.LiveRoot(), "make it writable", "%w", err)
	}
	if st.logFile, err = os.OpenFile(filepath.Join(st.Dir, "stage.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, homeward.Errorf("build stage", homeward.IO, st.Dir, "make it writable", "%w", err)
	}
	st.log = slog.New(slog.NewTextHandler(st.logFile, nil))
	if err := st.openController(ctx); err != nil {
		return nil, err
	}
	if st.Home, err = st.newPlace("home"); err != nil {
		return nil, err
	}
	if st.Away, err = st.newPlace("away"); err != nil {
		return nil, err
	}
	if err := st.connect(ctx); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range []*Place{st.Home, st.Away} {
		g.Go(func() error { return st.startRoles(gctx, p) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return st, nil
}

// maxDir leaves room below a stage's directory for the longest socket name: a
// unix socket's name has at most 107 bytes.
const maxDir = 70

// openController makes the authority and listens for roles that dial in.
func (st *Stage) openController(ctx context.Context) (err error) {
	if st.authority, err = pki.CreateAuthority(durable.OS(), filepath.Join(st.Dir, "pki", "authority"), "homeward stage"); err != nil {
		return err
	}
	if st.Me, err = st.identity(pki.Vault, "vault"); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(st.network.Controller(), "0"))
	if err != nil {
		return homeward.Errorf("build stage", homeward.InUse, "loopback", "see that 127.0.0.1 is up", "%w", err)
	}
	st.controller = ln.Addr().String()
	st.hub = role.NewHub(role.HubOptions{TLS: st.Me.ServerTLS(pki.Agent, pki.ProcessServer, pki.MasterTarget), Log: st.log})
	ctx, st.cancel = context.WithCancel(context.WithoutCancel(ctx)) // ends in close, after the roles
	st.serving.Add(1)
	go func() {
		defer st.serving.Done()
		if err := st.hub.Serve(ctx, ln); err != nil {
			st.log.Error("controller ended", "error", err)
		}
	}()
	return nil
}

func (st *Stage) identity(r pki.Role, name string) (*pki.Identity, error) {
	dir := filepath.Join(st.Dir, "pki", name)
	if err := st.authority.Issue(pki.Request{Peer: pki.Peer{Role: r, Name: name}}, dir); err != nil {
		return nil, err
	}
	return pki.LoadIdentity(durable.OS(), dir)
}

func (st *Stage) newPlace(name string) (*Place, error) {
	p := &Place{Name: name}
	for _, r := range []struct {
		role pki.Role
		name string
	}{{pki.Agent, "agent-" + name}, {pki.ProcessServer, "ps-" + name}, {pki.MasterTarget, "mt-" + name}} {
		if _, err := st.identity(r.role, r.name); err != nil {
			return nil, err
		}
	}
	// A port that stays the same over a restart: peers know the address.
	p.Agent = st.role("agent", "agent-"+name, "--live", filepath.Join(st.live, name))
	p.Process = st.role("process-server", "ps-"+name, "--listen", st.network.Address(name))
	p.Target = st.role("master-target", "mt-"+name, "--listen", st.network.Address(name))
	return p, st.installSite(p)
}

// Reinstall gives a place a host without memory: it knows no machine, and what the
// one before started still runs.
func (st *Stage) Reinstall(p *Place) error {
	if err := st.installSite(p); err != nil {
		return err
	}
	p.Side.Site = p.Site
	delete(st.Item.Refs, p.Name)
	return nil
}

func (st *Stage) installSite(p *Place) (err error) {
	dir := fmt.Sprintf("site-%s-%d", p.Name, len(p.sites))
	cfg := local.Config{Name: p.Name, Dir: filepath.Join(st.Dir, dir), Datastores: []string{filepath.Join(st.Dir, "disks-"+p.Name)},
		Guest: local.Guest(st.o.guest.Kind), Kernel: st.o.guest.Kernel(), Initrd: st.o.guest.Initrd(),
		Append: st.o.guest.Append(), Workload: st.o.Workload, Tied: true, Log: st.log}
	if p.Site, err = local.Open(cfg); err == nil {
		p.sites = append(p.sites, p.Site)
	}
	return err
}

// connect lays the link between the sites: one way in for each.
func (st *Stage) connect(ctx context.Context) (err error) {
	if st.o.Network != nil {
		return nil
	}
	for _, p := range []*Place{st.Home, st.Away} {
		p.In, err = link.Listen(context.WithoutCancel(ctx), link.Options{Listen: "127.0.0.1:0", Target: p.Target.Flag("--listen"),
			BytesPerSecond: int64(st.o.LinkMbit) * 1_000_000 / 8, Delay: st.o.LinkDelay})
		if err != nil {
			return err
		}
	}
	return nil
}

// startRoles starts a site's roles and finds them at the controller.
func (st *Stage) startRoles(ctx context.Context, p *Place) error {
	for _, prog := range []*lab.Program{p.Target, p.Process, p.Agent} {
		if err := st.start(ctx, p, prog); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	nodes := map[string]*role.Node{}
	for _, prog := range []*lab.Program{p.Target, p.Process, p.Agent} {
		n, err := st.hub.Wait(ctx, prog.Name)
		if err != nil {
			return err
		}
		nodes[prog.Name] = n
	}
	if p.Side == nil {
		p.Side = &recovery.Side{Name: p.Name, Site: p.Site, Disks: st.disks(p.Name), AgentName: p.Agent.Name, ProcessName: p.Process.Name}
	}
	p.Side.Agent = role.Agent(nodes[p.Agent.Name])
	p.Side.Process = role.ProcessServer(nodes[p.Process.Name])
	p.Side.Target = role.MasterTarget(nodes[p.Target.Name])
	p.Side.SinkURL = "https://" + p.Process.Listen()
	p.Side.TargetURL = "https://" + p.Target.Listen()
	if p.In != nil {
		p.Side.TargetURL = "https://" + p.In.Addr()
	}
	return nil
}

func (st *Stage) start(ctx context.Context, p *Place, prog *lab.Program) error {
	return st.network.Start(p.Name, func() error { return prog.Start(ctx, st.o.Executable) })
}

// Restart starts a role that ended, and returns when the controller knows it.
func (st *Stage) Restart(ctx context.Context, prog *lab.Program) error {
	at := st.Home
	if slices.Contains(st.Away.Programs(), prog) {
		at = st.Away
	}
	if err := st.start(ctx, at, prog); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-prog.Ended(): // it will not dial in
			cancel()
		case <-ctx.Done():
		}
	})
	_, err := st.hub.Wait(ctx, prog.Name)
	cancel()
	watch.Wait()
	return err
}

// Live is where the place's agent keeps live maps; a power loss takes it.
func (p *Place) Live() string { return p.Agent.Flag("--live") }

// Programs are the roles of the place.
func (p *Place) Programs() []*lab.Program { return []*lab.Program{p.Agent, p.Process, p.Target} }

// Machine is what the demo protects: a system disk and a small second one whose
// records depend on the first's.
func (st *Stage) Machine() homeward.Machine {
	return homeward.Machine{Item: "web01", Name: "web01", CPUs: 1, MemoryMiB: 128, Firmware: "bios", OSFamily: "linux",
		Disks: []homeward.Disk{{ID: "web01-root", Size: st.o.DiskSize, BootOrder: 1}, {ID: "web01-data", Size: 64 << 20, Slot: 1}}}
}

func (st *Stage) disks(site string) (refs []string) {
	for _, d := range st.Machine().Disks {
		refs = append(refs, "file:"+filepath.Join(st.Dir, "disks-"+site, string(d.ID)+".raw"))
	}
	return refs
}

// Install makes the machine's disks at home, with a file system for a real guest.
func (st *Stage) Install(ctx context.Context) error {
	for _, d := range st.Machine().Disks {
		op, err := st.Home.Site.CreateDisk(ctx, "disk-"+string(d.ID), d, "")
		for err == nil && op.State == homeward.OperationRunning {
			time.Sleep(5 * time.Millisecond) // a local site has nothing to wait on but its answer
			op, err = st.Home.Site.Operation(ctx, op.ID)
		}
		if err != nil {
			return err
		}
		if op.State == homeward.OperationFailed {
			return homeward.Errorf("install machine", homeward.IO, string(d.ID), op.Remedy, "%s", op.Error)
		}
	}
	return st.o.guest.Format(ctx, strings.TrimPrefix(st.disks("home")[0], "file:"))
}

// Lose ends a site the way a fire does: everything at once, nothing asked.
func (st *Stage) Lose(ctx context.Context, p *Place) error {
	if p.In != nil {
		p.In.Cut()
	}
	var machine error
	if ref, ok := st.Item.Refs[p.Name]; ok {
		_, machine = p.Site.PowerOff(ctx, fmt.Sprintf("lost-%s-%d", p.Name, st.Item.Generation.Number), ref, homeward.Stop{})
	}
	for _, prog := range []*lab.Program{p.Agent, p.Process, p.Target} {
		prog.Kill()
	}
	return machine
}

// Restore brings a lost site's roles back; its machine stays off.
func (st *Stage) Restore(ctx context.Context, p *Place) error {
	if p.In != nil {
		p.In.Restore()
	}
	return st.startRoles(ctx, p)
}

// Close ends everything in order: machines first, for their disks are behind
// agents; agents before the process servers they ship to; master targets last.
func (st *Stage) Close() {
	places := []*Place{st.Home, st.Away}
	each := func(do func(*Place)) {
		for _, p := range places {
			if p != nil {
				do(p)
			}
		}
	}
	each(func(p *Place) {
		for _, site := range p.sites {
			site.Close()
		}
	})
	for _, pick := range []func(*Place) *lab.Program{
		func(p *Place) *lab.Program { return p.Agent },
		func(p *Place) *lab.Program { return p.Process },
		func(p *Place) *lab.Program { return p.Target },
	} {
		each(func(p *Place) { pick(p).Stop() })
	}
	if st.cancel != nil {
		st.cancel()
	}
	st.serving.Wait()
	var faults []error
	each(func(p *Place) {
		if p.In != nil {
			faults = append(faults, p.In.Close())
		}
		faults = append(faults, os.RemoveAll(filepath.Join(st.live, p.Name)))
	})
	if st.live != "" {
		faults = append(faults, os.RemoveAll(st.live))
	}
	if st.logFile != nil {
		faults = append(faults, st.logFile.Close())
	}
	if st.made {
		faults = append(faults, os.RemoveAll(st.Dir))
	}
	if err := errors.Join(faults...); err != nil {
		fmt.Fprintln(os.Stderr, "stage: left something behind:", err)
	}
}

// role is the program of one role of a site.
func (st *Stage) role(kind, name string, extra ...string) *lab.Program {
	dir := filepath.Join(st.Dir, name)
	args := append([]string{kind, "--json", "--with-parent", "--dir", dir, "--identity", filepath.Join(st.Dir, "pki", name),
		"--controller", st.controller, "--log-level", "INFO"}, extra...)
	return &lab.Program{Name: name, Args: args, LogFile: filepath.Join(st.Dir, name+".log")}
}

// Hear follows the console of the item's machine at a place.
func (st *Stage) Hear(ctx context.Context, p *Place, from int64) (*lab.Console, error) {
	m, err := p.Site.Machine(ctx, st.Item.Refs[p.Name])
	if err != nil {
		return nil, err
	}
	return lab.Listen(ctx, m.Console, from), nil
}

// Said is how much the item's machine has said at a place so far, in bytes; 0
// where it is not known.
func (st *Stage) Said(ctx context.Context, p *Place) int64 {
	m, err := p.Site.Machine(ctx, st.Item.Refs[p.Name])
	if err != nil {
		return 0
	}
	return fileSize(m.Console)
}

// Logs are the last lines of what every role wrote.
func (st *Stage) Logs() string {
	files, err := filepath.Glob(filepath.Join(st.Dir, "*.log"))
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(f), lab.Tail(f))
	}
	return b.String()
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0 // not there yet: from its beginning
	}
	return st.Size()
}
