package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// Stage is the two sites and what lies between them.
type Stage struct {
	o          Options
	Dir        string
	made       bool     // Dir is ours to remove
	live       string   // of live maps, in memory
	host       string   // loopback address of its roles
	taken      []string // addresses given to them
	log        *slog.Logger
	logFile    *os.File
	authority  *pki.Authority
	me         *pki.Identity // the controller: where the vault will be
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
	Agent, Process, Target *Program
	Site                   *local.Site
	In                     *link.Link // what comes from the other site passes here
	Side                   *recovery.Side
}

// Build makes both sites and starts their roles.
func Build(ctx context.Context, o Options) (_ *Stage, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	st := &Stage{o: o, Dir: o.Dir, host: ownHost()}
	if st.Dir == "" {
		if st.Dir, err = os.MkdirTemp("", "homeward-demo-"); err != nil {
			return nil, homeward.Errorf("start demo", homeward.IO, os.TempDir(), "make it writable, or set TMPDIR", "%w", err)
		}
		st.made = true
	} else if err := os.MkdirAll(st.Dir, 0o700); err != nil {
		return nil, homeward.Errorf("start demo", homeward.IO, st.Dir, "make it writable", "%w", err)
	}
	defer func() {
		if err != nil {
			st.Close()
		}
	}()
	if st.Dir, err = filepath.Abs(st.Dir); err != nil {
		return nil, homeward.Errorf("start demo", homeward.Invalid, "--dir", "give an absolute path", "%w", err)
	}
	if len(st.Dir) > maxDir {
		return nil, homeward.Errorf("start demo", homeward.Invalid, "--dir", "choose a shorter path", "%d characters; the names of sockets below it have room for %d", len(st.Dir), maxDir)
	}
	// Its own, whatever Dir is called: two demos must not share live maps.
	if st.live, err = os.MkdirTemp(liveRoot(), "homeward-demo-"); err != nil {
		return nil, homeward.Errorf("start demo", homeward.IO, liveRoot(), "make it writable", "%w", err)
	}
	if st.logFile, err = os.OpenFile(filepath.Join(st.Dir, "demo.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, homeward.Errorf("start demo", homeward.IO, st.Dir, "make it writable", "%w", err)
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
	if st.authority, err = pki.CreateAuthority(durable.OS(), filepath.Join(st.Dir, "pki", "authority"), "homeward demo"); err != nil {
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

func (st *Stage) identity(r pki.Role, name string) (*pki.Identity, error) {
	dir := filepath.Join(st.Dir, "pki", name)
	if err := st.authority.Issue(pki.Request{Peer: pki.Peer{Role: r, Name: name}}, dir); err != nil {
		return nil, err
	}
	return pki.LoadIdentity(durable.OS(), dir)
}

// address finds a free one on the stage's own loopback address, below the ports
// that the kernel gives to outgoing connections: it must still be free when a
// killed role is started again.
func (st *Stage) address() string {
	const first, count = 20_000, 12_000
	for range 100 {
		addr := fmt.Sprintf("%s:%d", st.host, first+rand.IntN(count))
		if slices.Contains(st.taken, addr) {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			_ = ln.Close() // nothing was accepted
			st.taken = append(st.taken, addr)
			return addr
		}
	}
	return st.host + ":0" // any; peers will not find the role again after a restart
}

// ownHost is an address of the loopback network that is hardly anybody else's, so
// that stages that run at the same time do not take each other's ports.
func ownHost() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
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
	p.Agent = st.role("agent", "agent-"+name, false, "--live", filepath.Join(st.live, name))
	p.Process = st.role("process-server", "ps-"+name, true)
	p.Target = st.role("master-target", "mt-"+name, true)
	cfg := local.Config{Name: name, Dir: filepath.Join(st.Dir, "site-"+name), Datastores: []string{filepath.Join(st.Dir, "disks-"+name)},
		Guest: local.Guest(st.o.Guest), Kernel: st.o.kernel(), Initrd: st.o.initrd(),
		Append:   fmt.Sprintf("gap_ms=%d churn=%d", st.o.Gap.Milliseconds(), st.o.Churn),
		Workload: []string{st.o.Executable, "workload", "--gap", st.o.Gap.String(), "--churn", fmt.Sprint(st.o.Churn)}, Tied: true, Log: st.log}
	var err error
	p.Site, err = local.Open(cfg)
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
func (st *Stage) connect(ctx context.Context) (err error) {
	for _, p := range []*Place{st.Home, st.Away} {
		p.In, err = link.Listen(context.WithoutCancel(ctx), link.Options{Listen: "127.0.0.1:0", Target: flag(p.Target.args, "--listen"),
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
func (st *Stage) startRoles(ctx context.Context, p *Place) error {
	for _, prog := range []*Program{p.Target, p.Process, p.Agent} {
		if err := prog.Start(ctx, st.o.Executable); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	nodes := map[string]*role.Node{}
	for _, prog := range []*Program{p.Target, p.Process, p.Agent} {
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
	p.Side.SinkURL = "https://" + p.Process.listen
	p.Side.TargetURL = "https://" + p.In.Addr()
	return nil
}

// Restart starts a role that ended, and returns when the controller knows it.
func (st *Stage) Restart(ctx context.Context, prog *Program) error {
	if err := prog.Start(ctx, st.o.Executable); err != nil {
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
func (p *Place) Live() string { return flag(p.Agent.args, "--live") }

// Programs are the roles of the place.
func (p *Place) Programs() []*Program { return []*Program{p.Agent, p.Process, p.Target} }

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
	if st.o.Guest != string(local.GuestQEMU) {
		return nil
	}
	image := strings.TrimPrefix(st.disks("home")[0], "file:")
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		return homeward.Errorf("install machine", homeward.IO, image, "see what mkfs.ext4 says", "%w: %s", err, out)
	}
	return nil
}

// Lose ends a site the way a fire does: everything at once, nothing asked.
func (st *Stage) Lose(ctx context.Context, p *Place) error {
	p.In.Cut()
	var machine error
	if ref, ok := st.Item.Refs[p.Name]; ok {
		_, machine = p.Site.PowerOff(ctx, fmt.Sprintf("lost-%s-%d", p.Name, st.Item.Generation.Number), ref, homeward.Stop{})
	}
	for _, prog := range []*Program{p.Agent, p.Process, p.Target} {
		prog.Kill()
	}
	return machine
}

// Restore brings a lost site's roles back; its machine stays off.
func (st *Stage) Restore(ctx context.Context, p *Place) error {
	p.In.Restore()
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
		if p.Site != nil {
			p.Site.Close()
		}
	})
	for _, pick := range []func(*Place) *Program{
		func(p *Place) *Program { return p.Agent },
		func(p *Place) *Program { return p.Process },
		func(p *Place) *Program { return p.Target },
	} {
		each(func(p *Place) { pick(p).stop() })
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
		fmt.Fprintln(os.Stderr, "demo: left something behind:", err)
	}
}
