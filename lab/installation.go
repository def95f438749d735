package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/link"
	"github.com/homeward-dr/homeward/site/local"
	"github.com/homeward-dr/homeward/vault"
)

// Plan of an installation.
type Plan struct {
	Executable string // the homeward binary
	Dir        string // where everything lives; empty: a temporary directory, removed at the end
	Guest      Guest  // what machines run as; Complete has been called
	LinkMbit   int    // of the link between the sites; 0: as fast as it goes
	LinkDelay  time.Duration
	Out        io.Writer // shown what the operator types and is answered; nil: nobody
	Store      string    // URL of the vault's store; empty: a file in its directory
	// Outlive lets machines run on when their configuration server ends, as at a real
	// hypervisor; Close ends them. Else they end with it.
	Outlive bool
}

// Installation is a vault and its sites on this machine.
type Installation struct {
	Plan
	Made     bool // Dir is ours to remove
	Vault    *Program
	Operator *Operator
	live     string // of live maps, in memory
	host     *Host
	nodes    string // where nodes dial the vault
	places   []*Place
}

// Place is one site: its configuration server, which runs the machines, and the
// roles of the data path.
type Place struct {
	Name                           string
	Config, Agent, Process, Target *Program
	Second                         *Program   // another master target, from AddTarget on; else nil
	In                             *link.Link // what comes from the other site passes here
}

// Programs are the place's, in the order in which they are started.
func (p *Place) Programs() []*Program {
	all := []*Program{p.Target, p.Process, p.Agent, p.Config}
	if p.Second != nil {
		all = append([]*Program{p.Second}, all...)
	}
	return all
}

// maxDir leaves room below the directory for the longest socket name: a unix
// socket's name has at most 107 bytes.
const maxDir = 70

