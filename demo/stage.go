package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/link"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/site/local"
)

// stage is the two sites and what lies between them.
type stage struct {
	o          Options
	dir        string
	made       bool // dir is ours to remove
	log        *slog.Logger
	logFile    *os.File
	authority  *pki.Authority
	me         *pki.Identity // the controller: where the vault will be
	controller string
	hub        *role.Hub
	cancel     context.CancelFunc
	serving    sync.WaitGroup
	home, away *place
	item       *recovery.Item
}

// place is one site.
type place struct {
	name                   string
	agent, process, target *program
	site                   *local.Site
	in                     *link.Link // what comes from the other site passes here
	side                   *recovery.Side
}

func build(ctx context.Context, o Options) (_ *stage, err error) {
	st := &stage{o: o, dir: o.Dir}
	if st.dir == "" {
		if st.dir, err = os.MkdirTemp("", "homeward-demo-"); err != nil {
			return nil, homeward.Errorf("start demo", homeward.IO, os.TempDir(), "make it writable, or set TMPDIR", "%w", err)
		}
		st.made = true
	} else if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return nil, homeward.Errorf("start demo", homeward.IO, st.dir, "make it writable", "%w", err)
	}
	defer func() {
		if err != nil {
			st.close()
		}
	}()
	if st.logFile, err = os.OpenFile(filepath.Join(st.dir, "demo.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, homeward.Errorf("start demo", homeward.IO, st.dir, "make it writable", "%w", err)
	}
	st.log = slog.New(slog.NewTextHandler(st.logFile, nil))
	if err := st.openController(ctx); err != nil {
		return nil, err
	}
	if st.home, err = st.newPlace("home"); err != nil {
		return nil, err
	}
	if st.away, err = st.newPlace("away"); err != nil {
		return nil, err
	}
	if err := st.connect(ctx); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range []*place{st.home, st.away} {
		g.Go(func() error { return st.startRoles(gctx, p) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return st, nil
}

// openController makes the authority and listens for roles that dial in.
func (st *stage) openController(ctx context.Context) (err error) {
	if st.authority, err = pki.CreateAuthority(durable.OS(), filepath.Join(st.dir, "pki", "authority"), "homeward demo"); err != nil {
		return err
	}
	if st.me, err = st.identity(pki.Vault, "vault"); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return homeward.Errorf("start demo", homeward.InUse, "loopback", "see that 127.0.0.1 is up", "%w", err)
	}
	st.controller = ln.Addr().String()
	st.hub = role.NewHub(role.HubOptions{TLS: st.me.ServerTLS(pki.Agent, pki.ProcessServer, pki.MasterTarget), Log: st.log})
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

func (st *stage) identity(r pki.Role, name string) (*pki.Identity, error) {
	dir := filepath.Join(st.dir, "pki", name)
	if err := st.authority.Issue(pki.Request{Peer: pki.Peer{Role: r, Name: name}}, dir); err != nil {
		return nil, err
	}
	return pki.LoadIdentity(durable.OS(), dir)
}

// port finds a free one. Another program could take it before the role does; the
// role then says so and the demo ends.
func (st *stage) port() int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer func() { _ = ln.Close() }() // nothing was accepted
	return ln.Addr().(*net.TCPAddr).Port
}

func (st *stage) newPlace(name string) (*place, error) {
	p := &place{name: name}
	for _, r := range []struct {
		role pki.Role
		name string
	}{{pki.Agent, "agent-" + name}, {pki.ProcessServer, "ps-" + name}, {pki.MasterTarget, "mt-" + name}} {
		if _, err := st.identity(r.role, r.name); err != nil {
			return nil, err
		}
	}
	p.agent = st.role("agent", "agent-"+name, false, "--live", filepath.Join(liveRoot(), filepath.Base(st.dir)+"-"+name))
	p.process = st.role("process-server", "ps-"+name, true)
	p.target = st.role("master-target", "mt-"+name, true)
	cfg := local.Config{Name: name, Dir: filepath.Join(st.dir, "site-"+name), Datastores: []string{filepath.Join(st.dir, "disks-"+name)},
		Guest: local.Guest(st.o.Guest), Kernel: st.o.kernel(), Initrd: st.o.initrd(), Append: "gap_ms=2 churn=8",
		Workload: []string{st.o.Executable, "workload", "--gap", "5ms", "--churn", "8"}, Tied: true, Log: st.log}
	var err error
	p.site, err = local.Open(cfg)
	return p, err
}

// liveRoot is where agents keep live maps: memory that survives a killed process.
func liveRoot() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

// connect lays the link between the sites: one way in for each.
func (st *stage) connect(ctx context.Context) (err error) {
	for _, p := range []*place{st.home, st.away} {
		p.in, err = link.Listen(context.WithoutCancel(ctx), link.Options{Listen: "127.0.0.1:0", Target: flag(p.target.args, "--listen"),
			BytesPerSecond: int64(st.o.LinkMbit) * 1_000_000 / 8, Delay: st.o.LinkDelay})
		if err != nil {
			return err
		}
	}
	return nil
}

func flag(args []string, name string) string {
	for i, a := range args {
		if a == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// startRoles starts a site's roles and finds them at the controller.
func (st *stage) startRoles(ctx context.Context, p *place) error {
	for _, prog := range []*program{p.target, p.process, p.agent} {
		if err := prog.start(ctx, st.o.Executable); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	nodes := map[string]*role.Node{}
	for _, prog := range []*program{p.target, p.process, p.agent} {
		n, err := st.hub.Wait(ctx, prog.name)
		if err != nil {
			return err
		}
		nodes[prog.name] = n
	}
	if p.side == nil {
		p.side = &recovery.Side{Name: p.name, Site: p.site, Disks: st.disks(p.name)}
	}
	p.side.Agent = role.Agent(nodes[p.agent.name])
	p.side.Process = role.ProcessServer(nodes[p.process.name])
	p.side.Target = role.MasterTarget(nodes[p.target.name])
	p.side.SinkURL = "https://" + p.process.listen
	p.side.TargetURL = "https://" + p.in.Addr()
	return nil
}

// machine is what the demo protects: a system disk and a small second one whose
// records depend on the first's.
func (st *stage) machine() homeward.Machine {
	return homeward.Machine{Item: "web01", Name: "web01", CPUs: 1, MemoryMiB: 128, Firmware: "bios", OSFamily: "linux",
		Disks: []homeward.Disk{{ID: "web01-root", Size: st.o.DiskSize, BootOrder: 1}, {ID: "web01-data", Size: 64 << 20, Slot: 1}}}
}

func (st *stage) disks(site string) (refs []string) {
	for _, d := range st.machine().Disks {
		refs = append(refs, "file:"+filepath.Join(st.dir, "disks-"+site, string(d.ID)+".raw"))
	}
	return refs
}

// install makes the machine's disks at home, with a file system for a real guest.
func (st *stage) install(ctx context.Context) error {
	for _, d := range st.machine().Disks {
		op, err := st.home.site.CreateDisk(ctx, "disk-"+string(d.ID), d, "")
		for err == nil && op.State == homeward.OperationRunning {
			time.Sleep(5 * time.Millisecond) // a local site has nothing to wait on but its answer
			op, err = st.home.site.Operation(ctx, op.ID)
		}
		if err != nil {
			return err
		}
		if op.State == homeward.OperationFailed {
			return homeward.Errorf("install machine", homeward.IO, string(d.ID), op.Remedy, "%s", op.Error)
		}
	}
	if st.o.Guest != string(local.GuestQEMU) {
		return nil
	}
	image := strings.TrimPrefix(st.disks("home")[0], "file:")
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		return homeward.Errorf("install machine", homeward.IO, image, "see what mkfs.ext4 says", "%w: %s", err, out)
	}
	return nil
}

// lose ends a site the way a fire does: everything at once, nothing asked.
func (st *stage) lose(ctx context.Context, p *place) error {
	p.in.Cut()
	var machine error
	if ref, ok := st.item.Refs[p.name]; ok {
		_, machine = p.site.PowerOff(ctx, "lost-"+p.name, ref, homeward.Stop{})
	}
	for _, prog := range []*program{p.agent, p.process, p.target} {
		prog.kill()
	}
	return machine
}

// restore brings a lost site's roles back; its machine stays off.
func (st *stage) restore(ctx context.Context, p *place) error {
	p.in.Restore()
	return st.startRoles(ctx, p)
}

// close ends everything in order: machines first, for their disks are behind
// agents; agents before the process servers they ship to; master targets last.
func (st *stage) close() {
	places := []*place{st.home, st.away}
	each := func(do func(*place)) {
		for _, p := range places {
			if p != nil {
				do(p)
			}
		}
	}
	each(func(p *place) {
		if p.site != nil {
			p.site.Close()
		}
	})
	for _, pick := range []func(*place) *program{
		func(p *place) *program { return p.agent },
		func(p *place) *program { return p.process },
		func(p *place) *program { return p.target },
	} {
		each(func(p *place) { pick(p).stop() })
	}
	if st.cancel != nil {
		st.cancel()
	}
	st.serving.Wait()
	var faults []error
	each(func(p *place) {
		if p.in != nil {
			faults = append(faults, p.in.Close())
		}
		faults = append(faults, os.RemoveAll(filepath.Join(liveRoot(), filepath.Base(st.dir)+"-"+p.name)))
	})
	if st.logFile != nil {
		faults = append(faults, st.logFile.Close())
	}
	if st.made {
		faults = append(faults, os.RemoveAll(st.dir))
	}
	if err := errors.Join(faults...); err != nil {
		fmt.Fprintln(os.Stderr, "demo: left something behind:", err)
	}
}