// Install makes the directories and starts the vault; AddSite brings the sites.
func Install(ctx context.Context, p Plan) (_ *Installation, err error) {
	in := &Installation{Plan: p, host: NewHost()}
	if in.Dir == "" {
		if in.Dir, err = os.MkdirTemp("", "homeward-"); err != nil {
			return nil, homeward.Errorf("install", homeward.IO, os.TempDir(), "make it writable, or set TMPDIR", "%w", err)
		}
		in.Made = true
	} else if err := os.MkdirAll(in.Dir, 0o700); err != nil {
		return nil, homeward.Errorf("install", homeward.IO, in.Dir, "make it writable", "%w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	if in.Dir, err = filepath.Abs(in.Dir); err != nil {
		return nil, homeward.Errorf("install", homeward.Invalid, "--dir", "give an absolute path", "%w", err)
	}
	if len(in.Dir) > maxDir {
		return nil, homeward.Errorf("install", homeward.Invalid, "--dir", "choose a shorter path", "%d characters; the names of sockets below it have room for %d", len(in.Dir), maxDir)
	}
	// Its own, whatever dir is called: two installations must not share live maps.
	if in.live, err = os.MkdirTemp(LiveRoot(), "homeward-"); err != nil {
		return nil, homeward.Errorf("install", homeward.IO, LiveRoot(), "make it writable", "%w", err)
	}
	in.Operator = &Operator{Executable: p.Executable, Out: p.Out}
	return in, in.startVault(ctx)
}

// startVault makes the vault and its first administrator, and starts it.
func (in *Installation) startVault(ctx context.Context) error {
	dir := filepath.Join(in.Dir, "vault")
	api := in.host.Address()
	in.nodes = in.host.Address()
	ip, _, err := net.SplitHostPort(api)
	if err != nil {
		return err
	}
	var first struct {
		Token string `json:"token"`
	}
	kept := []string{"--dir", dir}
	if in.Store != "" {
		kept = append(kept, "--store", in.Store)
	}
	if err := in.Operator.Ask(ctx, &first, append([]string{"vault", "init", "--ip", ip}, kept...)...); err != nil {
		return err
	}
	in.Vault = in.program("vault", append([]string{"vault", "--listen-api", api, "--listen-nodes", in.nodes}, kept...)...)
	if err := in.Vault.Start(ctx, in.Executable); err != nil {
		return err
	}
	in.Operator.Env = []string{"HOMEWARD_VAULT=https://" + api, "HOMEWARD_TOKEN=" + first.Token, "HOMEWARD_CA=" + filepath.Join(dir, "ca", "ca.pem")}
	return nil
}

func (in *Installation) program(name string, args ...string) *Program {
	args = append(args, "--json", "--with-parent", "--log-level", "INFO")
	return &Program{Name: name, Args: args, LogFile: filepath.Join(in.Dir, name+".log")}
}

// node is the program of a role of a site, and its enrolment.
func (in *Installation) node(ctx context.Context, site, role, name string, args ...string) (*Program, error) {
	var token vault.EnrolmentToken
	if err := in.Operator.Ask(ctx, &token, "node", "enrol-token", "--role", role, "--site", site, "--node", name); err != nil {
		return nil, err
	}
	p := in.program(name, append([]string{role, "--dir", filepath.Join(in.Dir, name), "--vault", in.nodes, "--node", name}, args...)...)
	p.Env = []string{"HOMEWARD_ENROLMENT_TOKEN=" + token.Secret}
	return p, nil
}

// AddSite enrols the roles of a site and starts them. What comes to the site from
// outside passes the emulated link. Its machines are made, off, unless they are
// there.
func (in *Installation) AddSite(ctx context.Context, name string, machines ...homeward.Machine) (*Place, error) {
	p := &Place{Name: name}
	in.places = append(in.places, p)
	listen := in.host.Address()
	var err error
	p.In, err = link.Listen(context.WithoutCancel(ctx), link.Options{Listen: "127.0.0.1:0", Target: listen,
		BytesPerSecond: int64(in.LinkMbit) * 1_000_000 / 8, Delay: in.LinkDelay})
	if err != nil {
		return nil, err
	}
	guest := in.Guest
	driver := []string{"--site", name, "--driver", "local", "--datastore", in.Datastore(name), "--guest", guest.Kind,
		"--kernel", guest.Kernel(), "--initrd", guest.Initrd(), "--append", guest.Append()}
	if !in.Outlive {
		driver = append(driver, "--tied")
	}
	for _, word := range guest.Workload(in.Executable) {
		driver = append(driver, "--workload", word)
	}
	if len(machines) > 0 {
		type entry struct {
			Machine homeward.Machine `json:"machine"`
		}
		var list []entry
		for _, m := range machines {
			list = append(list, entry{m})
		}
		raw, err := json.Marshal(list)
		if err != nil {
			return p, err
		}
		path := filepath.Join(in.Dir, "machines-"+name+".json")
		if err := durable.WriteFile(durable.OS(), path, raw, 0o600); err != nil {
			return p, err
		}
		driver = append(driver, "--machines", path)
	}
	if err := os.MkdirAll(in.Retention(name), 0o700); err != nil {
		return p, homeward.Errorf("install", homeward.IO, in.Retention(name), "make the directory writable", "%w", err)
	}
	for _, r := range []struct {
		of   **Program
		role string
		args []string
	}{
		{&p.Target, "master-target", []string{"--listen", listen, "--advertise", p.In.Addr(), "--retention", in.Retention(name)}},
		{&p.Process, "process-server", []string{"--listen", in.host.Address()}},
		{&p.Agent, "agent", []string{"--live", filepath.Join(in.live, name)}},
		{&p.Config, "configuration-server", driver},
	} {
		if *r.of, err = in.node(ctx, name, r.role, short[r.role]+"-"+name, r.args...); err != nil {
			return p, err
		}
	}
	return p, in.startSite(ctx, p)
}

// AddTarget enrols a second master target at a place, which sees the same disks, and
// starts it. What comes to it from outside passes no emulated link.
func (in *Installation) AddTarget(ctx context.Context, p *Place) (err error) {
	name := "mt-2-" + p.Name
	retention := in.Retention(p.Name) + "-2"
	if err := os.MkdirAll(retention, 0o700); err != nil {
		return homeward.Errorf("install", homeward.IO, retention, "make the directory writable", "%w", err)
	}
	if p.Second, err = in.node(ctx, p.Name, "master-target", name, "--listen", in.host.Address(), "--retention", retention); err != nil {
		return err
	}
	if err := p.Second.Start(ctx, in.Executable); err != nil {
		return err
	}
	return in.ready(ctx, p.Second)
}

// ready waits until the vault hears a node that was started.
func (in *Installation) ready(ctx context.Context, prog *Program) error {
	prog.Env = nil // enrolled
	return in.Operator.Until(ctx, func() (bool, error) {
		var n vault.Node
		err := in.Operator.Ask(ctx, &n, "node", "show", prog.Name)
		return n.State == vault.NodeReady, err
	})
}

// short are the names of roles in names of nodes.
var short = map[string]string{"master-target": "mt", "process-server": "ps", "agent": "agent", "configuration-server": "cs"}

// startSite starts all roles of a site and waits until the vault hears them.
func (in *Installation) startSite(ctx context.Context, p *Place) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, prog := range p.Programs() {
		g.Go(func() error { return prog.Start(gctx, in.Executable) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, prog := range p.Programs() {
		if err := in.ready(ctx, prog); err != nil {
			return err
		}
	}
	return nil
}

// Retention is where a site's master target keeps points.
func (in *Installation) Retention(site string) string {
	return filepath.Join(in.Dir, "points-"+site)
}

// Datastore is where a site keeps disks.
func (in *Installation) Datastore(site string) string {
	return filepath.Join(in.Dir, "disks-"+site)
}

// Lose ends a site the way a fire does: everything at once, nothing asked. Its
// machines end with its configuration server, or else by EndMachines.
func (in *Installation) Lose(p *Place) {
	p.In.Cut()
	for _, prog := range slices.Backward(p.Programs()) {
		prog.Kill()
	}
}

// AtHypervisor lets somebody do things at a site's machines behind the back of its
// configuration server, which must not run. Machines that are started so outlive it.
func (in *Installation) AtHypervisor(p *Place, workload []string, do func(*local.Site) error) error {
	s, err := local.Open(local.Config{Name: p.Name, Dir: p.Config.Dir(), Datastores: []string{in.Datastore(p.Name)},
		Guest: local.Guest(in.Guest.Kind), Workload: workload, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}

// EndMachines pulls the plug of a site's machines that outlive its configuration
// server, which must have ended; the others are off.
func (in *Installation) EndMachines(ctx context.Context, p *Place) error {
	if !in.Outlive || p.Config == nil {
		return nil
	}
	return in.AtHypervisor(p, nil, func(s *local.Site) error {
		machines, err := s.Machines(ctx)
		for _, m := range machines {
			if _, e := s.PowerOff(ctx, "pull-"+homeward.NewID().String(), m.Ref, homeward.Stop{}); e != nil {
				err = errors.Join(err, e)
			}
		}
		return err
	})
}

// Restore brings a lost site's roles back; its machines stay off.
func (in *Installation) Restore(ctx context.Context, p *Place) error {
	p.In.Restore()
	return in.startSite(ctx, p)
}

// Close ends everything in order: machines first, for their disks are behind
// agents; agents before the process servers they ship to; the vault last.
func (in *Installation) Close() error {
	var faults []error
	for _, p := range in.places {
		if p.Config != nil {
			p.Config.Stop()
		}
		faults = append(faults, in.EndMachines(context.Background(), p))
	}
	for _, pick := range []func(*Place) *Program{
		func(p *Place) *Program { return p.Agent },
		func(p *Place) *Program { return p.Process },
		func(p *Place) *Program { return p.Target },
		func(p *Place) *Program { return p.Second },
	} {
		for _, p := range in.places {
			if prog := pick(p); prog != nil {
				prog.Stop()
			}
		}
	}
	if in.Vault != nil {
		in.Vault.Stop()
	}
	for _, p := range in.places {
		if p.In != nil {
			faults = append(faults, p.In.Close())
		}
	}
	if in.live != "" {
		faults = append(faults, os.RemoveAll(in.live))
	}
	if in.Made {
		faults = append(faults, os.RemoveAll(in.Dir))
	}
	if err := errors.Join(faults...); err != nil {
		return homeward.Errorf("end installation", homeward.IO, in.Dir, "remove what is left by hand", "%w", err)
	}
	return nil
}

// Logs are the last lines of what every role wrote.
func (in *Installation) Logs() string {
	files, err := filepath.Glob(filepath.Join(in.Dir, "*.log"))
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(f), Tail(f))
	}
	return b.String()
}
